/** Saved and loaded caches answer, evict and are invalidated as the originals. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ANY_TAG, ContextCache, ENTRY_KIND, Iotlb, NO_PASID } from '../src/index.ts';

const GEOMETRY = { sets: 8, ways: 2 };
const steps = fc.array(
  fc.record({
    drop: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    tag: fc.nat(3),
    pfn: fc.nat(2 ** 20),
    sizeLg2: fc.constantFrom(12, 12, 13, 21),
  }),
  { maxLength: 60 },
);
type Steps = typeof steps extends fc.Arbitrary<infer T> ? T : never;

const run = (tlb: Iotlb, list: Steps): void => {
  for (const { drop, tag, pfn, sizeLg2 } of list) {
    if (drop) tlb.invalidateRange(tag, ANY_TAG, pfn, 21);
    else {
      const kind = ENTRY_KIND.SECOND_STAGE;
      tlb.insert(tag, NO_PASID, pfn, pfn + 7, sizeLg2, 3, pfn % 2 === 0, kind, tag, NO_PASID);
      tlb.lookup(tag, NO_PASID, pfn, 1);
    }
  }
};

describe('IOTLB state', () => {
  test('a loaded copy goes on exactly as the original does', () => {
    fc.assert(
      fc.property(steps, steps, steps, (before, other, after) => {
        const original = new Iotlb(GEOMETRY);
        const copy = new Iotlb(GEOMETRY);
        run(original, before);
        run(copy, other);
        copy.load(original.save());
        expect([...copy.entries()]).toEqual([...original.entries()]);
        expect(copy.size).toBe(original.size);
        run(original, after);
        run(copy, after);
        expect([...copy.entries()]).toEqual([...original.entries()]);
        expect(copy.invalidateAll()).toBe(original.invalidateAll());
      }),
      { numRuns: 200 },
    );
  });

  test('a state does not change with the IOTLB it was taken of', () => {
    const tlb = new Iotlb(GEOMETRY);
    run(tlb, [{ drop: false, tag: 1, pfn: 5, sizeLg2: 12 }]);
    const state = tlb.save();
    tlb.invalidateAll();
    tlb.load(state);
    expect(tlb.lookup(1, NO_PASID, 5, 1)).toBe(12);
  });

  test('another geometry is refused with nothing changed', () => {
    const tlb = new Iotlb({ sets: 16, ways: 2 });
    run(tlb, [{ drop: false, tag: 1, pfn: 5, sizeLg2: 12 }]);
    expect(() => tlb.load(new Iotlb(GEOMETRY).save())).toThrow(
      'IOTLB state has 8 sets of 2, this one 16 of 2',
    );
    expect(tlb.size).toBe(1);
  });
});

describe('context cache state', () => {
  const fill = (cache: ContextCache, sources: readonly number[]): void => {
    for (const source of sources) cache.words[cache.insert(source, -1, source & 3, -1)] = source;
  };

  test('a loaded copy holds and evicts what the original does', () => {
    const numbers = fc.array(fc.nat(40), { maxLength: 40 });
    fc.assert(
      fc.property(numbers, numbers, numbers, (before, other, after) => {
        const original = new ContextCache({ sets: 4, ways: 2, payloadWords: 1 });
        const copy = new ContextCache({ sets: 4, ways: 2, payloadWords: 1 });
        fill(original, before);
        fill(copy, other);
        copy.load(original.save());
        fill(original, after);
        fill(copy, after);
        expect([...copy.entries()]).toEqual([...original.entries()]);
        for (const { source, pasid } of copy.entries()) {
          expect(copy.words[copy.lookup(source, pasid)]).toBe(source);
        }
      }),
      { numRuns: 200 },
    );
  });

  test('another geometry is refused', () => {
    const cache = new ContextCache({ sets: 4, ways: 2, payloadWords: 1 });
    expect(() => cache.load(new ContextCache().save())).toThrow('context cache state has');
  });
});
