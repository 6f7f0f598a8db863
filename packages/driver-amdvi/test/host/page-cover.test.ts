import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeRange } from '../../src/hardware/invalidation-range.ts';
import { coverLg2, coverWords } from '../../src/host/page-cover.ts';

const pfn = fc.double({ min: 0, max: 2 ** 52 - 1, noNaN: true }).map(Math.floor);
const near = fc
  .tuple(pfn, fc.integer({ min: 0, max: 4096 }))
  .map(([a, n]) => [a, Math.min(a + n, 2 ** 52 - 1)] as const);
const far = fc.tuple(pfn, pfn).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);

test('AMD IOMMU 2.4.3: the coded cover is the smallest aligned block that holds the range', () => {
  fc.assert(
    fc.property(fc.oneof(near, far), ([start, last]) => {
      const { lo, hi, sized } = coverWords(start, last);
      const range = decodeRange((lo | (sized ? 1 : 0)) >>> 0, hi);
      const lg2 = coverLg2(start, last);
      const pages = 2 ** lg2;
      expect(range).toEqual({ firstPfn: start - (start % pages), sizeLg2: 12 + lg2 });
      expect(Math.floor(start / pages)).toBe(Math.floor(last / pages));
      if (lg2 > 0) expect(Math.floor(start / (pages / 2))).not.toBe(Math.floor(last / (pages / 2)));
    }),
  );
});
