/** Ranges that lie in two leaf tables, both full or not, with leaves of one slot and of several. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createPool, createTable, PROT, vtdSecondStage } from '../src/index.ts';
import { checkSequence, type Op } from './differential.ts';
import { VARIANTS, type Variant } from './formats-under-test.ts';

const TABLES = 4;

/** Four full leaf tables, then ranges that start in one and end in one of the next two. */
function straddles(variant: Variant): fc.Arbitrary<Op[]> {
  const granule = 1n << BigInt(variant.reference.sizes[0] as number);
  const entries = 1 << variant.format.decoder.levelBits;
  const prot = variant.prots[0] as number;
  const map = (first: number, count: number, shift: number, smallest: boolean): Op => ({
    kind: 'map',
    va: BigInt(first) * granule,
    oa: BigInt(first + shift) * granule,
    count: BigInt(count) * granule,
    prot,
    smallest,
  });
  const at = fc.oneof(
    fc.constantFrom(0, 1, 16, entries / 2, entries - 16, entries - 1),
    fc.integer({ min: 0, max: entries - 1 }),
  );
  const range: fc.Arbitrary<Op> = fc
    .record({ table: fc.integer({ min: 0, max: TABLES - 2 }), start: at, end: at })
    .map(({ table, start, end }) => ({
      kind: 'unmap',
      va: BigInt(table * entries + start) * granule,
      count: BigInt(entries - start + end) * granule,
    }));
  // A shift that is not 0 keeps leaves below the size of a table; 16 leaves room for groups of 16.
  return fc
    .record({
      shift: fc.constantFrom(1, 1, 16),
      smallest: fc.boolean(),
      ranges: fc.array(range, { minLength: 1, maxLength: 4 }),
    })
    .map(({ shift, smallest, ranges }) => [
      map(0, TABLES * entries, shift, smallest),
      ...ranges.flatMap((unmap) => [unmap, map(entries, 1, shift, smallest)]),
    ]);
}

describe('unmapping a range in two leaf tables equals the reference', () => {
  // The reference holds every leaf: tables of 2048 and 8192 entries are too many for it.
  for (const variant of VARIANTS.filter(({ format }) => format.decoder.levelBits <= 9)) {
    test(variant.title, () => {
      fc.assert(
        fc.property(straddles(variant), (sequence) => checkSequence(variant, sequence)),
        { numRuns: 20 },
      );
    });
  }
});

describe('a table that the range covers completely leaves the tree', () => {
  for (const [title, start, count, freed] of [
    ['the first of two', 512, 700, 1],
    ['the second of two', 700, 836, 1],
    ['none of two', 513, 1022, 0],
  ] as const) {
    test(title, () => {
      const table = createTable(createPool(), vtdSecondStage({ levels: 4 }));
      expect(table.mapRange(0, 1, 2048, PROT.READ)).toBe(0);
      expect(table.unmapRange(start, count)).toBe(count);
      expect(table.stats().freedTables).toBe(freed);
      expect(table.stats().mappedPages).toBe(2048 - count);
    });
  }
});
