import { encode } from '@iommukit/bits';
import { PhysicalMemory } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import type { SmmuCapabilities } from '../../src/hardware/capabilities.ts';
import { SmmuHardware } from '../../src/hardware/iommu.ts';
import { CD, CFGI, CFGI_RANGE, COMMAND, S2_LEAF, STE, SYNC, TLBI } from '../../src/spec/index.ts';

const RAM = 0x10_0000;
const STREAMS = RAM;
const COMMANDS = RAM + 0x1_0000;
const EVENTS = RAM + 0x2_0000;
const TABLE = RAM + 0x3_0000;
const DATA = RAM + 0x8_0000;
const OUTSIDE = 0x4000_0000;
const SID = 0x20;
const MSI = 0xfee0_0000;
const CR0 = { OFF: 0, ON: 0xd } as const;

const stage2 = {
  V: 1,
  CONFIG: 6,
  S2VMID: 7,
  S2T0SZ: 64 - 22,
  S2TG: 0,
  S2PS: 5,
  S2AA64: 1,
  S2R: 1,
  S2TTB: TABLE,
};

const setUp = (capabilities: SmmuCapabilities = {}) => {
  const memory = new PhysicalMemory();
  memory.addRegion({ name: 'ram', base: RAM, size: 0x10_0000 });
  const messages: number[] = [];
  const unit = new SmmuHardware({
    memory,
    capabilities,
    bus: { raiseMessage: (address) => messages.push(address) },
  });
  const put = (pa: number, words: Uint32Array) => {
    for (let at = 0; at < words.length; at++) memory.write32(pa + at * 4, words[at] as number);
  };
  const entry = (values: object) => put(STREAMS + SID * 64, encode(STE, values as never));
  // 30-bit IPA from level 2: 512 entries of 2 MiB; index n is a block.
  const leaf = (index: number, values: object) => {
    const base = { TYPE: 1, MEM_ATTR: 15, S2AP_READ: 1, S2AP_WRITE: 1, AF: 1 };
    put(TABLE + index * 8, encode(S2_LEAF, { ...base, ...values } as never));
  };
  let prod = 0;
  const run = (...commands: Uint32Array[]) => {
    for (const words of commands) {
      put(COMMANDS + (prod % 256) * 16, words);
      prod = (prod + 1) % 512;
    }
    unit.writeReg32(0x98, prod);
  };
  const events = () => {
    const count = unit.readReg32(0x100a8) & 0x1f;
    return Array.from({ length: count }, (_, at) => memory.read32(EVENTS + at * 32) & 0xff);
  };
  const translate = (pfn: number, access = 1) => unit.translatePage(SID, -1, pfn, access);
  unit.writeReg64(0x80, STREAMS, 0);
  unit.writeReg32(0x88, 8);
  unit.writeReg64(0x90, COMMANDS | 8, 0);
  unit.writeReg64(0xa0, EVENTS | 4, 0);
  unit.writeReg64(0xb0, MSI, 0);
  unit.writeReg64(0x68, MSI + 4, 0);
  unit.writeReg32(0x50, 5);
  entry({ ...stage2, S2T0SZ: 34 });
  leaf(1, { ADDR: 0x20_0000 });
  unit.writeReg32(0x20, CR0.ON);
  return { memory, unit, messages, put, entry, leaf, run, events, translate };
};

type Setup = ReturnType<typeof setUp>;

const cfgi = (OPCODE: number, values: object = {}) => encode(CFGI, { OPCODE, ...values });
const tlbi = (OPCODE: number, values: object = {}) => encode(TLBI, { OPCODE, ...values });
const sync = (values: object = {}) => encode(SYNC, { OPCODE: COMMAND.SYNC, ...values });
const consumed = (t: Setup) => t.unit.readReg32(0x9c) & 0x1ff;
const errorOf = (t: Setup) => (t.unit.readReg32(0x9c) >>> 24) & 0x7f;
const gerror = (t: Setup) => t.unit.readReg32(0x60) ^ t.unit.readReg32(0x64);

const PAGE = 0x200;

describe('SMMUv3 4: commands', () => {
  test.each([
    ['CFGI_STE of the stream', cfgi(COMMAND.CFGI_STE, { SID, LEAF: 1 }), true],
    ['CFGI_STE of another stream', cfgi(COMMAND.CFGI_STE, { SID: SID + 1 }), false],
    ['CFGI_ALL', encode(CFGI_RANGE, { OPCODE: COMMAND.CFGI_STE_RANGE, RANGE: 31 }), true],
    ['CFGI_STE_RANGE of its block', encode(CFGI_RANGE, { OPCODE: 4, SID: 0x2f, RANGE: 3 }), true],
    [
      'CFGI_STE_RANGE of the next block',
      encode(CFGI_RANGE, { OPCODE: 4, SID: 0x30, RANGE: 3 }),
      false,
    ],
    ['TLBI_NSNH_ALL', tlbi(COMMAND.TLBI_NSNH_ALL), false],
  ])('a changed STE counts after %s: %s', (_, command, counts) => {
    const t = setUp();
    expect(t.translate(PAGE)).toBe(0x200);
    t.entry({ V: 1, CONFIG: 0 });
    t.run(command, sync());
    expect(t.translate(PAGE) < 0).toBe(counts);
  });

  test.each([
    ['TLBI_S2_IPA of the page', tlbi(COMMAND.TLBI_S2_IPA, { VMID: 7, ADDR: PAGE * 4096 }), false],
    [
      'TLBI_S2_IPA inside the block',
      tlbi(COMMAND.TLBI_S2_IPA, { VMID: 7, ADDR: (PAGE + 5) * 4096 }),
      false,
    ],
    ['TLBI_S2_IPA of another page', tlbi(COMMAND.TLBI_S2_IPA, { VMID: 7, ADDR: 0x1000 }), true],
    [
      'TLBI_S2_IPA of another VMID',
      tlbi(COMMAND.TLBI_S2_IPA, { VMID: 8, ADDR: PAGE * 4096 }),
      true,
    ],
    [
      'a range that ends before',
      tlbi(COMMAND.TLBI_S2_IPA, { VMID: 7, TG: 1, NUM: 15, SCALE: 5 }),
      true,
    ],
    [
      'a range that reaches it',
      tlbi(COMMAND.TLBI_S2_IPA, { VMID: 7, TG: 1, NUM: 16, SCALE: 5 }),
      false,
    ],
    ['TLBI_S12_VMALL', tlbi(COMMAND.TLBI_S12_VMALL, { VMID: 7 }), false],
    ['TLBI_S12_VMALL of another VMID', tlbi(COMMAND.TLBI_S12_VMALL, { VMID: 8 }), true],
    ['TLBI_NH_ALL, which is stage 1', tlbi(COMMAND.TLBI_NH_ALL, { VMID: 7 }), true],
    ['TLBI_NSNH_ALL', tlbi(COMMAND.TLBI_NSNH_ALL), false],
    ['CFGI_ALL', encode(CFGI_RANGE, { OPCODE: COMMAND.CFGI_STE_RANGE, RANGE: 31 }), true],
  ])('a changed block is stale after %s: %s', (_, command, stale) => {
    const t = setUp();
    t.translate(PAGE);
    t.leaf(1, { ADDR: 0x40_0000 });
    t.run(command, sync());
    expect(t.translate(PAGE)).toBe(stale ? 0x200 : 0x400);
  });

  test.each([
    ['an unknown opcode', Uint32Array.of(0x7f, 0, 0, 0)],
    ['SSEC', cfgi(COMMAND.CFGI_STE, { SID, SSEC: 1 })],
    ['ATC_INV with Size 53', Uint32Array.of(COMMAND.ATC_INV, SID, 53, 0)],
    ['ATC_INV with SSEC', Uint32Array.of(COMMAND.ATC_INV | 0x400, SID, 0, 0)],
    ['PRI_RESP with Resp 3', Uint32Array.of(COMMAND.PRI_RESP, SID, 0x3000, 0)],
    ['RESUME without stalling', Uint32Array.of(COMMAND.RESUME, SID, 0, 0)],
    ['SYNC with CS=3', sync({ CS: 3 })],
    ['a range granule without size', tlbi(COMMAND.TLBI_S2_IPA, { VMID: 7, TG: 1 })],
  ])('%s is CERROR_ILL: the queue stops at it', (_, command) => {
    const t = setUp();
    t.run(sync(), command, sync());
    expect([consumed(t), errorOf(t), gerror(t)]).toEqual([1, 1, 1]);
    expect(t.messages).toEqual([MSI + 4]);
  });

  test('after an error: fix the command, acknowledge GERROR, and the queue goes on', () => {
    const t = setUp();
    t.run(Uint32Array.of(0x7f, 0, 0, 0), sync());
    t.put(COMMANDS, sync());
    t.run();
    expect(consumed(t)).toBe(0);
    t.unit.writeReg32(0x64, t.unit.readReg32(0x60));
    expect([consumed(t), gerror(t)]).toEqual([2, 0]);
  });

  test('a queue outside memory is CERROR_ABT', () => {
    const t = setUp();
    t.unit.writeReg32(0x20, CR0.OFF);
    t.unit.writeReg64(0x90, OUTSIDE | 8, 0);
    t.unit.writeReg32(0x20, CR0.ON);
    t.unit.writeReg32(0x98, 1);
    expect([consumed(t), errorOf(t), gerror(t)]).toEqual([0, 2, 1]);
  });

  test('SYNC with CS=IRQ writes its message after the consumer index passed it', () => {
    const t = setUp();
    t.run(sync({ CS: 1, MSI_ADDR: DATA, MSI_DATA: 5 }), sync({ CS: 1 }));
    expect(t.messages).toEqual([DATA]);
    expect(consumed(t)).toBe(2);
  });

  test.each([
    ['ATC_INV', COMMAND.ATC_INV, { ATS: 0 }],
    ['PRI_RESP', COMMAND.PRI_RESP, { PRI: 0 }],
    ['PRI_RESP', COMMAND.PRI_RESP, { ATS: 0 }],
  ])('%s of an absent feature is illegal', (_, opcode, idr0) => {
    const t = setUp({ idr0 });
    t.run(Uint32Array.of(opcode, SID, 0, 0));
    expect([consumed(t), errorOf(t)]).toEqual([0, 1]);
  });

  test('stage commands of an absent stage are illegal', () => {
    const only1 = setUp({ idr0: { S2P: 0 } });
    only1.run(tlbi(COMMAND.TLBI_S12_VMALL));
    const only2 = setUp({ idr0: { S1P: 0 } });
    only2.run(tlbi(COMMAND.TLBI_NH_ALL));
    expect([errorOf(only1), errorOf(only2)]).toEqual([1, 1]);
  });
});

describe('SMMUv3 7: events', () => {
  test('the queue overflows: OVFLG toggles once, and acknowledging it is enough', () => {
    const t = setUp();
    for (let at = 0; at < 16; at++) t.translate(1);
    expect(t.unit.readReg32(0x100a8)).toBe(16);
    t.translate(1);
    t.translate(1);
    expect(t.unit.readReg32(0x100a8)).toBe(0x8000_0010);
    t.unit.writeReg32(0x100ac, 0x8000_0010);
    t.translate(1);
    expect(t.unit.readReg32(0x100a8)).toBe(0x8000_0011);
    expect(t.messages).toEqual([MSI, MSI]);
  });

  test('a queue outside memory is EVENTQ_ABT_ERR; nothing more is recorded until acknowledged', () => {
    const t = setUp();
    t.unit.writeReg32(0x20, CR0.OFF);
    t.unit.writeReg64(0xa0, OUTSIDE | 4, 0);
    t.unit.writeReg32(0x20, CR0.ON);
    t.translate(1);
    t.translate(1);
    expect([t.unit.readReg32(0x100a8), gerror(t)]).toEqual([0, 4]);
  });

  test.each([
    ['F_STE_FETCH', (t: Setup) => moveStreams(t, OUTSIDE), 1, [0x03]],
    ['C_BAD_STE', (t: Setup) => t.entry({}), PAGE, [0x04]],
    ['an entry that aborts', (t: Setup) => t.entry({ V: 1, CONFIG: 0 }), PAGE, []],
    ['F_TRANSLATION', () => undefined, 1, [0x10]],
    [
      'F_ADDR_SIZE',
      (t: Setup) => t.entry({ ...stage2, S2T0SZ: 34, S2PS: 0, S2TTB: TABLE }),
      0x400,
      [0x11],
    ],
    ['F_ACCESS', (t: Setup) => t.leaf(1, { AF: 0 }), PAGE, [0x12]],
    ['F_PERMISSION', (t: Setup) => t.leaf(1, { S2AP_READ: 0 }), PAGE, [0x13]],
    ['S2R = 0', (t: Setup) => t.entry({ ...stage2, S2T0SZ: 34, S2R: 0 }), 1, []],
    ['F_WALK_EABT', (t: Setup) => t.entry({ ...stage2, S2T0SZ: 34, S2TTB: OUTSIDE }), 1, [0x0b]],
    [
      'bypass beyond OAS is F_ADDR_SIZE',
      (t: Setup) => t.entry({ V: 1, CONFIG: 4 }),
      2 ** 40,
      [0x11],
    ],
    ['a substream of a stage-2 stream', undefined, PAGE, [0x08]],
  ])('%s', (_, change, pfn, codes) => {
    const t = setUp();
    t.leaf(2, { ADDR: 2 ** 33 });
    change?.(t);
    const result = t.unit.translatePage(SID, change ? -1 : 3, pfn, 1);
    expect(result).toBeLessThan(0);
    expect(t.events()).toEqual(codes);
  });

  test('C_BAD_STREAMID only with CR2.RECINVSID', () => {
    const silent = setUp();
    expect(silent.unit.translatePage(0x1000, -1, 1, 1)).toBeLessThan(0);
    const t = setUp();
    t.unit.writeReg32(0x20, CR0.OFF);
    t.unit.writeReg32(0x2c, 2);
    t.unit.writeReg32(0x20, CR0.ON);
    expect(t.unit.translatePage(0x1000, -1, 1, 1)).toBeLessThan(0);
    expect([silent.events(), t.events()]).toEqual([[], [0x02]]);
  });

  test.each([
    ['F_CD_FETCH', OUTSIDE, [0x09]],
    ['C_BAD_CD', DATA, [0x0a]],
    ['a context that works', DATA + 64, []],
  ])('stage 1: %s', (_, S1CONTEXTPTR, codes) => {
    const t = setUp();
    t.entry({ V: 1, CONFIG: 5, S1CONTEXTPTR });
    const cd = { V: 1, T0SZ: 34, EPD1: 1, IPS: 5, AA64: 1, R: 1, A: 1, TTB0: TABLE };
    t.put(DATA + 64, encode(CD, cd));
    // AP[1] and AF stand where stage 2 has its read bit and AF; read only is clear.
    t.leaf(1, { ADDR: 0x20_0000, S2AP_WRITE: 0 });
    expect(t.translate(PAGE) >= 0).toBe(codes.length === 0);
    expect(t.events()).toEqual(codes);
  });

  test('SMMUEN = 0: GBPA decides, nothing is recorded', () => {
    const t = setUp();
    t.unit.writeReg32(0x20, 0xc);
    expect(t.translate(0x1234)).toBe(0x1234);
    t.unit.writeReg32(0x44, 0x0010_0000);
    expect(t.translate(0x1234)).toBe(0x1234);
    t.unit.writeReg32(0x44, 0x8010_0000);
    expect(t.unit.readReg32(0x44)).toBe(0x0010_0000);
    expect(t.translate(0x1234)).toBeLessThan(0);
    expect(t.events()).toEqual([]);
  });
});

const moveStreams = (t: Setup, base: number): void => {
  t.unit.writeReg32(0x20, CR0.OFF);
  t.unit.writeReg64(0x80, base, 0);
  t.unit.writeReg32(0x20, CR0.ON);
};

test.each([
  ['STRTAB_BASE', 0x80],
  ['CMDQ_BASE', 0x90],
  ['CMDQ_CONS', 0x9c],
  ['EVENTQ_BASE', 0xa0],
  ['EVENTQ_PROD', 0x100a8],
  ['CR2', 0x2c],
  ['EVENTQ_IRQ_CFG1', 0xb8],
])('SMMUv3 6.3: %s keeps its value while it is in use', (_, offset) => {
  const t = setUp();
  const before = t.unit.readReg32(offset);
  t.unit.writeReg32(offset, 0x12340);
  expect(t.unit.readReg32(offset)).toBe(before);
});
