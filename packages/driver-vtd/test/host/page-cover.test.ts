import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addressHi, addressLo, alignDown, coverAm } from '../../src/host/page-cover.ts';
import { vectors } from '../vectors.ts';

describe('VT-d 6.5.2.3: covers are aligned powers of two', () => {
  it.each<readonly [number, number, number, number]>([
    ...vectors.psi_alignment.map(
      ({ start, npages, addr, am }) =>
        [Number(start) / 4096, npages, Number(addr) / 4096, am] as const,
    ),
    [2 ** 52 - 1, 1, 2 ** 52 - 1, 0],
    [0, 2 ** 52, 0, 52],
    [2 ** 33 - 1, 2, 0, 34],
  ])('page %i + %i pages -> {%i, %i}', (start, count, address, am) => {
    expect(coverAm(start, start + count - 1)).toBe(am);
    expect(alignDown(start, am)).toBe(address);
  });

  it('is the smallest cover, against bigint arithmetic', () => {
    const pfn = fc.oneof(
      fc.nat({ max: 2 ** 52 - 1 }),
      fc.integer({ min: 0, max: 51 }).map((bit) => 2 ** bit),
      fc.integer({ min: 1, max: 52 }).map((bit) => 2 ** bit - 1),
    );
    fc.assert(
      fc.property(pfn, pfn, (a, b) => {
        const [start, last] = a < b ? [a, b] : [b, a];
        let am = 0n;
        while (BigInt(start) >> am !== BigInt(last) >> am) am++;
        expect(coverAm(start, last)).toBe(Number(am));
        expect(BigInt(alignDown(start, Number(am)))).toBe((BigInt(start) >> am) << am);
        const address = (BigInt(addressHi(start)) << 32n) | BigInt(addressLo(start));
        expect(address).toBe(BigInt(start) << 12n);
      }),
      { numRuns: 3000 },
    );
  });
});
