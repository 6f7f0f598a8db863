import {
  type Access,
  decode,
  defineRegister,
  flag,
  type Kinds,
  mbz,
  readHalf,
  resetValue,
  uint,
  writeHalf,
} from '@iommukit/bits';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

const FSTS = defineRegister({
  name: 'FSTS',
  offset: 0x34,
  bits: 32,
  spec: 'VT-d 11.4',
  doc: 'fault status',
  fields: {
    PFO: { ...flag(0, 'primary fault overflow'), access: 'RW1C' },
    PPF: { ...flag(1, 'primary pending fault'), access: 'RO' },
    IQE: { ...flag(4, 'invalidation queue error'), access: 'RW1C' },
    FRI: { ...uint(15, 8, 'fault record index'), access: 'RO' },
    Z: mbz(31, 16),
  },
});

describe('VT-d 11.4 FSTS', () => {
  test('has a layout, an offset, accesses and masks', () => {
    expect(FSTS.offset).toBe(0x34);
    expect(FSTS.fields.FRI).toMatchObject({ hi: 15, lo: 8, mask: 0xff00 });
    expect(FSTS.access).toEqual({ PFO: 'RW1C', PPF: 'RO', IQE: 'RW1C', FRI: 'RO' });
    const { roMask, rwMask, rw1cMask, woMask } = FSTS;
    expect([roMask, rwMask, rw1cMask, woMask]).toEqual([[0xff02], [0], [0x11], [0]]);
    expect(decode(FSTS, [0x311])).toEqual({ PFO: 1, PPF: 0, IQE: 1, FRI: 3 });
  });

  test.each([
    ['a one clears RW1C bits and leaves RO bits', 0x313, 0x0001, 0x312],
    ['a zero leaves RW1C bits', 0x313, 0, 0x313],
    ['RO bits cannot be set', 0, 0xffffffff, 0],
  ])('%s', (_, old, written, held) => expect(writeHalf(FSTS, 0, old, written)).toBe(held));
});

describe('WO', () => {
  const GCMD = defineRegister({
    name: 'GCMD',
    offset: 0x18,
    bits: 32,
    spec: 'VT-d 11.4',
    fields: { TE: { ...flag(31), access: 'WO' }, SRTP: { ...flag(30), access: 'WO' } },
  });
  test('VT-d 11.4 GCMD: the hardware sees what is written, software reads zero', () => {
    const held = writeHalf(GCMD, 0, 0x40000000, 0x8000ffff);
    expect(held).toBe(0x80000000);
    expect(readHalf(GCMD, 0, held)).toBe(0);
  });
});

describe('reset value', () => {
  const make = (reset?: number | bigint | { A?: number; B?: number }) =>
    defineRegister({
      name: 'REG',
      offset: 0,
      bits: 64,
      spec: 'none',
      ...(reset !== undefined && { reset }),
      fields: { A: { ...uint(3, 0), access: 'RW' }, B: { ...uint(40, 30), access: 'RO' } },
    });
  test.each([
    ['none', undefined, [0, 0]],
    ['a number', 5, [5, 0]],
    ['a bigint', 0x1ff_c000_0005n, [0xc0000005, 0x1ff]],
    ['fields', { A: 2, B: 0x7ff }, [0xc0000002, 0x1ff]],
  ] as const)('from %s', (_, reset, halves) => {
    const register = make(reset);
    expect([...resetValue(register)]).toEqual(halves);
    expect([...register.reset]).toEqual(halves);
  });

  test('is a fresh copy each time', () => {
    const register = make(5);
    resetValue(register)[0] = 9;
    expect([...resetValue(register)]).toEqual([5, 0]);
  });

  test('a wrong field in it is a compile error', () => {
    const wrong = () =>
      defineRegister({
        name: 'REG',
        offset: 0,
        bits: 32,
        spec: 'none',
        // @ts-expect-error no such field
        reset: { C: 1 },
        fields: { A: { ...flag(0), access: 'RW' } },
      });
    expect(wrong).toThrow('REG has no field C; its fields are A');
  });
});

test('a field without access is a compile error', () => {
  const wrong = () =>
    // @ts-expect-error access is missing
    defineRegister({ name: 'REG', offset: 0, bits: 32, spec: 'none', fields: { A: flag(0) } });
  expect(wrong).toThrow('REG: field A has access undefined');
});

const ACCESSES = ['RO', 'RW', 'RW1C', 'WO'] as const;

/** What one bit holds after a write, and what it reads as, from the words of the definition. */
function oneBit(access: Access | undefined, old: number, written: number): [number, number] {
  if (access === undefined) return [0, 0];
  if (access === 'RO') return [old, old];
  if (access === 'RW') return [written, written];
  if (access === 'RW1C') return old === 1 && written === 1 ? [0, 0] : [old, old];
  return [written, 0];
}

test('writes and reads agree with a bit-by-bit reference on random registers up to 128 bits', () => {
  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  const property = fc.property(
    fc.constantFrom(32, 64, 128),
    fc.array(fc.nat(4), { minLength: 128, maxLength: 128 }),
    u32,
    u32,
    (bits, kinds, old, written) => {
      const used = kinds.slice(0, bits).map((kind) => ACCESSES[kind]);
      const fields = used.flatMap((access, bit) =>
        access ? [[`B${bit}`, { ...flag(bit), access }] as const] : [],
      );
      const register = defineRegister<Kinds>({
        name: 'REG',
        offset: 0,
        bits: bits as 32 | 64 | 128,
        spec: 'none',
        fields: Object.fromEntries(fields),
      });
      for (let half = 0; half < bits / 32; half++) {
        const held = writeHalf(register, half, old, written);
        const read = readHalf(register, half, held);
        expect([held >>> 0, read >>> 0]).toEqual([held, read]);
        for (let bit = 0; bit < 32; bit++) {
          const expected = oneBit(used[half * 32 + bit], (old >>> bit) & 1, (written >>> bit) & 1);
          expect([(held >>> bit) & 1, (read >>> bit) & 1]).toEqual(expected);
        }
      }
    },
  );
  fc.assert(property, { numRuns: 150 });
});
