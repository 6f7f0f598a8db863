// Invalidation commands in the hardware alone: commands in memory, one write of the tail.
//
//   node commands.mjs KIND ROUNDS
import { check, minimum, print } from '../../../scripts/lib/measure.mjs';
import {
  bareUnit,
  commandRing,
  DOMAIN,
  dataFrame,
  guestTable,
  hostTable,
  PASID,
  program,
  RID,
} from './hardware.mjs';

const [kind, roundsText] = process.argv.slice(2);
const rounds = Number(roundsText);
const PAGES = 2048;
const TIMES = 512;
const ALL = [0xffff_f003, 0x7fff_ffff];

const bench = bareUnit();
const { unit } = bench;
if (kind.startsWith('guest')) program(bench, { cr3: guestTable(bench, PAGES, dataFrame) });
else program(bench, { mode: 4, root: hostTable(bench, 4, PAGES, dataFrame) });
const ring = commandRing(bench);
const pasid = kind.startsWith('guest') ? PASID : -1;
check(unit.translatePage(RID, pasid, 5, 1) === dataFrame(5), 'tables');

/** Fill the IOTLB: what commands search. */
function warm() {
  for (let pfn = 0; pfn < PAGES; pfn++) unit.translatePage(RID, pasid, pfn, 1);
}

/** `per` commands and one wait at a time. */
function commands(per, command, before) {
  const work = () => {
    for (let i = 0; i < TIMES; i += per) {
      for (let j = 0; j < per; j++) command(i + j);
      ring.push(0, 0x1000_0000, 0, 0);
      ring.ring();
    }
  };
  warm();
  print({ op: kind, ns: minimum(rounds, TIMES, work, before) });
  check(ring.isDone(), 'all executed');
}

const host = (domain, lo, hi) => ring.push(0, 0x3000_0000 | domain, lo, hi);
const KINDS = {
  'invalidate-page': () => commands(1, (i) => host(DOMAIN, i * 4096, 0), warm),
  'invalidate-page-batch': () => commands(64, (i) => host(DOMAIN, i * 4096, 0), warm),
  'invalidate-domain': () =>
    commands(1, () => {
      unit.translatePage(RID, -1, 1, 1);
      host(DOMAIN, ...ALL);
    }),
  'invalidate-domain-absent': () => commands(1, () => host(DOMAIN + 1, ...ALL), warm),
  'guest-invalidate-page': () =>
    commands(1, (i) => ring.push(PASID, 0x3000_0000 | DOMAIN, (i * 4096) | 4, 0), warm),
  'invalidate-device': () => commands(1, () => ring.push(RID, 0x2000_0000, 0, 0), warm),
};

KINDS[kind]();
