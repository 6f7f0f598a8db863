/**
 * Look-ups in regions that a table knows: what was true when a region became known must not outlive it.
 * Every look-up here is one of many, so that its region is known by then; the rules are those of any other.
 */
import { describe, expect, test } from 'vitest';
import {
  amdV1,
  armStage1,
  armStage2,
  attachTable,
  createPool,
  createTable,
  mockFormat,
  type PageTable,
  type PageTableFormat,
  type PageTablePool,
  PROT,
  tableHandle,
  vtdSecondStage,
  x86FirstStage,
} from '../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
const GIB = 1 << 18;
/** Look-ups that make any region known that can be. */
const MANY = 40;

const KINDS: Record<string, () => PageTableFormat> = {
  'vtd-ss': () => vtdSecondStage({ levels: 4 }),
  'vtd-ss, small pages only': () => vtdSecondStage({ levels: 4, pageSizesLg2: [12] }),
  'x86-64': () => x86FirstStage({ levels: 4 }),
  'amd-v1': () => amdV1(),
  'arm-s1': () => armStage1({}),
  'arm-s1 contiguous, dirty': () => armStage1({ contiguous: true, dirtyTracking: true }),
  'arm-s2': () => armStage2({ iovaBits: 44 }),
  'arm-s2, two levels': () => armStage2({ iovaBits: 34, oaBits: 40, startLevel: 2 }),
};

/** The frame found, by every one of many look-ups. */
function found(table: PageTable, iovaPfn: number): number {
  const frames = new Set(Array.from({ length: MANY }, () => table.translate(iovaPfn)));
  expect(frames.size).toBe(1);
  return [...frames][0] as number;
}

/** Regions that tables of a pool know. */
function known(pool: PageTablePool): number[] {
  return pool.shards
    .flatMap(({ regions }) => [...regions.values()])
    .flatMap((slots) => [...slots].filter((region, i) => i % 2 === 0 && region >= 0));
}

const release = (table: PageTable) => table.freeTables(table.takeFreedTables());

describe.each(Object.entries(KINDS))('%s', (_, format) => {
  /** A table with one page at 5 in region 1, which is known. */
  function start(pool = createPool()) {
    const table = createTable(pool, format());
    expect(table.mapRange(GIB + 5, 77, 1, RW)).toBe(0);
    expect(found(table, GIB + 5)).toBe(77);
    expect(known(pool)).toEqual([1]);
    return { table, pool };
  }

  test('pages come, change and go', () => {
    const { table } = start();
    expect([found(table, GIB + 4), found(table, GIB + 6)]).toEqual([-1, -1]);
    expect(table.mapRange(GIB + 6, 9, 1, RW)).toBe(0);
    expect(found(table, GIB + 6)).toBe(9);
    expect(table.unmapRange(GIB + 5, 1)).toBe(1);
    expect(found(table, GIB + 5)).toBe(-1);
    expect(table.mapRange(GIB + 5, 2 ** 27 + 3, 1, RW)).toBe(0);
    expect(found(table, GIB + 5)).toBe(2 ** 27 + 3);
    expect(found(table, GIB + 512 + 5)).toBe(-1);
  });

  test('a leaf table leaves, another table takes its memory, and a new one comes', () => {
    const { table, pool } = start();
    expect(table.unmapRange(GIB, 512)).toBe(1);
    release(table);
    const other = createTable(pool, table.format);
    expect(other.mapRange(5, 123, 1, RW)).toBe(0);
    expect(found(table, GIB + 5)).toBe(-1);
    expect(table.mapRange(GIB + 5, 4, 1, RW)).toBe(0);
    expect(found(table, GIB + 5)).toBe(4);
    expect(found(other, 5)).toBe(123);
  });

  test('all tables of a region leave, another table takes their memory, and new ones come', () => {
    const { table, pool } = start();
    expect(table.unmapRange(GIB, GIB)).toBe(1);
    expect(table.translate(GIB + 5)).toBe(-1);
    release(table);
    const other = createTable(pool, vtdSecondStage({ levels: 4 }));
    for (let i = 0; i < 4; i++) expect(other.mapRange(i * GIB + 5, 100 + i, 1, RW)).toBe(0);
    expect(found(table, GIB + 5)).toBe(-1);
    expect(table.mapRange(GIB + 5, 4, 1, RW)).toBe(0);
    expect(found(table, GIB + 5)).toBe(4);
    expect(found(other, GIB + 5)).toBe(101);
  });

  test('large pages take the place of tables, are split and merged', () => {
    const { table } = start();
    expect(table.unmapRange(GIB + 5, 1)).toBe(1);
    for (const pages of [512, GIB]) {
      expect(table.mapRange(GIB, 3 * GIB, pages, RW)).toBe(0);
      expect([5, 511].map((at) => found(table, GIB + at))).toEqual([3 * GIB + 5, 3 * GIB + 511]);
      expect(table.splitLeaf(GIB + 5)).toBe(0);
      expect([5, 511].map((at) => found(table, GIB + at))).toEqual([3 * GIB + 5, 3 * GIB + 511]);
      expect(table.mergeLeaves(GIB, pages)).toBeGreaterThanOrEqual(0);
      expect([5, 511].map((at) => found(table, GIB + at))).toEqual([3 * GIB + 5, 3 * GIB + 511]);
      expect(table.unmapRange(GIB, pages)).toBe(pages);
      expect(found(table, GIB + 5)).toBe(-1);
      release(table);
    }
  });

  test('pages of every size', () => {
    const { table } = start();
    for (const lg2 of table.pageSizesLg2) {
      const frames = 2 ** (lg2 - 12);
      if (frames > GIB / 2) continue;
      const first = GIB + 2 * Math.max(frames, 512);
      expect(table.mapRange(first, 16 * GIB + frames, frames, RW)).toBe(0);
      for (const at of [0, Math.floor(frames / 3), frames - 1]) {
        expect(found(table, first + at)).toBe(16 * GIB + frames + at);
      }
      expect(found(table, first + frames)).toBe(-1);
      expect(table.unmapRange(first, frames)).toBe(frames);
    }
  });

  test('the pool grows', () => {
    const { table, pool } = start();
    const other = createTable(pool, vtdSecondStage({ levels: 4 }));
    const { size } = pool;
    expect(other.mapRange(0, 1, 2 * GIB, RW)).toBe(0);
    expect(pool.size).toBeGreaterThan(size);
    expect([found(table, GIB + 5), found(table, GIB + 6)]).toEqual([77, -1]);
  });

  test('tables of one pool know their own', () => {
    const { table, pool } = start();
    const other = createTable(pool, table.format);
    expect(found(other, GIB + 5)).toBe(-1);
    expect(other.mapRange(GIB + 5, 88, 1, RW)).toBe(0);
    expect([found(other, GIB + 5), found(table, GIB + 5)]).toEqual([88, 77]);
    expect(other.unmapRange(GIB, GIB)).toBe(1);
    release(other);
    expect([found(other, GIB + 5), found(table, GIB + 5)]).toEqual([-1, 77]);
  });

  test('a destroyed table knows nothing, nor does the one that takes its place', () => {
    const { table, pool } = start();
    table.destroy();
    expect(table.translate(GIB + 5)).toBe(-1);
    expect(found(table, GIB + 5)).toBe(-1);
    expect(pool.shards.map(({ regions }) => regions.size)).toEqual([0]);
    const next = createTable(pool, format());
    expect(tableHandle(next)).toEqual(tableHandle(table));
    for (const at of [2, 3]) {
      expect(next.mapRange(at * GIB + 5, 99, 1, RW)).toBe(0);
      expect(found(next, at * GIB + 5)).toBe(99);
    }
    expect([found(next, GIB + 5), found(table, GIB + 5)]).toEqual([-1, -1]);
  });

  test('a second object of the table sees what the first one changes, and the other way round', () => {
    const { table, pool } = start();
    const second = attachTable(pool, table.format, tableHandle(table));
    for (const [changer, reader] of [
      [table, second],
      [second, table],
      [table, second],
    ] as const) {
      expect(found(reader, GIB + 5)).toBe(77);
      expect(changer.unmapRange(GIB, GIB)).toBe(1);
      release(changer);
      const other = createTable(pool, vtdSecondStage({ levels: 4 }));
      for (let i = 0; i < 4; i++) expect(other.mapRange(i * GIB + 5, 100 + i, 1, RW)).toBe(0);
      expect([reader.translate(GIB + 5), found(reader, GIB + 5)]).toEqual([-1, -1]);
      expect(changer.mapRange(GIB + 5, 77, 1, RW)).toBe(0);
    }
  });

  test('a pool that takes another state: tables attached afterwards know nothing of before', () => {
    const { table, pool } = start();
    const handle = tableHandle(table);
    expect(table.unmapRange(GIB, GIB)).toBe(1);
    release(table);
    const hog = createTable(pool, format());
    for (let i = 0; i < 8; i++) expect(hog.mapRange(i * GIB + 5, 200 + i, 1, RW)).toBe(0);
    expect(table.mapRange(GIB + 5, 66, 1, RW)).toBe(0);
    const saved = pool.save();
    const target = start();
    for (const at of [8, 9]) {
      expect(target.table.mapRange(at * GIB + 5, 300, 1, RW)).toBe(0);
      expect(found(target.table, at * GIB + 5)).toBe(300);
    }
    expect(tableHandle(target.table)).toEqual(handle);
    target.pool.reserveFor(saved);
    target.pool.load(saved);
    const restored = attachTable(target.pool, format(), handle);
    expect([1, 8, 9].map((at) => found(restored, at * GIB + 5))).toEqual([66, -1, -1]);
    expect(restored.unmapRange(GIB, GIB)).toBe(1);
    release(restored);
    expect(found(restored, GIB + 5)).toBe(-1);
  });

  test.each([-1, -GIB, GIB - 2 ** 31, GIB + 5 - 2 ** 32, -(2 ** 31), GIB + 5 + 2 ** 32, 2 ** 31])(
    'what is no frame of a known region: %i',
    (iovaPfn) => {
      const { table } = start();
      expect(table.mapRange(5, 1, 1, RW)).toBe(0);
      expect([found(table, 5), found(table, GIB + 5)]).toEqual([1, 77]);
      expect(found(table, iovaPfn)).toBe(-1);
    },
  );
});

test('regions that share a slot', () => {
  const pool = createPool();
  const table = createTable(pool, vtdSecondStage({ levels: 4 }));
  const regions = Array.from({ length: 16 }, (_, i) => i * 2 ** 27 + 5);
  regions.forEach((iovaPfn, i) => {
    if (i !== 7) expect(table.mapRange(iovaPfn, 100 + i, 1, RW)).toBe(0);
  });
  const expected = regions.map((__, i) => (i === 7 ? -1 : 100 + i));
  expect(regions.map((iovaPfn) => found(table, iovaPfn))).toEqual(expected);
  for (let n = 0; n < MANY; n++) {
    expect(regions.map((iovaPfn) => table.translate(iovaPfn))).toEqual(expected);
  }
  expect(known(pool)).toHaveLength(1);
});

test('more regions than slots, with tables leaving in between', () => {
  const pool = createPool({ maxBytes: 64 << 20 });
  const table = createTable(pool, vtdSecondStage({ levels: 4 }));
  const first = Array.from({ length: 700 }, (_, i) => i * GIB);
  for (const at of first) expect(table.mapRange(at + 3, at / GIB, 1, RW)).toBe(0);
  const wanted = first.map((at) => at / GIB);
  expect(first.map((at) => found(table, at + 3))).toEqual(wanted);
  expect(known(pool).length).toBeGreaterThan(500);
  for (let i = 0; i < 700; i += 3) {
    expect(table.unmapRange(i * GIB, GIB)).toBe(1);
    wanted[i] = -1;
  }
  release(table);
  expect(first.map((at) => table.translate(at + 3))).toEqual(wanted);
  for (let i = 0; i < 700; i += 6) {
    expect(table.mapRange(i * GIB + 3, i + 5000, 1, RW)).toBe(0);
    wanted[i] = i + 5000;
  }
  for (let n = 0; n < MANY; n++) {
    expect(first.map((at) => table.translate(at + 3))).toEqual(wanted);
  }
});

test('the root grows above known regions (AMD v1)', () => {
  const pool = createPool();
  const table = createTable(pool, amdV1({ levels: 1 }));
  expect(table.mapRange(5, 50, 1, RW)).toBe(0);
  expect([found(table, 5), found(table, GIB), table.levels]).toEqual([50, -1, 1]);
  [GIB - 1, GIB + 7, 2 ** 27 + 9, 2 ** 36 + 3].forEach((iovaPfn, i) => {
    expect(found(table, iovaPfn)).toBe(-1);
    expect(table.mapRange(iovaPfn, 60 + i, 1, RW)).toBe(0);
    expect([found(table, 5), found(table, iovaPfn)]).toEqual([50, 60 + i]);
  });
  expect(table.levels).toBe(5);
  expect(known(pool)).toContain(0);
});

test('a root of two levels that is several tables, and one that is part of a table (Arm ARM D8.2)', () => {
  const several = createTable(createPool(), armStage2({ iovaBits: 34, oaBits: 40, startLevel: 2 }));
  for (let i = 0; i < 16; i++) expect(several.mapRange(i * GIB + 5, 100 + i, 1, RW)).toBe(0);
  for (let i = 0; i < 16; i++) expect(found(several, i * GIB + 5)).toBe(100 + i);
  expect(found(several, 16 * GIB + 5)).toBe(-1);
  const part = createTable(createPool(), armStage1({ iovaBits: 25, oaBits: 36 }));
  const end = 2 ** 13;
  expect(part.mapRange(end - 1, 7, 1, RW)).toBe(0);
  expect([end - 1, end, end + 511, GIB - 1].map((at) => found(part, at))).toEqual([7, -1, -1, -1]);
});

test('output frames of all widths', () => {
  const pool = createPool();
  const formats = [vtdSecondStage({ levels: 4 }), armStage1({ iovaBits: 52, oaBits: 52 })];
  for (const format of formats) {
    const table = createTable(pool, format);
    const outputs = [1, 2 ** 20, 2 ** 31 - 1, 2 ** 31, 2 ** 36 - 1, 2 ** 39 + 5, 2 ** 40 - 1];
    outputs.forEach((output, i) => {
      expect(table.mapRange(GIB + i, output, 1, RW)).toBe(0);
    });
    expect(outputs.map((_, i) => found(table, GIB + i))).toEqual(outputs);
  }
});

test('the upper half of a sign-extended table', () => {
  const table = createTable(createPool(), x86FirstStage({ levels: 4 }));
  const top = 2 ** 52;
  expect(table.mapRange(top - 3, 33, 1, RW)).toBe(0);
  expect(table.mapRange(5, 1, 1, RW)).toBe(0);
  expect([5, top - 3, -3, 2 ** 35 - 3].map((at) => found(table, at))).toEqual([1, 33, -1, -1]);
});

test.each([
  ['shared memory', () => vtdSecondStage({ levels: 4 }), true],
  ['tables of 16 KiB', () => armStage1({ granule: 16384 }), false],
  ['tables of 64 KiB', () => armStage2({ granule: 65536 }), false],
  ['frames of 2 KiB', () => mockFormat(), false],
  ['outputs in two pieces (LPA2)', () => armStage1({ iovaBits: 52, oaBits: 52 }), false],
])('nothing is known: %s', (_, format, shared) => {
  const pool = createPool({ shared });
  const table = createTable(pool, format());
  const granule = 2 ** (table.format.granuleLg2 - table.format.frameLg2);
  for (const at of [1, 2, GIB / granule + 1, 4 * GIB]) {
    expect(table.mapRange(at * granule, (at + 3) * granule, granule, RW)).toBe(0);
    expect(found(table, at * granule)).toBe((at + 3) * granule);
  }
  expect(known(pool)).toEqual([]);
});
