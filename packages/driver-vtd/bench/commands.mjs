// Invalidation commands in the hardware alone: descriptors in memory, one write of IQT.
//
//   node commands.mjs KIND ROUNDS
import { PhysicalMemory } from '@iommukit/core';
import { check, minimum, print } from '../../../scripts/lib/measure.mjs';
import { createVtdHardware } from '../dist/index.js';

const [kind, roundsText] = process.argv.slice(2);
const rounds = Number(roundsText);
const BASE = 2 ** 32;
const AT = { root: 0, context: 0x1000, directory: 0x2000, pasids: 0x3000, queue: 0x10_0000 };
const TABLES = 0x20_0000;
const PAGES = 4096;
const RID = 0x20;
const REG = { GCMD: 0x18, RTADDR: 0x20, IQT: 0x88, IQA: 0x90, IQH: 0x80, FSTS: 0x34 };
const silent = { deliverPageResponse() {}, invalidateDeviceTlb: () => 0, raiseMessage() {} };

const memory = new PhysicalMemory();
memory.addRegion({ name: 'ram', base: BASE, size: 64 << 20 });
const unit = createVtdHardware({ memory, bus: silent });
const put = (at, lo, hi) => memory.write64(BASE + at, lo, hi);
/** An entry that points into the region. */
const point = (at, to, bits) => put(at, to | bits, 1);

/** Scalable mode, second stage, domain 7: 4096 pages, 16 MiB. */
function build() {
  point(AT.root, AT.context, 1);
  point(AT.context + RID * 32, AT.directory, 1);
  point(AT.directory, AT.pasids, 1);
  point(AT.pasids, TABLES, 0x89);
  put(AT.pasids + 8, 0x80_0007, 0);
  point(TABLES, TABLES + 0x1000, 3);
  point(TABLES + 0x1000, TABLES + 0x2000, 3);
  for (let i = 0; i < PAGES / 512; i++)
    point(TABLES + 0x2000 + i * 8, TABLES + 0x3000 + i * 4096, 3);
  for (let i = 0; i < PAGES; i++) point(TABLES + 0x3000 + i * 8, 0x100_0000 + i * 4096, 3);
  unit.writeRegister64(REG.RTADDR, BASE + 0x400);
  unit.writeReg32(REG.GCMD, 0x4000_0000);
  unit.writeRegister64(REG.IQA, BASE + AT.queue + 0x803);
  unit.writeReg32(REG.GCMD, 0x0400_0000);
  unit.writeReg32(REG.GCMD, 0x8400_0000);
}

let tail = 0;
function push(lo, hi, address) {
  put(AT.queue + tail, lo, hi);
  memory.write64(BASE + AT.queue + tail + 8, address, 0);
  tail = (tail + 32) % 0x8000;
}
const ring = () => unit.writeReg32(REG.IQT, tail);
const wait = () => {
  put(AT.queue + tail, 0x25, 1);
  put(AT.queue + tail + 8, 0x8000, 1);
  tail = (tail + 32) % 0x8000;
};

/** Fill the IOTLB: what commands search. */
function warm() {
  for (let pfn = 0; pfn < PAGES; pfn++) unit.translatePage(RID, -1, pfn, 1);
}

const TIMES = 512;
/** `per` commands and one wait at a time. */
function commands(per, command, before) {
  const work = () => {
    for (let i = 0; i < TIMES; i += per) {
      for (let j = 0; j < per; j++) command(i + j);
      wait();
      ring();
    }
  };
  warm();
  print({ op: kind, ns: minimum(rounds, TIMES, work, before) });
  check(unit.readReg32(REG.FSTS) === 0, 'no queue errors');
  check(unit.readReg32(REG.IQH) === tail, 'all executed');
}

const page = (i) => push(0x7_0032, 0, i * 4096);
const KINDS = {
  'invalidate-page': () => commands(1, page, warm),
  'invalidate-page-batch': () => commands(64, page, warm),
  'invalidate-domain': () =>
    commands(1, () => {
      unit.translatePage(RID, -1, 1, 1);
      push(0x7_0022, 0, 0);
    }),
  'invalidate-domain-absent': () => commands(1, () => push(0x8_0022, 0, 0), warm),
  'invalidate-pasid-cache': () => commands(1, () => push(0x7_0017, 0, 0), warm),
};

build();
check(unit.translatePage(RID, -1, 5, 1) === (BASE + 0x100_5000) / 4096, 'tables');
KINDS[kind]();
