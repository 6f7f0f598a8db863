import {
  addressToPfn,
  hex,
  hi32,
  lo32,
  pfnToAddress,
  splitHi,
  splitLo,
  toNumber,
  u64,
} from '@iommukit/bits';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

const MAX = (1n << 64n) - 1n;
const anyU64 = fc.bigInt({ min: 0n, max: MAX });

test('halves and whole are inverse over all 64 bits, from signed halves too', () => {
  fc.assert(
    fc.property(anyU64, (x) => {
      const digits = x.toString(16).padStart(16, '0');
      expect(lo32(x)).toBe(Number.parseInt(digits.slice(8), 16));
      expect(hi32(x)).toBe(Number.parseInt(digits.slice(0, 8), 16));
      expect(u64(lo32(x), hi32(x))).toBe(x);
      expect(u64(lo32(x) | 0, hi32(x) | 0)).toBe(x);
    }),
  );
});

test('a negative bigint gives the halves of its two’s complement', () => {
  expect([lo32(-2n), hi32(-2n)]).toEqual([0xfffffffe, 0xffffffff]);
});

test('split halves of an exact number equal those of the bigint', () => {
  const exact = fc.oneof(
    fc.maxSafeNat(),
    fc.maxSafeNat().map((x) => (x % 2 ** 52) * 4096),
  );
  fc.assert(
    fc.property(exact, (x) => {
      expect([splitLo(x), splitHi(x)]).toEqual([lo32(BigInt(x)), hi32(BigInt(x))]);
    }),
  );
});

describe('toNumber is exact up to 2^53', () => {
  test.each([
    [0, 0, 0],
    [-1, 0, 0xffffffff],
    [0xffffffff, 0x1fffff, 2 ** 53 - 1],
    [0, 0x200000, 2 ** 53],
  ])('lo %d hi %d', (lo, hi, value) => expect(toNumber(lo, hi)).toBe(value));

  test.each([
    [1, 0x200000, '0x20000000000001'],
    [0, 0x200001, '0x20000100000000'],
    [-1, -1, '0xffffffffffffffff'],
  ])('lo %d hi %d is refused', (lo, hi, shown) => {
    const message = `toNumber: ${shown} is above 2^53 and no exact number; use u64(lo, hi)`;
    expect(() => toNumber(lo, hi)).toThrow(message);
  });
});

describe('addressToPfn', () => {
  test('agrees with bigint division for numbers, bigints and page sizes', () => {
    fc.assert(
      fc.property(anyU64, fc.integer({ min: 11, max: 63 }), (x, lg2) => {
        expect(addressToPfn(x, lg2)).toBe(Number(x / 2n ** BigInt(lg2)));
        const small = Number(x % (1n << 53n));
        expect(addressToPfn(small, lg2)).toBe(Number(BigInt(small) / 2n ** BigInt(lg2)));
      }),
    );
    expect(addressToPfn(MAX)).toBe(2 ** 52 - 1);
    expect(addressToPfn(0x12345678)).toBe(0x12345);
  });

  test.each<[number | bigint, number, string]>([
    [-1, 12, 'address -0x1 is not an exact integer 0 to 2^53 - 1'],
    [2 ** 53, 12, 'address 0x20000000000000 is not an exact integer'],
    [0.5, 12, 'address 0.5 is not an exact integer'],
    [-1n, 12, 'address -0x1 is not in 0 to 2^64 - 1'],
    [MAX + 1n, 12, 'address 0x10000000000000000 is not in 0 to 2^64 - 1'],
    [MAX, 10, 'is above 2^53'],
    [0, 64, 'pageLg2 is 64, expected an integer 0 to 63'],
    [0, -1, 'pageLg2 is -1'],
    [0, 1.5, 'pageLg2 is 1.5'],
  ])('refuses %s with pageLg2 %d', (x, lg2, message) => {
    expect(() => addressToPfn(x, lg2)).toThrow(message);
  });
});

describe('pfnToAddress', () => {
  test('is the inverse of addressToPfn for page addresses', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 52 - 1 }), (pfn) => {
        expect(pfnToAddress(pfn)).toBe(BigInt(pfn) * 4096n);
        expect(addressToPfn(pfnToAddress(pfn))).toBe(pfn);
      }),
    );
  });

  test.each([
    [2 ** 52, 12, 'frame 0x10000000000000 of 2^12 bytes lies above 2^64 - 1'],
    [-1, 12, 'frame -0x1 is not an integer 0 to 2^53 - 1'],
    [0.5, 12, 'frame 0.5 is not an integer'],
    [0, 64, 'pageLg2 is 64, expected an integer 0 to 63'],
  ])('refuses frame %d with pageLg2 %d', (pfn, lg2, message) => {
    expect(() => pfnToAddress(pfn, lg2)).toThrow(message);
  });
});

test.each<[number | bigint, string]>([
  [0, '0x0'],
  [255, '0xff'],
  [MAX, '0xffffffffffffffff'],
  [-16, '-0x10'],
  [-16n, '-0x10'],
  [1.5, '1.5'],
  [Number.NaN, 'NaN'],
])('hex of %s', (x, text) => expect(hex(x)).toBe(text));
