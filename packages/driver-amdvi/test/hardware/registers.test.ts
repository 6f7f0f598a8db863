import { encode, type Register, resetValue } from '@iommukit/bits';
import { describe, expect, test } from 'vitest';
import { ALL_REGISTERS, registersOf } from '../../src/hardware/register-map.ts';
import {
  AmdviHardware,
  CONTROL,
  FULL_EFR,
  FULL_EFR2,
  XT_INT,
  XT_PPR_INT,
} from '../../src/index.ts';
import { AT, DOMAIN, ENABLES, Fixture, MSI, RID, WRITE } from './fixture.ts';

const memory = { regionAt: () => undefined };
const EVERY_FEATURE = 0xffff_ffff_ddff_6bffn;
const everything = () =>
  new AmdviHardware({
    memory,
    capabilities: { efr: EVERY_FEATURE & ~(1n << 13n) & ~(1n << 12n), efr2: 0xfffn },
  });

const read = (unit: AmdviHardware, register: Register) =>
  Array.from({ length: register.words }, (_, half) => unit.readReg32(register.offset + 4 * half));

describe('AMD IOMMU 3.4: registers', () => {
  const special = ['EFR', 'EFR2'];
  test.each(ALL_REGISTERS.map((register) => [register.name, register] as const))(
    '%s: reset value, and what a write of ones leaves',
    (name, register) => {
      const unit = everything();
      if (!special.includes(name)) expect(read(unit, register)).toEqual([...resetValue(register)]);
      // Ones in a tail register lie beyond the ring; Control is tested by features.
      if (name === 'CONTROL' || name === 'CMD_BUF_TAIL') return;
      const before = read(unit, register);
      for (let half = 0; half < register.words; half++) {
        unit.writeReg32(register.offset + 4 * half, 0xffff_ffff);
      }
      const writable = before.map((value, half) => (value | (register.rwMask[half] ?? 0)) >>> 0);
      expect(read(unit, register)).toEqual(writable);
      unit.reset();
      expect(read(unit, register)).toEqual(before);
    },
  );

  test('registers of absent features, and offsets without one, read 0 and ignore writes', () => {
    const capabilities = { efr: 0x800n, efr2: 0n };
    const unit = new AmdviHardware({ memory, capabilities });
    const present = new Set(registersOf(unit.features).map(({ offset }) => offset));
    const absent = ALL_REGISTERS.filter(({ offset }) => !present.has(offset));
    expect(absent.length).toBeGreaterThan(40);
    for (const { offset, words } of [...absent, { offset: 0x1ff8, words: 2 }]) {
      for (let half = 0; half < words; half++) {
        unit.writeReg32(offset + 4 * half, 0xffff_ffff);
        expect(unit.readReg32(offset + 4 * half)).toBe(0);
      }
    }
  });

  test.each([
    ['DevTabBase', 0x0, 0xffff_f1ff, 0xf_ffff],
    ['CmdBufBase', 0x8, 0xffff_f000, 0xf0f_ffff],
    ['ExclBase', 0x20, 0xffff_f003, 0xf_ffff],
    ['ExclLimit', 0x28, 0xffff_f000, 0xf_ffff],
    ['segment 1', 0x100, 0xffff_f0ff, 0xf_ffff],
    ['CmdBufHead', 0x2000, 0x7_fff0, 0],
  ])('value mask of %s', (_, offset, lo, hi) => {
    const unit = everything();
    unit.writeReg64(offset, 0xffff_ffff, 0xffff_ffff);
    expect([unit.readReg32(offset), unit.readReg32(offset + 4)]).toEqual([lo, hi]);
  });

  test('Control keeps every field; a segment count that the unit does not have reads 0', () => {
    const unit = everything();
    const { offset, rwMask } = CONTROL;
    unit.writeReg64(offset, 0xffff_ffff, 0xffff_ffef);
    const kept = [rwMask[0], ((rwMask[1] as number) & 0xffff_ffef) >>> 0];
    expect(read(unit, CONTROL)).toEqual(kept);
    unit.writeReg64(offset, 0xffff_ffff, 0xffff_fff3);
    expect(read(unit, CONTROL)[1]).toBe(((rwMask[1] as number) & 0xffff_ffe3) >>> 0);
  });

  test('a write of 4 bytes changes its half alone', () => {
    const unit = everything();
    unit.writeReg64(0x20, 0x1000, 0x2);
    unit.writeReg32(0x20, 0x3000);
    expect([unit.readReg32(0x20), unit.readReg32(0x24)]).toEqual([0x3000, 0x2]);
  });

  test('a base register that is written rewinds its ring; lengths below 8 are ignored', () => {
    const t = new Fixture();
    t.control({});
    for (const [base, head, tail] of [
      [0x8, 0x2000, 0x2008],
      [0x10, 0x2010, 0x2018],
      [0x38, 0x2030, 0x2038],
      [0xf8, 0x2070, 0x2078],
      [0xf0, 0x2050, 0x2058],
    ] as const) {
      t.unit.writeReg32(head, 0x40);
      t.unit.writeReg32(tail, 0x50);
      expect([t.unit.readReg32(head), t.unit.readReg32(tail)]).toEqual([0x40, 0x50]);
      t.unit.writeReg64(base, 0x5000, 0x0700_0000);
      expect(t.unit.readReg32(base)).not.toBe(0x5000);
      t.unit.writeReg64(base, 0x5000, 0x0900_0000);
      expect([t.unit.readReg32(base), t.unit.readReg32(head), t.unit.readReg32(tail)]).toEqual([
        0x5000, 0, 0,
      ]);
    }
  });

  test.each([
    ['CmdBufBase', 0x8],
    ['CmdBufHead', 0x2000],
    ['EventLogBase', 0x10],
    ['EventLogTail', 0x2018],
    ['PPRLogBase', 0x38],
    ['PPRLogTail', 0x2038],
    ['EventLogB base', 0xf8],
    ['PPRLogB tail', 0x2058],
  ])('%s is not written while its ring runs', (_, offset) => {
    const t = new Fixture();
    const before = t.unit.readReg32(offset);
    t.unit.writeReg32(offset, 0x70);
    t.unit.writeReg64(offset, 0x7000, 0x0900_0000);
    expect(t.unit.readReg32(offset)).toBe(before);
  });

  test('Status: Run bits follow the enables', () => {
    const t = new Fixture();
    const runs = () => t.unit.readReg32(0x2020);
    expect(runs()).toBe(0x98);
    t.control({ ...ENABLES, IOMMU_EN: 0 });
    expect(runs()).toBe(0);
    t.control({ IOMMU_EN: 1, PPR_LOG_EN: 1 });
    expect(runs()).toBe(0x80);
  });
});

/** EFR of real machines, as their kernels printed it. */
const MACHINES = [
  0x206d_73ef_2225_4aden,
  0x004f_77ef_2229_4adan,
  0x058f_77ef_2229_4aden,
  0x000f_77ef_2229_4adan,
  0x0841_f77e_0220_94acen & 0xffff_ffff_ffff_ffffn,
  0x400f_77ef_2229_4adan,
  0x2465_77ef_a225_4afan,
  0x2465_77ef_a205_4adan,
  0x058f_77ef_2229_4a5an,
  0x0017_00f3_0000_98dbn,
];

describe('AMD IOMMU 3.4.7: features', () => {
  test.each(MACHINES.map((efr) => [efr.toString(16), efr] as const))(
    'the machine with EFR %s',
    (_, efr) => {
      const unit = new AmdviHardware({ memory, capabilities: { efr } });
      const value = (BigInt(unit.readReg32(0x34)) << 32n) | BigInt(unit.readReg32(0x30));
      expect(value).toBe(efr);
    },
  );

  test.each([
    ['GATS 2', 2n << 12n, /EFR.GATS 2 is reserved: use 0 to 1/],
    ['GLXSup 3', 3n << 14n, /EFR.GLX_SUP 3 is reserved: use 0 to 2/],
    ['DualPprLogSup 3', 3n << 24n, /EFR.DUAL_PPR_LOG_SUP 3 is reserved/],
    ['DualEventLogSup 3', 3n << 28n, /EFR.DUAL_EVENT_LOG_SUP 3 is reserved/],
  ])('%s is refused', (_, efr, message) => {
    expect(() => new AmdviHardware({ memory, capabilities: { efr } })).toThrow(message);
  });

  test('an impossible PAsize is refused', () => {
    const capabilities = { physicalAddressBits: 53 };
    expect(() => new AmdviHardware({ memory, capabilities })).toThrow(/expected 40 to 52/);
  });

  test('HATS 3: no host tables, every Mode but 0 is illegal', () => {
    const t = new Fixture({ capabilities: { efr: FULL_EFR | (3n << 10n), efr2: FULL_EFR2 } });
    t.entry({ V: 1, TV: 1, IR: 1, MODE: 1 });
    expect(t.dma(0x1000)).toBe(-1);
    expect(t.takeEvents()[0]?.[1]).toBe(0x1000_0000);
    t.entry({ V: 1, TV: 1, IR: 1 }, RID + 1);
    expect(t.dma(0x1000, { rid: RID + 1 })).toBe(0x1000);
  });
});

describe('AMD IOMMU 3.4.14, 3.4.15: interrupts', () => {
  const fault = (t: Fixture) => t.dma(0x1000, { rid: RID + 9, access: WRITE });
  const blocked = (t: Fixture) => t.entry({ V: 1, PPR: 1 }, RID + 9);

  test('MSI needs its enable', () => {
    const t = new Fixture();
    blocked(t);
    t.unit.writeReg32(0x158, 0);
    fault(t);
    expect(t.messages).toEqual([]);
    t.unit.writeReg32(0x2020, 2);
    t.unit.writeReg32(0x158, 1 << 16);
    t.unit.writeReg32(0x160, 0x1);
    t.unit.writeReg32(0x164, 0x4031);
    fault(t);
    expect(t.messages).toEqual([[2 ** 32 + MSI, 0x4031]]);
  });

  test('IntCapXTEn: events and page requests have messages of their own', () => {
    const t = new Fixture();
    blocked(t);
    t.control({ ...ENABLES, XT_EN: 1, INT_CAP_XT_EN: 1 });
    const set = (register: Register, values: object) => {
      const [lo, hi] = encode(register, values as never);
      t.unit.writeReg64(register.offset, lo as number, hi as number);
    };
    set(XT_INT, { DEST_LO: 0x0102, VECTOR: 0x31 });
    set(XT_PPR_INT, { DEST_LO: 0x05, DEST_MODE: 1, DELIVERY_MODE: 1, VECTOR: 0x32 });
    fault(t);
    t.request({ rid: RID + 9 });
    expect(t.messages).toEqual([
      [0x100 * 2 ** 32 + 0xfee0_2000, 0x31],
      [0xfee0_5004, 0x132],
    ]);
  });
});

describe('AMD IOMMU 2.5.12, 3.4.18: event logs A and B, copies of hardware errors', () => {
  const fault = (t: Fixture, count = 1) => {
    for (let n = 0; n < count; n++) t.dma(0x1000, { rid: RID + 9 });
  };

  test.each([
    [0, 16, 0, 0],
    [1, 0, 16, 0x1_0000],
  ])('DualEventLogEn %i', (mode, tailA, tailB, active) => {
    const t = new Fixture();
    t.entry({ V: 1 }, RID + 9);
    t.control({ ...ENABLES, DUAL_EVENT_LOG_EN: mode });
    fault(t);
    expect([t.unit.readReg32(0x2018), t.unit.readReg32(0x2078)]).toEqual([tailA, tailB]);
    expect(t.unit.readReg32(0x2020) & 0x1_0000).toBe(active);
  });

  test('DualEventLogEn 2 swaps when A is full', () => {
    const t = new Fixture();
    t.entry({ V: 1 }, RID + 9);
    t.control({ ...ENABLES, DUAL_EVENT_LOG_EN: 2 });
    fault(t, 256);
    expect([t.unit.readReg32(0x2018), t.unit.readReg32(0x2078)]).toEqual([255 * 16, 16]);
    expect(t.unit.readReg32(0x2020) & 0x1_8009).toBe(0x1_0009);
    fault(t, 255);
    expect(t.unit.readReg32(0x2020) & 0x1_8009).toBe(0x1_8001);
  });

  test('the first hardware error is kept until HEV is cleared; others set HEO', () => {
    const t = new Fixture();
    t.entry({ V: 1, TV: 1, IR: 1, MODE: 1, HOST_ROOT: AT.outside, DOMAIN_ID: DOMAIN }, RID + 9);
    t.entry({ V: 1 });
    t.dma(0);
    expect(t.unit.readReg32(0x50)).toBe(0);
    fault(t);
    const copy = () => [0x48, 0x4c, 0x40, 0x44].map((offset) => t.unit.readReg32(offset));
    const first = [RID + 9, 0x4200_0007, AT.outside + 8, 0];
    expect([copy(), t.unit.readReg32(0x50)]).toEqual([first, 1]);
    t.dma(0x5000, { rid: RID + 9 });
    expect([copy(), t.unit.readReg32(0x50)]).toEqual([first, 3]);
    t.unit.writeReg32(0x50, 3);
    t.dma(0x5000, { rid: RID + 9 });
    expect(copy()[2]).toBe(AT.outside + 0x28);
  });

  test('a listener hears of every event, also of those that find no room', () => {
    const t = new Fixture();
    t.entry({ V: 1 }, RID + 9);
    let heard = 0;
    t.unit.onEvent = () => {
      heard++;
    };
    fault(t, 300);
    expect([heard, t.unit.stats().eventsLost]).toEqual([300, 45]);
  });
});
