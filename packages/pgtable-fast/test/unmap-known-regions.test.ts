/**
 * Ranges in two leaf tables of a region that the table knows: the same answers and the same counts as by
 * the whole walk, whatever has happened to the tables since the region became known.
 */
import { describe, expect, test } from 'vitest';
import {
  amdV1,
  armStage1,
  armStage2,
  attachTable,
  createPool,
  createTable,
  ERRNO,
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
/** An output that shares no phase with any input used here: leaves stay small. */
const OA = 2 ** 30 + 1;
const TABLES = 4;
const PAGES = TABLES * 512;

const KINDS: Record<string, () => PageTableFormat> = {
  'vtd-ss': () => vtdSecondStage({ levels: 4 }),
  'x86-64, 5 levels': () => x86FirstStage({ levels: 5 }),
  'amd-v1 from 1 level': () => amdV1({ levels: 1 }),
  'arm-s1 contiguous, dirty': () => armStage1({ contiguous: true, dirtyTracking: true }),
  'arm-s2, concatenated root': () => armStage2({ iovaBits: 43 }),
  'arm-s2, concatenated root of two levels': () =>
    armStage2({ iovaBits: 34, oaBits: 44, startLevel: 2 }),
};

/** Look-ups that make the region of a frame known. */
function learn(table: PageTable, iovaPfn: number): void {
  for (let n = 0; n < 40; n++) table.translate(iovaPfn);
}

/** Regions that tables of a pool know. */
function known(pool: PageTablePool): number[] {
  return pool.shards
    .flatMap(({ regions }) => [...regions.values()])
    .flatMap((slots) => [...slots].filter((region, i) => i % 2 === 0 && region >= 0));
}

const release = (table: PageTable) => table.freeTables(table.takeFreedTables());

/** Frames from `first` on that are mapped, as pairs of a start and an end. */
function mapped(table: PageTable, first: number, count: number): number[][] {
  const found: number[][] = [];
  for (let at = first; at < first + count; at++) {
    if (table.translate(at) < 0) continue;
    if (found.at(-1)?.[1] === at) (found.at(-1) as number[])[1] = at + 1;
    else found.push([at, at + 1]);
  }
  return found;
}

describe.each(Object.entries(KINDS))('%s', (_, format) => {
  /** Four full leaf tables at the start of region 1, which is known. */
  function start(pool = createPool()) {
    const table = createTable(pool, format());
    expect(table.mapRange(GIB, OA, PAGES, RW)).toBe(0);
    learn(table, GIB + 5);
    expect(known(pool)).toContain(1);
    return { table, pool };
  }

  test.each([
    [256, 512],
    [1, 512],
    [511, 2],
    [1, 1022],
    [511, 512],
    [512 + 300, 300],
  ])('%i, %i pages', (at, count) => {
    const { table } = start();
    expect(table.unmapRange(GIB + at, count)).toBe(count);
    const rest = [
      [GIB, GIB + at],
      [GIB + at + count, GIB + PAGES],
    ];
    expect(mapped(table, GIB, PAGES)).toEqual(rest);
    expect(table.stats()).toMatchObject({ mappedPages: PAGES - count, freedTables: 0 });
    // What is counted per table decides what fits, what is free and what is given back.
    expect(table.mapRange(GIB + at - 1, OA, count, RW)).toBe(ERRNO.EADDRINUSE);
    expect(table.mapRange(GIB + at, OA, count, RW)).toBe(0);
    expect(table.stats().mappedPages).toBe(PAGES);
    expect(table.unmapRange(GIB + at, count)).toBe(count);
    expect(table.unmapRange(GIB, GIB)).toBe(PAGES - count);
    expect(table.stats()).toMatchObject({ mappedPages: 0 });
  });

  test('nothing but the range changes: walks of every page around it', () => {
    const { table } = start();
    expect(table.unmapRange(GIB + 700, 800)).toBe(800);
    for (const at of [0, 511, 512, 699, 1500, 1535, 1536, PAGES - 1]) {
      expect(table.translate(GIB + at)).toBe(OA + at);
    }
  });

  test.each([
    ['the first table', 512, 700],
    ['the second table', 300, 724],
    ['both tables', 512, 1024],
    ['one of three tables', 300, 1024],
  ])('a range that covers %s: it leaves the tree', (_title, at, count) => {
    const { table, pool } = start();
    const { tables } = table.stats();
    expect(table.unmapRange(GIB + at, count)).toBe(count);
    const gone = count === 1024 && at === 512 ? 2 : 1;
    expect(table.stats()).toMatchObject({ freedTables: gone, tables: tables - gone });
    release(table);
    const other = createTable(pool, format());
    expect(other.mapRange(0, OA, PAGES, RW)).toBe(0);
    expect(mapped(table, GIB, PAGES)).toEqual([
      [GIB, GIB + at],
      [GIB + at + count, GIB + PAGES],
    ]);
    // The neighbours of what has gone, with its memory in another table.
    expect(table.unmapRange(GIB + 256, 512)).toBe(at - 256 + Math.max(0, 768 - at - count));
    expect(table.unmapRange(GIB + 1024 + 256, 512)).toBe(1792 - Math.max(1280, at + count));
    expect(mapped(other, 0, PAGES)).toEqual([[0, PAGES]]);
    expect(other.stats().mappedPages).toBe(PAGES);
  });

  test('all tables of the region leave and another table takes their memory', () => {
    const { table, pool } = start();
    expect(table.unmapRange(GIB, GIB)).toBe(PAGES);
    release(table);
    const other = createTable(pool, vtdSecondStage({ levels: 4 }));
    for (let i = 0; i < 4; i++) expect(other.mapRange(i * GIB, OA, PAGES, RW)).toBe(0);
    expect(table.unmapRange(GIB + 256, 512)).toBe(0);
    expect(other.stats().mappedPages).toBe(4 * PAGES);
    expect(table.mapRange(GIB, OA, PAGES, RW)).toBe(0);
    expect(table.unmapRange(GIB + 256, 512)).toBe(512);
    expect(mapped(table, GIB, PAGES)).toEqual([
      [GIB, GIB + 256],
      [GIB + 768, GIB + PAGES],
    ]);
    expect([0, 1, 2, 3].flatMap((i) => mapped(other, i * GIB, PAGES))).toEqual(
      [0, 1, 2, 3].map((i) => [i * GIB, i * GIB + PAGES]),
    );
  });

  test.each([
    ['first', 0],
    ['second', 512],
  ])('a large leaf in the place of the %s table', (_title, at) => {
    const { table } = start();
    const { tables } = table.stats();
    expect(table.unmapRange(GIB + at, 512)).toBe(512);
    release(table);
    expect(table.mapRange(GIB + at, 8 * GIB, 512, RW)).toBe(0);
    expect(table.stats().tables).toBe(tables - 1);
    // It starts before the range: nothing changes. It starts in the range: it goes as a whole.
    expect(table.unmapRange(GIB + 256, 512)).toBe(at === 0 ? 0 : 768);
    expect(table.stats().mappedPages).toBe(at === 0 ? PAGES : PAGES - 768);
  });

  test('tables that are not full, or were until single pages went', () => {
    const { table } = start();
    expect(table.unmapRange(GIB + 511, 1)).toBe(1);
    expect(table.unmapRange(GIB + 510, 1)).toBe(1);
    expect(table.unmapRange(GIB + 600, 1)).toBe(1);
    expect(table.unmapRange(GIB + 601, 1)).toBe(1);
    expect(table.unmapRange(GIB + 602, 1)).toBe(1);
    expect(table.unmapRange(GIB + 256, 512)).toBe(507);
    expect(table.stats().mappedPages).toBe(PAGES - 512);
    expect(table.mapRange(GIB + 256, OA, 512, RW)).toBe(0);
    expect(table.stats().mappedPages).toBe(PAGES);
    expect(table.unmapRange(GIB + 1024 + 300, 1)).toBe(1);
    expect(table.unmapRange(GIB + 1024 + 301, 1)).toBe(1);
    expect(table.unmapRange(GIB + 1024 + 302, 1)).toBe(1);
    expect(table.unmapRange(GIB + 512 + 256, 512)).toBe(512);
    expect(table.unmapRange(GIB + 1024 + 256, 512)).toBe(509);
    expect(table.stats().mappedPages).toBe(PAGES - 1024);
    expect(table.unmapRange(GIB, PAGES)).toBe(PAGES - 1024);
  });

  test.each([
    ['first', 0],
    ['second', 512],
  ])('the %s of two tables has become empty and stays', (_title, at) => {
    const { table } = start();
    // In two parts: a range that covers a table takes it out of the tree.
    expect(table.unmapRange(GIB + at, 500)).toBe(500);
    expect(table.unmapRange(GIB + at + 500, 12)).toBe(12);
    expect(table.unmapRange(GIB + 256, 512)).toBe(256);
    expect(table.stats()).toMatchObject({ mappedPages: PAGES - 768, freedTables: 0 });
    expect(table.mapRange(GIB + (at === 0 ? 0 : 256), OA, 768, RW)).toBe(0);
    expect(table.stats().mappedPages).toBe(PAGES);
    expect(table.unmapRange(GIB + 256, 512)).toBe(512);
  });

  test('single pages after it', () => {
    const { table } = start();
    for (const at of [3, 4, 5]) expect(table.unmapRange(GIB + at, 1)).toBe(1);
    for (const at of [3, 4, 5]) expect(table.mapRange(GIB + at, OA + at, 1, RW)).toBe(0);
    expect(table.unmapRange(GIB + 256, 512)).toBe(512);
    for (const at of [255, 256, 767, 768]) {
      const isMapped = at < 256 || at >= 768;
      expect(table.unmapRange(GIB + at, 1)).toBe(isMapped ? 1 : 0);
      expect(table.mapRange(GIB + at, OA + at, 1, RW)).toBe(0);
    }
    expect(table.stats().mappedPages).toBe(PAGES - 510);
  });

  test('the border of two known regions', () => {
    const { table } = start();
    expect(table.mapRange(2 * GIB - 1024, OA, PAGES, RW)).toBe(0);
    expect(table.unmapRange(GIB, PAGES)).toBe(PAGES);
    learn(table, 2 * GIB + 5);
    learn(table, 2 * GIB - 5);
    expect(table.mapRange(GIB, 8 * GIB + 7, 512, RW)).toBe(0);
    expect(table.unmapRange(2 * GIB - 256, 512)).toBe(512);
    expect(mapped(table, 2 * GIB - 1024, PAGES)).toEqual([
      [2 * GIB - 1024, 2 * GIB - 256],
      [2 * GIB + 256, 2 * GIB + 1024],
    ]);
    expect(mapped(table, GIB, 1024)).toEqual([[GIB, GIB + 512]]);
    expect(table.stats().mappedPages).toBe(PAGES);
  });

  test.each([
    [GIB + 256.5, 512],
    [GIB + 256, 512.5],
    [GIB + 256 - 2 ** 32, 512],
    [GIB + 256, 512 + 2 ** 32],
    [GIB + 256, 512 - 2 ** 32],
    [GIB + 256, -512],
    [Number.NaN, 512],
  ])('what is no range of frames: %d, %d', (iovaPfn, count) => {
    const { table } = start();
    const result = table.unmapRange(iovaPfn, count);
    if (count === 512 + 2 ** 32) {
      // A range, if the table reaches so far: all from its start on.
      expect([ERRNO.ERANGE, PAGES - 256]).toContain(result);
    } else {
      expect([ERRNO.EINVAL, ERRNO.ERANGE]).toContain(result);
      expect(table.stats().mappedPages).toBe(PAGES);
    }
  });

  test('frames beyond 2^32 that look like known ones', () => {
    const { table } = start();
    for (const beyond of [2 ** 31, 2 ** 32, 2 ** 35]) {
      expect([0, ERRNO.ERANGE]).toContain(table.unmapRange(beyond + GIB + 256, 512));
    }
    expect(table.stats().mappedPages).toBe(PAGES);
  });

  test('two objects of the table', () => {
    const { table, pool } = start();
    const second = attachTable(pool, table.format, tableHandle(table));
    learn(second, GIB + 5);
    expect(second.unmapRange(GIB + 256, 512)).toBe(512);
    expect(table.unmapRange(GIB + 256, 512)).toBe(0);
    expect(table.unmapRange(GIB, GIB)).toBe(PAGES - 512);
    release(table);
    const other = createTable(pool, vtdSecondStage({ levels: 4 }));
    for (let i = 0; i < 4; i++) expect(other.mapRange(i * GIB, OA, PAGES, RW)).toBe(0);
    expect(second.unmapRange(GIB + 256, 512)).toBe(0);
    expect(other.stats().mappedPages).toBe(4 * PAGES);
  });

  test('a table that takes the place of a destroyed one', () => {
    const { table, pool } = start();
    const handle = tableHandle(table);
    table.destroy();
    const other = createTable(pool, format());
    expect(tableHandle(other)).toEqual(handle);
    expect(other.mapRange(3 * GIB, OA, PAGES, RW)).toBe(0);
    expect(other.unmapRange(GIB + 256, 512)).toBe(0);
    expect(other.unmapRange(3 * GIB + 256, 512)).toBe(512);
    expect(other.stats().mappedPages).toBe(PAGES - 512);
  });

  test('what hardware has marked', () => {
    const { table } = start();
    for (let at = 0; at < PAGES; at += 3) {
      expect(table.setAccessedDirty(GIB + at, true)).toBe(0);
    }
    expect(table.unmapRange(GIB + 256, 512)).toBe(512);
    expect(table.mapRange(GIB + 256, OA, 512, RW)).toBe(0);
    expect(table.translate(GIB + 300)).toBe(OA + 44);
  });

  test('unmapping alone makes a region known', () => {
    const pool = createPool();
    const table = createTable(pool, format());
    expect(table.mapRange(GIB, OA, PAGES, RW)).toBe(0);
    for (let n = 0; n < 40; n++) {
      expect(table.unmapRange(GIB + 256, 512)).toBe(512);
      expect(table.mapRange(GIB + 256, OA + 256, 512, RW)).toBe(0);
    }
    expect(known(pool)).toContain(1);
    expect(mapped(table, GIB, PAGES)).toEqual([[GIB, GIB + PAGES]]);
  });
});
