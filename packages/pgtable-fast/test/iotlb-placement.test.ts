import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ENTRY_KIND, IOTLB_MISS, Iotlb } from '../src/iotlb/index.ts';

const { SECOND_STAGE } = ENTRY_KIND;

/** Few sets and few frames: full sets, pages that come again, victims of another size. */
const GEOMETRIES = [
  { sets: 8, ways: 1 },
  { sets: 8, ways: 2 },
  { sets: 8, ways: 3 },
  { sets: 16, ways: 16 },
];

interface Page {
  source: number;
  pasid: number;
  iovaPfn: number;
  sizeLg2: number;
  tagA: number;
}

const pages: fc.Arbitrary<Page> = fc.record({
  source: fc.constantFrom(1, 2),
  pasid: fc.constantFrom(-1, 3),
  iovaPfn: fc.oneof(fc.nat(9), fc.nat(9), fc.constantFrom(64, 65, 2 ** 51, 2 ** 51 + 1)),
  sizeLg2: fc.constantFrom(12, 12, 12, 12, 13, 15),
  tagA: fc.constantFrom(0, 1, 2),
});

type Step =
  /** What a walk finds: looked up before by one of the two. */
  | { op: 'insert'; page: Page; lookedUp: Page | undefined; need: number; fault: boolean }
  | { op: 'range'; page: Page }
  | { op: 'tag'; page: Page };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 12,
      arbitrary: fc
        .record({
          page: pages,
          // The same page, another one in between, or none.
          other: fc.constantFrom('same', 'same', 'other', 'none'),
          elsewhere: pages,
          // 4: what no entry grants, a miss although the page is there.
          need: fc.constantFrom(1, 4),
          fault: fc.constantFrom(false, false, false, true),
        })
        .map(({ page, other, elsewhere, need, fault }) => ({
          op: 'insert' as const,
          page,
          lookedUp: other === 'same' ? page : other === 'other' ? elsewhere : undefined,
          need,
          fault,
        })),
    },
    { weight: 1, arbitrary: pages.map((page) => ({ op: 'range' as const, page })) },
    { weight: 1, arbitrary: pages.map((page) => ({ op: 'tag' as const, page })) },
  ),
  { minLength: 1, maxLength: 150 },
);

function apply(tlb: Iotlb, step: Step): void {
  const { source, pasid, iovaPfn, sizeLg2, tagA } = step.page;
  if (step.op === 'range') tlb.invalidateRange(tagA, pasid, iovaPfn, sizeLg2);
  else if (step.op === 'tag') tlb.invalidateTag(tagA, pasid);
  else if (step.fault)
    tlb.insertFault(source, pasid, iovaPfn, sizeLg2, -7, SECOND_STAGE, tagA, pasid);
  else tlb.insert(source, pasid, iovaPfn, 99, sizeLg2, 3, true, SECOND_STAGE, tagA, pasid);
}

describe.each(GEOMETRIES)('$sets sets of $ways', (geometry) => {
  test('misses before insertions change no placement, and every entry is found', () => {
    const property = fc.property(steps, (list) => {
      const asked = new Iotlb(geometry);
      const unasked = new Iotlb(geometry);
      for (const step of list) {
        if (step.op === 'insert' && step.lookedUp !== undefined) {
          const { source, pasid, iovaPfn } = step.lookedUp;
          asked.lookup(source, pasid, iovaPfn, step.need);
        }
        apply(asked, step);
        apply(unasked, step);
      }
      const entries = [...asked.entries()];
      expect(entries).toEqual([...unasked.entries()]);
      expect(asked.size).toBe(entries.length);
      expect(asked.statistics.evictions).toBe(unasked.statistics.evictions);
      const keys = entries.map((e) => `${e.source} ${e.pasid} ${e.sizeLg2} ${e.iovaPfn}`);
      expect(new Set(keys).size).toBe(keys.length);
      for (const { source, pasid, iovaPfn } of entries) {
        expect(asked.find(source, pasid, iovaPfn, 1)).toBeGreaterThanOrEqual(0);
      }
    });
    fc.assert(property, { numRuns: 200 });
  });

  test('a set takes new pages in free ways before it replaces one, oldest first', () => {
    const tlb = new Iotlb(geometry);
    const at = (iovaPfn: number) => {
      tlb.lookup(1, -1, iovaPfn, 1);
      return tlb.insert(1, -1, iovaPfn, iovaPfn, 12, 3, true, SECOND_STAGE, 0, 0);
    };
    const first = Math.floor(at(0) / geometry.ways);
    const here: number[] = [0];
    for (let pfn = 1; here.length < geometry.ways * 3; pfn++) {
      const probe = new Iotlb(geometry);
      const slot = probe.insert(1, -1, pfn, pfn, 12, 3, true, SECOND_STAGE, 0, 0);
      if (Math.floor(slot / geometry.ways) !== first) continue;
      expect(at(pfn) % geometry.ways).toBe(here.length % geometry.ways);
      here.push(pfn);
    }
    expect(tlb.statistics.evictions).toBe(geometry.ways * 2);
    const gone = here.at(-1) as number;
    expect(tlb.invalidateRange(0, 0, gone, 12)).toBe(1);
    at(2 ** 40 + 1); // anything in another place or here
    const again = at(gone);
    expect(tlb.describe(again)?.iovaPfn).toBe(gone);
    expect(tlb.size).toBe([...tlb.entries()].length);
  });

  test('a page has one entry: inserted twice after one miss, and after a miss for its permissions', () => {
    const tlb = new Iotlb(geometry);
    const insert = (iovaPfn: number) =>
      tlb.insert(1, -1, iovaPfn, 5, 12, 3, true, SECOND_STAGE, 0, 0);
    for (let pfn = 0; pfn < 40 * geometry.ways; pfn++) insert(pfn);
    const { evictions } = tlb.statistics;
    expect(tlb.lookup(1, -1, 7777, 1)).toBe(IOTLB_MISS);
    const slot = insert(7777);
    expect(insert(7777)).toBe(slot);
    expect(tlb.lookup(1, -1, 7777, 4)).toBe(IOTLB_MISS);
    expect(insert(7777)).toBe(slot);
    expect(tlb.statistics.evictions).toBe(evictions + 1);
  });

  test('nothing answers once everything is invalidated, above and below what was there', () => {
    const tlb = new Iotlb(geometry);
    const capacity = geometry.sets * geometry.ways;
    for (let pfn = 100; pfn < 100 + 4 * capacity; pfn++)
      tlb.insert(1, -1, pfn, 5, 12, 3, true, SECOND_STAGE, 0, 0);
    expect(tlb.invalidateAll()).toBeGreaterThan(0);
    for (const pfn of [...Array(8 * capacity).keys(), 2 ** 52 - 1]) {
      expect(tlb.lookup(1, -1, pfn, 1)).toBe(IOTLB_MISS);
    }
    // An insertion does not wake what shared its slots.
    tlb.insert(1, -1, 3, 5, 12, 3, true, SECOND_STAGE, 0, 0);
    for (let pfn = 4; pfn < 8 * capacity; pfn++) {
      expect(tlb.lookup(1, -1, pfn, 1)).toBe(IOTLB_MISS);
    }
  });
});
