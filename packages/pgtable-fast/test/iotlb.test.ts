import { describe, expect, it } from 'vitest';
import { ANY_TAG, ENTRY_KIND, IOTLB_MISS, Iotlb, NO_PASID } from '../src/iotlb/index.ts';

const R = 1;
const W = 2;
const RW = 3;
const { SECOND_STAGE, FIRST_STAGE, NESTED, PASS_THROUGH } = ENTRY_KIND;

interface Page {
  source?: number;
  pasid?: number;
  iova: number;
  out?: number;
  lg2?: number;
  permissions?: number;
  dirtyKnown?: boolean;
  kind?: number;
  tagA?: number;
  tagB?: number;
}

function fill(tlb: Iotlb, page: Page): number {
  const { source = 0x10, pasid = NO_PASID, iova, out = iova + 0x1000, lg2 = 12 } = page;
  const { permissions = RW, dirtyKnown = true, kind = SECOND_STAGE, tagA = 5, tagB = 0 } = page;
  return tlb.insert(source, pasid, iova, out, lg2, permissions, dirtyKnown, kind, tagA, tagB);
}

function filled(...pages: Page[]): Iotlb {
  const tlb = new Iotlb();
  for (const page of pages) fill(tlb, page);
  return tlb;
}

const frames = (tlb: Iotlb) => [...tlb.entries()].map((e) => e.iovaPfn).sort((a, b) => a - b);

describe('lookup', () => {
  it('misses other sources, PASIDs and addresses', () => {
    const tlb = filled({ iova: 8 });
    expect(tlb.lookup(0x10, NO_PASID, 8, R)).toBe(0x1008);
    expect(tlb.lookup(0x11, NO_PASID, 8, R)).toBe(IOTLB_MISS);
    expect(tlb.lookup(0x10, 0, 8, R)).toBe(IOTLB_MISS);
    expect(tlb.lookup(0x10, NO_PASID, 9, R)).toBe(IOTLB_MISS);
    expect(tlb.lookup(0x10, NO_PASID, 8 + 2 ** 32, R)).toBe(IOTLB_MISS);
    expect(tlb.lookup(0x10, NO_PASID, Number.NaN, R)).toBe(IOTLB_MISS);
  });

  it('misses when a permission is lacking, and hits once the walk has found it', () => {
    const tlb = filled({ iova: 8, permissions: R });
    expect(tlb.lookup(0x10, NO_PASID, 8, W)).toBe(IOTLB_MISS);
    fill(tlb, { iova: 8, permissions: RW });
    expect(tlb.lookup(0x10, NO_PASID, 8, W)).toBe(0x1008);
    expect(tlb.size).toBe(1);
  });

  it('VT-d 6.2.4: a leaf cached with D=0 serves reads but not writes', () => {
    const tlb = filled({ iova: 8, dirtyKnown: false });
    expect(tlb.lookup(0x10, NO_PASID, 8, R)).toBe(0x1008);
    expect(tlb.lookup(0x10, NO_PASID, 8, W)).toBe(IOTLB_MISS);
    expect([...tlb.entries()][0]).toMatchObject({ permissions: RW, dirtyKnown: false });
    fill(tlb, { iova: 8, dirtyKnown: true });
    expect(tlb.lookup(0x10, NO_PASID, 8, RW)).toBe(0x1008);
  });

  it.each([
    ['2 MiB', 21],
    ['1 GiB', 30],
    ['AMD v1 32 KiB', 15],
    ['whole space', 64],
  ])('a %s page answers every address inside it', (_name, lg2) => {
    const count = 2 ** (lg2 - 12);
    const start = lg2 === 64 ? 0 : count * 3;
    const tlb = filled({ iova: start + 1, out: 0x5000001, lg2 });
    expect(tlb.lookup(0x10, NO_PASID, start, R)).toBe(0x5000000);
    expect(tlb.lookup(0x10, NO_PASID, start + count - 1, R)).toBe(0x5000000 + count - 1);
    expect(tlb.lookup(0x10, NO_PASID, start + count, R)).toBe(IOTLB_MISS);
    expect(tlb.size).toBe(1);
  });

  it('VT-d 6.1 caching mode: a cached fault answers until invalidated or replaced', () => {
    const tlb = new Iotlb();
    tlb.insertFault(0x10, NO_PASID, 8, 12, -7, SECOND_STAGE, 5, 0);
    expect(tlb.lookup(0x10, NO_PASID, 8, R)).toBe(-7);
    expect(tlb.lookup(0x10, NO_PASID, 8, 0)).toBe(-7);
    tlb.invalidateRange(5, ANY_TAG, 8, 12);
    expect(tlb.lookup(0x10, NO_PASID, 8, R)).toBe(IOTLB_MISS);
    tlb.insertFault(0x10, NO_PASID, 8, 12, -7, SECOND_STAGE, 5, 0);
    fill(tlb, { iova: 8 });
    expect(tlb.lookup(0x10, NO_PASID, 8, R)).toBe(0x1008);
  });

  it('keeps 32-bit StreamIDs apart from their negative reading', () => {
    const tlb = filled({ source: 0xfffffff0, iova: 1, tagA: 0xfffffff1 });
    expect(tlb.lookup(0xfffffff0, NO_PASID, 1, R)).toBe(0x1001);
    expect([...tlb.entries()][0]).toMatchObject({ source: 0xfffffff0, tagA: 0xfffffff1 });
    expect(tlb.invalidateTag(0xfffffff1)).toBe(1);
  });

  it('never answers one key with the entry of another that shares its hint', () => {
    const tlb = new Iotlb({ sets: 8, ways: 1 });
    for (let key = 0; key < 100; key++) {
      fill(tlb, { source: key, pasid: 1000 + key, iova: 8, out: key });
      for (let other = 0; other < 100; other++) {
        const same = tlb.lookup(other, 1000 + key, 8, R);
        const swapped = tlb.lookup(key, 1000 + other, 8, R);
        expect([same, swapped]).toEqual(other === key ? [key, key] : [IOTLB_MISS, IOTLB_MISS]);
      }
    }
  });

  it('finds the smallest page first when stale and new sizes overlap', () => {
    for (const order of [
      [12, 21, 16],
      [21, 16, 12],
      [16, 12, 21],
    ]) {
      const tlb = filled(...order.map((lg2) => ({ iova: 0x200, lg2, out: lg2 * 0x1000 })));
      expect(tlb.describe(tlb.find(0x10, NO_PASID, 0x200, R))?.sizeLg2).toBe(12);
      tlb.invalidateRange(5, ANY_TAG, 0x200, 12);
      expect(tlb.size).toBe(0);
    }
  });

  it('knows every size after many came and went', () => {
    const tlb = filled({ iova: 0, lg2: 21 }, { iova: 0x200, lg2: 21 });
    for (let n = 0; n < 200; n++) {
      fill(tlb, { iova: 0x400, lg2: 21 });
      tlb.invalidateRange(5, ANY_TAG, 0x400, 21);
      fill(tlb, { iova: 0x1000, lg2: 13 });
      tlb.invalidateRange(5, ANY_TAG, 0x1000, 13);
    }
    fill(tlb, { iova: 0x40000, lg2: 30 });
    expect(tlb.find(0x10, NO_PASID, 0x40001, R)).not.toBe(IOTLB_MISS);
    expect(tlb.find(0x10, NO_PASID, 0x201, R)).not.toBe(IOTLB_MISS);
    expect(tlb.size).toBe(3);
  });

  it('find() gives the whole entry of a lookup', () => {
    const tlb = filled({ iova: 513, out: 0x800001, lg2: 21, permissions: R, kind: NESTED });
    const slot = tlb.find(0x10, NO_PASID, 600, R);
    expect(tlb.describe(slot)).toEqual({
      source: 0x10,
      pasid: NO_PASID,
      iovaPfn: 512,
      outPfn: 0x800000,
      sizeLg2: 21,
      permissions: R,
      dirtyKnown: true,
      kind: NESTED,
      tagA: 5,
      tagB: 0,
      fault: 0,
    });
    expect(tlb.describe(tlb.find(0x10, NO_PASID, 600, W))).toBeUndefined();
  });
});

/** What one domain may hold, by frame: second stage, pass-through, first stage, nested. */
const DOMAIN: Page[] = [
  { iova: 0x100 },
  { iova: 0x101 },
  { iova: 0x200, lg2: 21 },
  { iova: 0x102, kind: PASS_THROUGH },
  { iova: 0x103, kind: FIRST_STAGE, pasid: 7, tagB: 7 },
  { iova: 0x104, kind: NESTED, pasid: 8, tagB: 8 },
  { iova: 0x105, tagA: 6 },
];

describe('invalidation', () => {
  const rows: [string, (tlb: Iotlb) => number, number[]][] = [
    ['VT-d 6.5.2.3 global: everything', (t) => t.invalidateAll(), []],
    ['VT-d 6.5.2.3 domain-selective: one DID', (t) => t.invalidateTag(5), [0x105]],
    [
      'VT-d 6.5.2.3 page-selective: the page, and all first-stage and nested entries of the DID',
      (t) => t.invalidateRangeAndNested(5, 0x100, 12),
      [0x101, 0x102, 0x105, 0x200],
    ],
    [
      'VT-d 6.5.2.4 PASID-selective: DID and PASID',
      (t) => t.invalidateTag(5, 7),
      [0x100, 0x101, 0x102, 0x104, 0x105, 0x200],
    ],
    [
      'VT-d 6.5.2.4 page in PASID: second stage stays',
      (t) => t.invalidateRange(5, 8, 0x100, 15, FIRST_STAGE | NESTED),
      [0x100, 0x101, 0x102, 0x103, 0x105, 0x200],
    ],
    [
      'SMMUv3 4.4.3 TLBI_S2_IPA: stage 2 in range, neither stage 1 nor combined',
      (t) => t.invalidateRange(5, ANY_TAG, 0x100, 20, SECOND_STAGE),
      [0x102, 0x103, 0x104, 0x105, 0x200],
    ],
    [
      'SMMUv3 4.4.1.1 range commands: any number of pages from any start',
      (t) => t.invalidatePages(5, ANY_TAG, 0x101, 3),
      [0x100, 0x104, 0x105, 0x200],
    ],
    [
      'AMD 2.4.3 INVALIDATE_IOMMU_PAGES, GN=1: DomainID, PASID and range',
      (t) => t.invalidateRange(5, 8, 0x104, 12, FIRST_STAGE | NESTED),
      [0x100, 0x101, 0x102, 0x103, 0x105, 0x200],
    ],
    [
      'an address inside a large page drops it',
      (t) => t.invalidateRange(5, ANY_TAG, 0x3ff, 12),
      [0x100, 0x101, 0x102, 0x103, 0x104, 0x105],
    ],
    [
      'a large range drops small pages and ignores its low address bits',
      (t) => t.invalidateRange(5, ANY_TAG, 0x1ff, 21),
      [0x105, 0x200],
    ],
    [
      'a range of every domain',
      (t) => t.invalidateRange(ANY_TAG, ANY_TAG, 0x105, 12),
      [0x100, 0x101, 0x102, 0x103, 0x104, 0x200],
    ],
    [
      'nothing of an unknown domain',
      (t) => t.invalidateTag(9),
      [0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x200],
    ],
  ];
  it.each(rows)('%s', (_title, command, left) => {
    const tlb = filled(...DOMAIN);
    expect(command(tlb)).toBe(DOMAIN.length - left.length);
    expect(frames(tlb)).toEqual(left);
    expect(tlb.statistics.invalidated).toBe(DOMAIN.length - left.length);
  });

  it('leaves no way back to a dropped entry', () => {
    const tlb = filled({ iova: 8 });
    expect(tlb.lookup(0x10, NO_PASID, 8, R)).toBe(0x1008);
    tlb.invalidateRange(5, ANY_TAG, 8, 12);
    expect(tlb.lookup(0x10, NO_PASID, 8, R)).toBe(IOTLB_MISS);
    expect(tlb.find(0x10, NO_PASID, 8, R)).toBe(IOTLB_MISS);
  });

  it('keeps stale translations until told: that is what a missing invalidation looks like', () => {
    const tlb = filled({ iova: 8 });
    tlb.invalidateRange(5, ANY_TAG, 9, 12);
    tlb.invalidateTag(6);
    expect(tlb.lookup(0x10, NO_PASID, 8, R)).toBe(0x1008);
  });

  it('SMMUv3 6.3.9 CR0.VMW: tagA is compared in the bits of tagAMask', () => {
    const tlb = filled({ iova: 1, tagA: 0x10 }, { iova: 2, tagA: 0x13 }, { iova: 3, tagA: 0x14 });
    tlb.tagAMask = ~3;
    expect(tlb.invalidateTag(0x12)).toBe(2);
    expect(frames(tlb)).toEqual([3]);
  });

  it('SMMUv3 3.17: an ASID command leaves global entries, which have tagB NO_PASID', () => {
    const tlb = filled({ iova: 1, tagB: 9 }, { iova: 2, tagB: NO_PASID });
    expect(tlb.invalidateTag(5, 9)).toBe(1);
    expect(frames(tlb)).toEqual([2]);
  });

  it('small ranges of several sizes drop each of them once', () => {
    const tlb = filled(
      { iova: 0x200 },
      { iova: 0x200, lg2: 13 },
      { iova: 0x200, lg2: 16 },
      { iova: 0x200, lg2: 21 },
    );
    expect(tlb.invalidateRange(5, ANY_TAG, 0x200, 12)).toBe(4);
    expect(tlb.size).toBe(0);
  });

  it('survives ranges no honest guest sends', () => {
    const tlb = filled(...DOMAIN);
    expect(tlb.invalidateRange(5, ANY_TAG, 0, 11)).toBe(-22);
    expect(tlb.invalidateRange(5, ANY_TAG, 0, 65)).toBe(-22);
    expect(tlb.invalidateRange(5, ANY_TAG, 0, Number.NaN)).toBe(-22);
    expect(tlb.invalidatePages(5, ANY_TAG, 0, 0)).toBe(-22);
    expect(tlb.invalidatePages(5, ANY_TAG, Number.NaN, 1)).toBe(0);
    expect(tlb.size).toBe(DOMAIN.length);
    expect(tlb.invalidatePages(5, ANY_TAG, 2 ** 52 - 1, Number.POSITIVE_INFINITY)).toBe(0);
    expect(tlb.invalidateRange(5, ANY_TAG, 0x100, 12)).toBe(1);
    expect(tlb.invalidatePages(5, ANY_TAG, 0, Number.POSITIVE_INFINITY)).toBe(DOMAIN.length - 2);
    expect(tlb.size).toBe(1);
  });
});

describe('capacity', () => {
  it('evicts in order of insertion, and counts it', () => {
    const tlb = new Iotlb({ sets: 8, ways: 2 });
    for (let iova = 0; iova < 64; iova++) fill(tlb, { iova });
    expect(tlb.size).toBeLessThanOrEqual(16);
    expect(tlb.statistics.evictions).toBe(64 - tlb.size);
    expect(tlb.lookup(0x10, NO_PASID, 63, R)).toBe(0x103f);
    const left = frames(tlb);
    fill(tlb, { iova: 64 });
    const lost = left.filter((pfn) => !frames(tlb).includes(pfn));
    expect(lost.length).toBeLessThanOrEqual(1);
  });

  it('one source can use nearly all of it', () => {
    const tlb = new Iotlb();
    for (let iova = 0; iova < tlb.capacity; iova++) fill(tlb, { iova: 0x40000 + iova });
    expect(tlb.size).toBeGreaterThan(tlb.capacity * 0.9);
  });

  it('eight sources with the same addresses seldom meet in a set (without keys in it: 512 evictions)', () => {
    const tlb = new Iotlb();
    for (let source = 0; source < 8; source++) {
      for (let iova = 0; iova < 128; iova++) fill(tlb, { source, iova });
    }
    expect(tlb.statistics.evictions).toBeLessThan(128);
  });

  it('counts hits and misses, until reset', () => {
    const tlb = filled({ iova: 8 });
    tlb.lookup(0x10, NO_PASID, 8, R);
    tlb.lookup(0x10, NO_PASID, 8, R);
    tlb.lookup(0x10, NO_PASID, 9, R);
    tlb.find(0x10, NO_PASID, 9, R);
    tlb.find(0x10, NO_PASID, 8, R);
    expect(tlb.statistics).toEqual({ hits: 3, misses: 2, evictions: 0, invalidated: 0 });
    tlb.resetStatistics();
    expect(tlb.statistics).toEqual({ hits: 0, misses: 0, evictions: 0, invalidated: 0 });
    expect(tlb.size).toBe(1);
  });

  it.each([
    [{ sets: 7 }, /power of two from 8 to 16384, got 7/],
    [{ sets: 4 }, /power of two from 8 to 16384, got 4/],
    [{ sets: 0 }, /power of two/],
    [{ ways: 0 }, /ways must be 1 to 16/],
    [{ sets: 16384, ways: 8 }, /sets \* ways at most 65536, got 8 with 16384 sets/],
  ])('refuses the geometry %o', (options, message) => {
    expect(() => new Iotlb(options)).toThrow(message);
  });

  it('refuses sizes and fault codes that cannot be, changing nothing', () => {
    const tlb = new Iotlb();
    for (const lg2 of [0, 11, 65, 12.5, Number.NaN]) expect(fill(tlb, { iova: 0, lg2 })).toBe(-22);
    for (const fault of [0, -1, 5, -2.5]) {
      expect(tlb.insertFault(0x10, NO_PASID, 0, 12, fault, SECOND_STAGE, 5, 0)).toBe(-22);
    }
    expect(tlb.size).toBe(0);
  });
});
