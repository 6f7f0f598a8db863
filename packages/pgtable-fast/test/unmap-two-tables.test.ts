/** Ranges that lie in two leaf tables, both full or not, with leaves of one slot and of several. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createPool, createTable, PROT, vtdSecondStage } from '../src/index.ts';
import { checkSequence, type Op } from './differential.ts';
import { VARIANTS, type Variant } from './formats-under-test.ts';

const TABLES = 4;

/**
 * Four full leaf tables, two on either side of where the next level-1 table begins or at the very start;
 * then ranges that start in one and end in one of the next two, tables that leave, single pages, and new
 * mappings in what has become free. After each step enough is looked up for the region to become known.
 */
function straddles(variant: Variant): fc.Arbitrary<Op[]> {
  const granule = 1n << BigInt(variant.reference.sizes[0] as number);
  const entries = 1 << variant.format.decoder.levelBits;
  const prot = variant.prots[0] as number;
  const border = entries * entries - (TABLES / 2) * entries;
  const isInside = BigInt(border + TABLES * entries) * granule <= variant.reference.vaLimit;
  const at = fc.oneof(
    fc.constantFrom(0, 1, 16, entries / 2, entries - 16, entries - 1),
    fc.integer({ min: 0, max: entries - 1 }),
  );
  const table = fc.integer({ min: 0, max: TABLES - 2 });
  // A shift that is not 0 keeps leaves below the size of a table; 16 leaves room for groups of 16.
  const setting = fc.record({
    base: fc.constantFrom(0, ...(isInside ? [border] : [])),
    shift: fc.constantFrom(1, 1, 16, 0),
    smallest: fc.boolean(),
  });
  return setting.chain(({ base, shift, smallest }) => {
    const map = (first: number, count: number): Op => ({
      kind: 'map',
      va: BigInt(base + first) * granule,
      oa: BigInt(first + shift) * granule,
      count: BigInt(count) * granule,
      prot,
      smallest,
    });
    const unmap = (first: number, count: number): Op => ({
      kind: 'unmap',
      va: BigInt(base + first) * granule,
      count: BigInt(count) * granule,
    });
    const single = (first: number): Op => ({
      kind: 'singles',
      va: BigInt(base + first) * granule,
      oa: BigInt(first + shift) * granule,
      steps: [0n, 1n, 2n, 0n].map((slot, i) => ({ map: i === 3, slot, prot })),
    });
    const change = fc
      .tuple(fc.constantFrom('range', 'range', 'range', 'table', 'single', 'map'), table, at, at)
      .map(([kind, number, start, end]): Op[] => {
        const first = number * entries;
        if (kind === 'single') return [single(first + start)];
        if (kind === 'map') return [map(first + start, Math.max(end, 1))];
        if (kind === 'table') return [unmap(first, entries), { kind: 'free' }];
        return [unmap(first + start, entries - start + end)];
      });
    return fc
      .array(change, { minLength: 1, maxLength: 8 })
      .map((changes) => [map(0, TABLES * entries), ...changes.flat()]);
  });
}

describe('unmapping a range in two leaf tables equals the reference', () => {
  // The reference holds every leaf: tables of 2048 and 8192 entries are too many for it.
  for (const variant of VARIANTS.filter(({ format }) => format.decoder.levelBits <= 9)) {
    test(variant.title, () => {
      fc.assert(
        fc.property(straddles(variant), (sequence) => checkSequence(variant, sequence)),
        { numRuns: 12 },
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
