import {
  addr,
  decode,
  defineLayout,
  defineRegister,
  encode,
  enumeration,
  flag,
  ignored,
  maskOf,
  mbz,
  resetValue,
  uint,
  writeHalf,
} from '@iommukit/bits';
import { expect, test } from 'vitest';

const SS_PTE = defineLayout({
  name: 'SS_PTE',
  bits: 64,
  spec: 'VT-d 9.8',
  doc: 'second-stage leaf',
  fields: {
    R: flag(0, 'read'),
    W: flag(1, 'write'),
    EMT: enumeration(5, 3, { UC: 0, WB: 6 }),
    Z: mbz(10, 8),
    ADDR: addr(51, 12),
    IGN: ignored(61, 52),
  },
});

test('encode and decode are inverse on a declared entry', () => {
  const words = encode(SS_PTE, { R: 1, ADDR: 0xf_ffff_ffff_f000, EMT: 'WB' });
  expect([...words]).toEqual([0xfffff031, 0x000fffff]);
  const value = decode(SS_PTE, words);
  const address: number = value.ADDR;
  expect(address).toBe(0xf_ffff_ffff_f000);
  expect(value).toEqual({ R: 1, W: 0, EMT: 6, ADDR: 0xf_ffff_ffff_f000, IGN: 0 });
  // @ts-expect-error Z must be zero and is not decoded
  expect(value.Z).toBeUndefined();
});

test('a wrong field name, symbol or kind is a compile error and throws', () => {
  // @ts-expect-error no such field
  expect(() => encode(SS_PTE, { ADDRR: 1 })).toThrow('SS_PTE has no field ADDRR');
  // @ts-expect-error no such symbol
  expect(() => encode(SS_PTE, { EMT: 'WT' })).toThrow(
    "no symbol 'WT', expected UC, WB or 0 to 0x7",
  );
  // @ts-expect-error reserved
  expect(() => encode(SS_PTE, { Z: 1 })).toThrow('SS_PTE.Z [10:8] is reserved');
  // @ts-expect-error no such field
  expect(() => maskOf(SS_PTE, 'Q')).toThrow('SS_PTE has no field Q');
  // @ts-expect-error no such field
  expect(SS_PTE.fields.Q).toBeUndefined();
});

test('a register', () => {
  const FSTS = defineRegister({
    name: 'FSTS',
    offset: 0x34,
    bits: 32,
    spec: 'VT-d 11.4.9',
    reset: { FRI: 3 },
    fields: {
      PFO: { ...flag(0), access: 'RW1C' },
      PPF: { ...flag(1), access: 'RO' },
      FRI: { ...uint(15, 8), access: 'RO' },
      Z: mbz(31, 16),
    },
  });
  expect([...resetValue(FSTS)]).toEqual([0x300]);
  expect(writeHalf(FSTS, 0, 0x303, 0xffffffff)).toBe(0x302);
});

test('wide fields are bigint in the types too', () => {
  const W = defineLayout({
    name: 'W',
    bits: 128,
    spec: '-',
    fields: { A: uint(63, 0), B: uint(116, 64) },
  });
  const value = decode(W, encode(W, { A: 1n << 63n, B: 2 ** 53 - 1 }));
  const a: bigint = value.A;
  const b: number = value.B;
  expect([a, b]).toEqual([1n << 63n, 2 ** 53 - 1]);
});
