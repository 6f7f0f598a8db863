// What the host half does to entries and caches: attach, detach, map, unmap, invalidate.
//
//   node control.mjs KIND ROUNDS
import { encode } from '@iommukit/bits';
import { check, minimum, print } from '../../../scripts/lib/measure.mjs';
import { COMMAND, encodeViommuArmSmmuv3Invalidate, TLBI } from '../dist/index.js';
import { benchMachine, frames, mapPages, nestedGuest, paging } from './machine.mjs';

const [kind, roundsText] = process.argv.slice(2);
const rounds = Number(roundsText);
const TIMES = 512;
const PAGES = 1024;
const PASID = 0x1234;

const stage2 = { capabilities: { idr0: { S1P: 0 } } };
const PASID_FLAG = 8;

/** Two domains to go back and forth between. */
function twoDomains(options, flags) {
  const bench = benchMachine({ options });
  return { ...bench, domains: [paging(bench, flags), paging(bench, flags)] };
}

/** Attach and take away again. */
function attachDetach(options, pasid, flags = 0) {
  const { unit, endpoint, domains } = twoDomains(options, flags);
  unit.attach(endpoint, pasid, domains[0]);
  const work = () => {
    for (let i = 0; i < TIMES; i++) {
      unit.attach(endpoint, pasid, domains[0]);
      unit.attach(endpoint, pasid, unit.blocking);
    }
  };
  print({ op: kind, ns: minimum(rounds, TIMES, work) });
}

/** Replace one domain by the other. */
function replace(options, pasid, flags = 0) {
  const { unit, endpoint, domains } = twoDomains(options, flags);
  const work = () => {
    for (let i = 0; i < TIMES; i++) unit.attach(endpoint, pasid, domains[i & 1]);
  };
  print({ op: kind, ns: minimum(rounds, TIMES, work) });
}

/** Map one page and unmap it, the TLB otherwise full. */
function mapUnmap() {
  const bench = benchMachine();
  const { unit, endpoint } = bench;
  const domain = paging(bench);
  const frame = frames(bench.machine, PAGES);
  unit.attach(endpoint, -1, domain);
  mapPages(domain, 0, frame, PAGES);
  for (let pfn = 0; pfn < PAGES; pfn++) unit.agent.translatePage(endpoint.rid, -1, pfn, 1);
  const run = Float64Array.of(frame, 1);
  const work = () => {
    for (let i = 0; i < TIMES; i++) {
      domain.mapRuns(PAGES + i, run, 1, 3);
      domain.unmap(PAGES + i, 1);
      domain.sync();
    }
  };
  print({ op: kind, ns: minimum(rounds, TIMES, work) });
  check(unit.hardware.caches.tlb.size >= PAGES / 2, 'the others are cached');
}

/** A guest's commands through IOMMU_HWPT_INVALIDATE: `count` of them per call. */
function userInvalidate(count) {
  const bench = benchMachine();
  const { nested } = nestedGuest(bench, 512);
  const commands = Array.from({ length: count }, (_, i) =>
    encode(TLBI, { OPCODE: COMMAND.TLBI_NH_VA, ASID: 1, ADDR: i * 4096 }),
  );
  const bytes = encodeViommuArmSmmuv3Invalidate(commands);
  const array = {
    type: 1,
    entryLength: 16,
    entryCount: count,
    done: 0,
    copyEntry: (index) => bytes.subarray(index * 16, index * 16 + 16),
    copyAll: () => bytes,
  };
  const times = TIMES / count;
  const work = () => {
    for (let i = 0; i < times; i++) nested.invalidate(array);
  };
  print({ op: kind, ns: minimum(rounds, TIMES, work) });
  check(array.done === count, 'all commands done');
}

const KINDS = {
  'attach-detach': () => attachDetach({}, -1),
  'attach-detach-stage2': () => attachDetach(stage2, -1),
  'attach-detach-pasid': () => attachDetach({}, PASID, PASID_FLAG),
  replace: () => replace({}, -1),
  'replace-pasid': () => replace({}, PASID, PASID_FLAG),
  'map-unmap': mapUnmap,
  'user-invalidate': () => userInvalidate(1),
  'user-invalidate-batch': () => userInvalidate(64),
};

KINDS[kind]();
