import { describe, expect, test } from 'vitest';
import { createTableRig, LEAF, READ, S1_PAGE, S1_ROOT, S2_ROOT } from './table-rig.ts';

const WIDE = {
  idr3: { STT: 1 },
  idr5: { OAS: 6, DS: 1, VAX: 1 },
} as const;
/** SH of a leaf is part of the address with DS. */
const S1_DS = S1_PAGE & ~0x300n;
const S2_DS = LEAF & ~0x300n;
const hex = (value: bigint) => `0x${value.toString(16)}`;
const TG0: Readonly<Record<number, number>> = { 12: 0, 14: 2, 16: 1 };

describe('Arm ARM D8.2: 52-bit addresses and small tables, stage 1', () => {
  test.each([
    ['4K DS, 52 bits, page', 12, 52, 3, 0xf_1234_5678_9000n, 0xe_8765_4321_b000n],
    ['4K DS, 52 bits, 2M block', 12, 52, 2, 0xf_1234_5678_9000n, 0xd_8765_4320_0000n],
    ['4K DS, 52 bits, 512G block', 12, 52, 0, 0xf_1234_5678_9000n, 0xc_0080_0000_0000n],
    ['4K DS, 49 bits', 12, 49, 3, 0x1_1234_5678_9000n, 0x4_8765_4321_b000n],
    ['4K DS, 48 bits', 12, 48, 3, 0x1234_5678_9000n, 0x8_8765_4321_b000n],
    ['16K DS, 52 bits, page', 14, 52, 3, 0xf_1234_5678_8000n, 0xe_8765_4321_8000n],
    ['16K DS, 52 bits, 64G block', 14, 52, 1, 0xf_1234_5678_8000n, 0xa_0010_0000_0000n],
    ['16K DS, 49 bits', 14, 49, 3, 0x1_1234_5678_8000n, 0xe_8765_4321_8000n],
    ['64K, 52 bits, page', 16, 52, 3, 0xf_1234_5678_0000n, 0xe_8765_4321_0000n],
    ['64K, 52 bits, 4T block', 16, 52, 1, 0xf_1234_5678_0000n, 0xc_0400_0000_0000n],
    ['4K, 16 bits: one table of 16 entries', 12, 16, 3, 0xf000n, 0x8765_4321_b000n],
    ['16K, 16 bits', 14, 16, 3, 0xc000n, 0x8765_4321_8000n],
    ['64K, 17 bits', 16, 17, 3, 0x1_0000n, 0x8765_4321_0000n],
    ['4K, 22 bits: two levels, two entries', 12, 22, 3, 0x20_0000n, 0x8765_4321_b000n],
  ])('%s', (title, granuleLg2, inputBits, level, va, pa) => {
    const t = createTableRig({ capabilities: WIDE });
    const ds = title.includes('DS');
    t.stream();
    t.context({ T0SZ: 64 - inputBits, TG0: TG0[granuleLg2], IPS: 6, DS: ds ? 1 : 0 });
    t.map(S1_ROOT, va, pa, ds ? S1_DS : S1_PAGE & ~0xf000n, { granuleLg2, inputBits, level, ds });
    expect(t.ask(va)).toBe(hex(pa | (va & (sizeOf(granuleLg2, level) - 1n))));
    if (inputBits < 52) expect(t.ask(va | (1n << BigInt(inputBits)))).toBe('F_TRANSLATION');
  });

  test.each([
    ['512G block without DS', 12, 48, 0, 0, 'F_TRANSLATION'],
    ['64G block without DS', 14, 47, 1, 0, 'F_TRANSLATION'],
    ['level -1 with 4K has no blocks', 12, 52, -1, 1, 'F_TRANSLATION'],
    ['level 0 with 16K has no blocks', 14, 52, 0, 1, 'F_TRANSLATION'],
  ])('%s', (_, granuleLg2, inputBits, level, DS, result) => {
    const t = createTableRig({ capabilities: WIDE });
    t.stream();
    t.context({ T0SZ: 64 - inputBits, TG0: TG0[granuleLg2], IPS: 6, DS });
    t.map(S1_ROOT, 0x1000n, 0n, S1_DS, { granuleLg2, inputBits, level });
    expect(t.ask(0x1000n)).toBe(result);
  });

  test.each([
    ['T0SZ 12 with DS and VAX 1', { T0SZ: 12, DS: 1 }, WIDE, 'F_TRANSLATION'],
    ['T0SZ 12 with DS and VAX 0', { T0SZ: 12, DS: 1 }, { idr5: { OAS: 6, DS: 1 } }, 'C_BAD_CD'],
    ['T0SZ 12 without DS', { T0SZ: 12 }, WIDE, 'C_BAD_CD'],
    ['CD.DS in a unit without DS', { T0SZ: 12, DS: 1 }, { idr5: { OAS: 6, VAX: 1 } }, 'C_BAD_CD'],
    ['T0SZ 12 with 64K', { T0SZ: 12, TG0: 1 }, WIDE, 'F_TRANSLATION'],
    ['T0SZ 40 without STT', { T0SZ: 40 }, {}, 'C_BAD_CD'],
    ['T0SZ 48', { T0SZ: 48 }, WIDE, 'F_TRANSLATION'],
    ['T0SZ 49', { T0SZ: 49 }, WIDE, 'C_BAD_CD'],
    ['T0SZ 48 with 64K', { T0SZ: 48, TG0: 1 }, WIDE, 'C_BAD_CD'],
    ['T0SZ 47 with 64K', { T0SZ: 47, TG0: 1 }, WIDE, 'F_TRANSLATION'],
    ['TTB0 beyond 48 bits', { TTB0: 2 ** 50, IPS: 6 }, WIDE, 'C_BAD_CD'],
    ['TTB0 beyond 48 bits with DS', { TTB0: 2 ** 50, IPS: 6, DS: 1 }, WIDE, 'F_TRANSLATION'],
    ['TTB0 beyond IPS', { TTB0: 2 ** 44, IPS: 4 }, WIDE, 'C_BAD_CD'],
    ['TTB0 beyond OAS', { TTB0: 2 ** 40, IPS: 6 }, { idr5: { OAS: 2 } }, 'C_BAD_CD'],
    [
      'IPS 6 in v3.0 acts as 5',
      { TTB0: 2 ** 49, IPS: 6, TG0: 1 },
      { ...WIDE, aidr: 0 },
      'C_BAD_CD',
    ],
    ['IPS 6 in v3.1', { TTB0: 2 ** 49, IPS: 6, TG0: 1 }, WIDE, 'F_TRANSLATION'],
    ['EPD0 1: nothing of the half is checked', { EPD0: 1, T0SZ: 63, TG0: 3 }, {}, 'F_TRANSLATION'],
    ['ENDI without big-endian tables', { ENDI: 1 }, {}, 'C_BAD_CD'],
    ['ENDI with both halves off', { ENDI: 1, EPD0: 1 }, {}, 'F_TRANSLATION'],
    ['little-endian where all is big', {}, { idr0: { TTENDIAN: 3 } }, 'C_BAD_CD'],
    ['AArch32', { AA64: 0 }, {}, 'C_BAD_CD'],
    ['a granule that is not there', {}, { idr5: { GRAN4K: 0 } }, 'C_BAD_CD'],
  ])('SMMUv3 5.4.1: %s', (_, cd, capabilities, result) => {
    const t = createTableRig({ capabilities });
    t.stream();
    t.context(cd);
    expect(t.ask(0n)).toBe(result);
  });
});

const sizeOf = (granuleLg2: number, level: number): bigint =>
  1n << BigInt(granuleLg2 + (3 - level) * (granuleLg2 - 3));

describe('Arm ARM D8.2: 52-bit addresses and small tables, stage 2', () => {
  test.each([
    ['4K DS from level -1', 12, 52, -1, { S2SL0: 0, S2SL0_2: 1, S2DS: 1 }, 3],
    ['4K DS from level 0, 16 tables', 12, 52, 0, { S2SL0: 2, S2DS: 1 }, 3],
    ['4K DS, 512G block', 12, 52, -1, { S2SL0: 0, S2SL0_2: 1, S2DS: 1 }, 0],
    ['16K DS from level 0', 14, 52, 0, { S2SL0: 3, S2TG: 2, S2DS: 1 }, 3],
    ['16K DS from level 1, 16 tables', 14, 51, 1, { S2SL0: 2, S2TG: 2, S2DS: 1 }, 3],
    ['64K, 52 bits', 16, 52, 1, { S2SL0: 2, S2TG: 1 }, 3],
    ['4K from level 3 (STT)', 12, 20, 3, { S2SL0: 3 }, 3],
    ['64K from level 3', 16, 25, 3, { S2SL0: 0, S2TG: 1 }, 3],
    ['16K from level 3', 14, 25, 3, { S2SL0: 0, S2TG: 2 }, 3],
  ])('%s', (title, granuleLg2, inputBits, start, ste, level) => {
    const t = createTableRig({ capabilities: WIDE });
    const ds = title.includes('DS');
    t.stream({ CONFIG: 6, ...t.stage2({ ...ste, S2T0SZ: 64 - inputBits, S2PS: 6 }) });
    const ipa = ((1n << BigInt(inputBits)) - 1n) & ~0xfffn;
    const size = sizeOf(granuleLg2, level);
    const wide = ds || granuleLg2 === 16;
    const pa = (wide ? 0xb_8765_4321_0000n : 0x8765_4321_0000n) & ~(size - 1n);
    t.map(S2_ROOT, ipa, pa, ds ? S2_DS : LEAF & ~0xf000n, { granuleLg2, level, start, ds });
    expect(t.ask(ipa)).toBe(hex(pa | (ipa & (size - 1n))));
  });

  test.each([
    ['level -1 without S2DS', { S2SL0: 0, S2SL0_2: 1, S2T0SZ: 12 }, WIDE, 'C_BAD_STE'],
    [
      'S2DS in a unit without DS',
      { S2SL0: 0, S2SL0_2: 1, S2T0SZ: 12, S2DS: 1 },
      { idr5: { OAS: 6 } },
      'C_BAD_STE',
    ],
    ['level 3 with 4K without STT', { S2SL0: 3, S2T0SZ: 44 }, {}, 'C_BAD_STE'],
    ['level 0 with 16K without S2DS', { S2SL0: 3, S2TG: 2, S2T0SZ: 16 }, WIDE, 'C_BAD_STE'],
    ['level 0 with 64K', { S2SL0: 3, S2TG: 1 }, WIDE, 'C_BAD_STE'],
    ['S2T0SZ 49', { S2SL0: 3, S2T0SZ: 49 }, WIDE, 'C_BAD_STE'],
    ['S2T0SZ 48 with 64K', { S2SL0: 0, S2TG: 1, S2T0SZ: 48 }, WIDE, 'C_BAD_STE'],
    ['S2T0SZ below 64 - OAS', { S2SL0: 0, S2T0SZ: 24 }, { idr5: { OAS: 1 } }, 'C_BAD_STE'],
    [
      'level 0 with 4K and OAS 42',
      { S2SL0: 2, S2T0SZ: 22 },
      { idr5: { OAS: 3 } },
      'F_TRANSLATION S2 IN',
    ],
    [
      'the same, strict',
      { S2SL0: 2, S2T0SZ: 22 },
      { idr5: { OAS: 3 }, strictStartLevels: true },
      'C_BAD_STE',
    ],
    [
      'level 1 with 16K and OAS 40, strict',
      { S2SL0: 2, S2TG: 2, S2T0SZ: 24 },
      { idr5: { OAS: 2 }, strictStartLevels: true },
      'C_BAD_STE',
    ],
    [
      'level 1 with 64K and OAS 42, strict',
      { S2SL0: 2, S2TG: 1, S2T0SZ: 22 },
      { idr5: { OAS: 3 }, strictStartLevels: true },
      'C_BAD_STE',
    ],
    [
      'level 1 with 64K and OAS 44, strict',
      { S2SL0: 2, S2TG: 1, S2T0SZ: 21 },
      { idr5: { OAS: 4 }, strictStartLevels: true },
      'F_TRANSLATION S2 IN',
    ],
    ['S2ENDI without big-endian tables', { S2ENDI: 1 }, {}, 'C_BAD_STE'],
    ['S2TTB beyond S2PS', { S2TTB: 2 ** 45, S2PS: 4 }, {}, 'C_BAD_STE'],
  ])('SMMUv3 5.2.2: %s', (_, ste, capabilities, result) => {
    const t = createTableRig({ capabilities });
    t.stream({ CONFIG: 6, ...t.stage2(ste) });
    expect(t.ask(0n)).toBe(result);
  });
});

describe('reserved bits', () => {
  test.each([
    ['an STE', 0x10_0400, 24],
    ['a CD', 0x6_0000, 52],
  ])('of %s are ignored, or strict make it invalid', (what, base, byte) => {
    for (const strictReserved of [false, true]) {
      const t = createTableRig({ capabilities: { strictReserved } });
      t.stream();
      t.context();
      const at = base + (byte & ~7);
      t.memory.store(at, t.memory.load(at) | (what === 'an STE' ? 1n : 1n << 63n));
      const bad = what === 'an STE' ? 'C_BAD_STE' : 'C_BAD_CD';
      expect(t.ask(0n, READ)).toBe(strictReserved ? bad : 'F_TRANSLATION');
    }
  });

  test('SMMUv3 5.2.2: nothing below Config is checked in an STE that aborts', () => {
    const t = createTableRig({ capabilities: { strictReserved: true } });
    t.stream({ CONFIG: 0, S2T0SZ: 63, S2TG: 3, S1STALLD: 1 });
    expect(t.ask(0n)).toBe('silent');
  });
});
