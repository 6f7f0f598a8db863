// Invalidation commands in the hardware alone: entries in memory, one write of CMDQ_PROD.
//
//   node commands.mjs KIND ROUNDS
import { PhysicalMemory } from '@iommukit/core';
import { check, minimum, print } from '../../../scripts/lib/measure.mjs';
import { COMMAND, createSmmuHardware } from '../dist/index.js';

const [kind, roundsText] = process.argv.slice(2);
const rounds = Number(roundsText);
const BASE = 2 ** 32;
const AT = { streams: 0, commands: 0x10_0000, tables: 0x20_0000 };
const PAGES = 2048;
const SID = 0x20;
const VMID = 7;
const REG = {
  CR0: 0x20,
  GERROR: 0x60,
  STRTAB: 0x80,
  CFG: 0x88,
  CMDQ: 0x90,
  PROD: 0x98,
  CONS: 0x9c,
};
const QUEUE_LG2 = 10;
const WRAP = 2 ** (QUEUE_LG2 + 1);

const memory = new PhysicalMemory();
memory.addRegion({ name: 'ram', base: BASE, size: 64 << 20 });
const unit = createSmmuHardware({ memory, bus: { raiseMessage() {} } });
const put = (at, lo, hi) => memory.write64(BASE + at, lo >>> 0, hi >>> 0);

/** Stage 2, 34 bits from level 1: 2048 pages, 8 MiB. */
function build() {
  const ste = AT.streams + SID * 64;
  put(ste, 0xd, 0);
  put(ste + 16, VMID, 0x4d_005e);
  put(ste + 24, AT.tables, 1);
  put(AT.tables, (AT.tables + 0x1000) | 3, 1);
  for (let i = 0; i < PAGES / 512; i++)
    put(AT.tables + 0x1000 + i * 8, (AT.tables + 0x2000 + i * 4096) | 3, 1);
  for (let i = 0; i < PAGES; i++) put(AT.tables + 0x2000 + i * 8, 0x100_07ff + i * 4096, 1);
  unit.writeReg64(REG.STRTAB, AT.streams, 1);
  unit.writeReg32(REG.CFG, 8);
  unit.writeReg64(REG.CMDQ, AT.commands | QUEUE_LG2, 1);
  unit.writeReg32(REG.CR0, 9);
}

let prod = 0;
function push(w0, w1, w2, w3) {
  const at = AT.commands + (prod % 2 ** QUEUE_LG2) * 16;
  put(at, w0, w1);
  put(at + 8, w2, w3);
  prod = (prod + 1) % WRAP;
}

/** Fill the TLB: what commands search. */
function warm() {
  for (let pfn = 0; pfn < PAGES; pfn++) unit.translatePage(SID, -1, pfn, 1);
}

const TIMES = 512;
/** `per` commands and one SYNC at a time. */
function commands(per, command, before) {
  const work = () => {
    for (let i = 0; i < TIMES; i += per) {
      for (let j = 0; j < per; j++) command(i + j);
      push(COMMAND.SYNC, 0, 0, 0);
      unit.writeReg32(REG.PROD, prod);
    }
  };
  warm();
  print({ op: kind, ns: minimum(rounds, TIMES, work, before) });
  check(unit.readReg32(REG.GERROR) === 0, 'no command errors');
  check(unit.readReg32(REG.CONS) === prod, 'all executed');
}

const page = (i) => push(COMMAND.TLBI_S2_IPA, VMID, i * 4096, 0);
const KINDS = {
  'invalidate-page': () => commands(1, page, warm),
  'invalidate-page-batch': () => commands(64, page, warm),
  'invalidate-vmid': () =>
    commands(1, () => {
      unit.translatePage(SID, -1, 1, 1);
      push(COMMAND.TLBI_S12_VMALL, VMID, 0, 0);
    }),
  'invalidate-vmid-absent': () =>
    commands(1, () => push(COMMAND.TLBI_S12_VMALL, VMID + 1, 0, 0), warm),
  'invalidate-stream': () => commands(1, () => push(COMMAND.CFGI_STE, SID, 1, 0), warm),
};

build();
check(unit.translatePage(SID, -1, 5, 1) === (BASE + 0x100_5000) / 4096, 'tables');
KINDS[kind]();
