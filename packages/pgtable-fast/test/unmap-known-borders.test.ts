/** Ranges in two leaf tables of a known region: leaves of several slots, ends of the input, places in the memory. */
import { describe, expect, test } from 'vitest';
import {
  amdV1,
  armStage1,
  armStage2,
  createPool,
  createTable,
  createWalkTrace,
  ERRNO,
  type PageTable,
  PROT,
  vtdSecondStage,
  x86FirstStage,
} from '../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
const GIB = 1 << 18;
const OA = 2 ** 30 + 1;

/** Look-ups that make the region of a frame known. */
function learn(table: PageTable, iovaPfn: number): void {
  for (let n = 0; n < 40; n++) table.translate(iovaPfn);
}

describe.each([
  ['64 KiB of the contiguous hint (Arm ARM D8.7)', () => armStage1({ contiguous: true }), 16],
  ['64 KiB by NextLevel 7 (AMD IOMMU 2.2.3)', () => amdV1(), 16],
  ['1 MiB by NextLevel 7 (AMD IOMMU 2.2.3)', () => amdV1(), 256],
])('leaves of %s', (_, format, pages) => {
  /** Two full leaf tables, all of it leaves of `pages` pages. */
  function start() {
    const table = createTable(createPool(), format());
    expect(table.mapRange(GIB, 8 * GIB + pages, 1024, RW)).toBe(0);
    learn(table, GIB + 5);
    return table;
  }

  test('whole leaves', () => {
    const table = start();
    expect(table.unmapRange(GIB + 512 - pages, 2 * pages)).toBe(2 * pages);
    expect(table.stats().mappedPages).toBe(1024 - 2 * pages);
  });

  test('a range that starts inside one changes nothing', () => {
    const table = start();
    expect(table.unmapRange(GIB + 511, pages)).toBe(0);
    expect(table.unmapRange(GIB + 512 - pages + 1, 2 * pages)).toBe(0);
    expect(table.stats().mappedPages).toBe(1024);
  });

  test('a range that ends inside one takes it whole', () => {
    const table = start();
    expect(table.unmapRange(GIB + 512 - pages, pages + 1)).toBe(2 * pages);
    expect(table.translate(GIB + 512 + pages - 1)).toBe(-1);
    expect(table.translate(GIB + 512 + pages)).toBe(8 * GIB + 512 + 2 * pages);
    expect(table.stats().mappedPages).toBe(1024 - 2 * pages);
  });

  test('a small page at one end, such a leaf at the other', () => {
    for (const small of [0, 512]) {
      const table = start();
      expect(table.splitLeaf(GIB + small + (small === 0 ? 511 : 0))).toBe(0);
      if (small === 512) expect(table.unmapRange(GIB + 511, 2)).toBe(0); // starts inside a leaf
      const first = small === 0 ? 511 : 512 - pages;
      const count = small === 0 ? 2 : pages + 1;
      expect(table.unmapRange(GIB + first, count)).toBe(pages + 1);
      expect(table.stats().mappedPages).toBe(1024 - pages - 1);
    }
  });
});

describe('the ends of the input range', () => {
  test.each([
    ['part of a root of two levels', armStage1({ iovaBits: 25, oaBits: 36 }), 2 ** 13],
    ['all of a concatenated root', armStage2({ iovaBits: 34, oaBits: 44, startLevel: 2 }), 2 ** 22],
    ['all of a table', vtdSecondStage({ levels: 3 }), 2 ** 27],
    ['the lower half', x86FirstStage({ levels: 4 }), 2 ** 35],
  ])('%s', (_, format, end) => {
    const table = createTable(createPool(), format);
    const first = end - 1024;
    expect(table.mapRange(first, 2 ** 23 + 1, 1024, RW)).toBe(0);
    learn(table, end - 5);
    expect(table.unmapRange(end - 256, 512)).toBe(ERRNO.ERANGE);
    expect(table.unmapRange(first + 256, 512)).toBe(512);
    expect(table.stats().mappedPages).toBe(512);
  });

  test('the upper half of a sign-extended table', () => {
    const table = createTable(createPool(), x86FirstStage({ levels: 4 }));
    const first = 2 ** 52 - 1024;
    for (const at of [first, GIB]) expect(table.mapRange(at, OA, 1024, RW)).toBe(0);
    learn(table, first);
    learn(table, GIB);
    expect(table.unmapRange(first + 256, 512)).toBe(512);
    expect(table.unmapRange(-1024 + 256, 512)).toBe(ERRNO.EINVAL);
    expect(table.unmapRange(GIB + 256, 512)).toBe(512);
    expect(table.stats().mappedPages).toBe(1024);
  });

  test('every border of the tables in a row of a concatenated root (Arm ARM D8.2)', () => {
    const pool = createPool();
    const format = armStage2({ iovaBits: 34, oaBits: 44, startLevel: 2 });
    const table = createTable(pool, format);
    expect(format.rootEntries).toBe(16 * 512);
    for (let i = 1; i < 16; i++) {
      expect(table.mapRange(i * GIB - 1024, 2 ** 24 + i * 2048 + 1, 2048, RW)).toBe(0);
    }
    for (let i = 0; i < 16; i++) learn(table, i * GIB + 5);
    for (let i = 1; i < 16; i++) {
      expect(table.unmapRange(i * GIB - 256, 512)).toBe(512);
      expect(table.unmapRange(i * GIB - 768, 500)).toBe(500);
      expect(table.unmapRange(i * GIB + 300, 500)).toBe(500);
      const kept = [-1024, -769, -268, -257, 256, 299, 800, 1023];
      for (const at of kept) {
        expect(table.translate(i * GIB + at)).toBe(2 ** 24 + i * 2048 + 1025 + at);
      }
      for (const at of [-768, -269, -256, 0, 255, 300, 799]) {
        expect(table.translate(i * GIB + at)).toBe(-1);
      }
    }
    expect(table.stats().mappedPages).toBe(15 * (2048 - 1512));
  });

  test('a root that grows above a known region (AMD v1)', () => {
    const table = createTable(createPool(), amdV1({ levels: 2 }));
    expect(table.mapRange(0, OA, 2048, RW)).toBe(0);
    learn(table, 5);
    expect(table.unmapRange(256, 512)).toBe(512);
    // Beyond the root of two levels: not even a range of zero entries.
    learn(table, GIB + 5);
    expect(table.unmapRange(GIB + 256, 512)).toBe(0);
    for (const [at, levels] of [
      [GIB, 3],
      [2 ** 27, 4],
      [2 ** 36, 5],
    ] as const) {
      expect(table.mapRange(at, OA, 2048, RW)).toBe(0);
      expect(table.levels).toBe(levels);
      expect(table.mapRange(256, OA, 512, RW)).toBe(0);
      expect(table.unmapRange(256, 512)).toBe(512);
      expect(table.unmapRange(at + 256, 512)).toBe(512);
      expect([table.translate(255), table.translate(256)]).toEqual([OA + 255, -1]);
    }
    expect(table.stats().mappedPages).toBe(4 * 1536);
  });
});

describe('places in the memory', () => {
  test('what lies behind a level-1 table is not its own', () => {
    const table = createTable(createPool(), vtdSecondStage({ levels: 4 }));
    const trace = createWalkTrace();
    // Level-1 tables in neighbouring pages: large leaves need no other tables.
    const pages = [GIB, 5 * GIB].map((at) => {
      expect(table.mapRange(at, 8 * GIB, 512, RW)).toBe(0);
      table.walk(at, trace);
      expect(table.unmapRange(at, 512)).toBe(512);
      return trace.entryPa[trace.steps - 1] as number;
    });
    expect(pages[1]).toBe((pages[0] as number) + 4096);
    for (const at of [2 * GIB - 512, 2 * GIB, 5 * GIB]) {
      expect(table.mapRange(at, OA, 512, RW)).toBe(0);
    }
    learn(table, GIB + 5);
    expect(table.unmapRange(2 * GIB - 256, 512)).toBe(512);
    expect([5 * GIB, 2 * GIB + 256].map((at) => table.translate(at))).toEqual([OA, OA + 256]);
    expect(table.stats().mappedPages).toBe(1024);
  });

  test('after work on a table of one level, whose leaf entries are those of its root (Arm)', () => {
    const pool = createPool();
    const table = createTable(pool, armStage2({ iovaBits: 43 }));
    const small = createTable(pool, armStage2({ iovaBits: 25, oaBits: 40, startLevel: 3 }));
    expect(table.mapRange(GIB, OA, 2048, RW)).toBe(0);
    learn(table, GIB + 5);
    for (const at of [0, 512]) {
      expect(small.mapRange(at, 7, 500, RW)).toBe(0);
      expect(small.unmapRange(at + 1, 400)).toBe(400);
      expect(table.unmapRange(GIB + at + 256, 512)).toBe(at === 0 ? 512 : 256 + 256);
    }
    expect(table.stats().mappedPages).toBe(1024);
    expect(small.stats().mappedPages).toBe(200);
  });

  test('tables at offsets of 2 GiB and more', () => {
    const pool = createPool({ base: 2 ** 36 + 0xe000_0000 });
    const table = createTable(pool, vtdSecondStage({ levels: 4 }));
    expect(table.mapRange(GIB, OA, 2048, RW)).toBe(0);
    learn(table, GIB + 5);
    expect(table.rootPa % 2 ** 32).toBeGreaterThan(2 ** 31);
    expect(table.unmapRange(GIB + 256, 512)).toBe(512);
    expect([255, 256, 767, 768].map((at) => table.translate(GIB + at))).toEqual([
      OA + 255,
      -1,
      -1,
      OA + 768,
    ]);
    expect(table.stats().mappedPages).toBe(1536);
  });

  test('tables of two shards at the same offsets', () => {
    const pool = createPool({ base: 2 ** 36, shardBytes: 4 << 20, maxBytes: 16 << 20 });
    const tables = Array.from({ length: 128 }, () => {
      const table = createTable(pool, vtdSecondStage({ levels: 4 }));
      expect(table.mapRange(GIB, OA, 2048, RW)).toBe(0);
      learn(table, GIB + 5);
      return table;
    });
    expect(pool.shards.length).toBeGreaterThan(1);
    tables.forEach((table, i) => {
      expect(table.unmapRange(GIB + 256 + i, 512)).toBe(512);
    });
    tables.forEach((table, i) => {
      expect([255, 256, 767, 768].map((at) => table.translate(GIB + at + i))).toEqual([
        OA + 255 + i,
        -1,
        -1,
        OA + 768 + i,
      ]);
      expect(table.stats().mappedPages).toBe(1536);
    });
  });
});

test.each([
  ['shared memory', () => vtdSecondStage({ levels: 4 }), true, 1],
  ['outputs in two pieces (LPA2)', () => armStage1({ iovaBits: 52, oaBits: 52 }), false, 1],
  ['tables of 16 KiB', () => armStage1({ granule: 16384 }), false, 4],
])('what is never known: %s', (_, format, shared, granule) => {
  const pool = createPool({ shared });
  const table = createTable(pool, format());
  const entries = granule === 1 ? 512 : 2048;
  const pages = 4 * entries * granule;
  expect(table.mapRange(pages, OA - 1 + granule, pages, RW)).toBe(0);
  learn(table, pages);
  for (let n = 0; n < 40; n++) {
    const [first, count] = [pages + (entries / 2) * granule, entries * granule];
    expect(table.unmapRange(first, count)).toBe(count);
    expect(table.mapRange(first, OA - 1 + granule, count, RW)).toBe(0);
  }
  expect(pool.shards.map(({ regions }) => regions.size)).toEqual([0]);
  expect(table.stats().mappedPages).toBe(pages);
});

test('a root of one level with more entries than a table, of which as many are in use as a table has', () => {
  const table = createTable(createPool(), armStage2({ iovaBits: 25, oaBits: 40, startLevel: 3 }));
  expect(table.format.rootEntries).toBe(8192);
  expect(table.mapRange(1024, 1, 512, RW)).toBe(0);
  expect(table.unmapRange(0, 512)).toBe(0);
  expect(table.unmapRange(700, 600)).toBe(276);
  expect(table.stats().mappedPages).toBe(236);
});
