/** Arguments that are wrong, in full or at their last part: an error, and nothing has changed. */
import { describe, expect, test } from 'vitest';
import {
  amdV1,
  armStage1,
  createPool,
  createTable,
  createWalkTrace,
  DIRTY,
  ERRNO,
  mockFormat,
  type PageTable,
  type PageTableFormat,
  PROT,
  vtdSecondStage,
  WALK,
  x86FirstStage,
} from '../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
const vtd = () => createTable(createPool(), vtdSecondStage({ levels: 4 }));

/** 64 dirty pages. */
function dirtyTable(): PageTable {
  const table = vtd();
  expect(table.mapRange(0, 1, 64, RW)).toBe(0);
  for (let at = 0; at < 64; at++) expect(table.setAccessedDirty(at, true)).toBe(0);
  return table;
}

describe('readAndClearDirty', () => {
  test.each([
    ['half a bit', 0, 64, 0.5, 0],
    ['no bit', 0, 64, Number.NaN, 0],
    ['a bit before the bitmap', 0, 64, -1, 0],
    ['a bit too far', 0, 64, 193, 0],
    ['half a page per bit', 0, 64, 0, -1],
    ['a page size between two', 0, 64, 0, 0.5],
    ['more than any page per bit', 0, 64, 0, 41],
    ['half a page', 0, 1.5, 0, 0],
    ['fewer pages than none', 0, -1, 0, 0],
    ['no number of pages', 0, Number.NaN, 0, 0],
    ['half a frame', 0.5, 1, 0, 0],
  ])('%s is EINVAL', (_, first, count, bit, perBit) => {
    const table = dirtyTable();
    const bitmap = new Uint8Array(32);
    expect(table.readAndClearDirty(first, count, bitmap, bit, 0, perBit)).toBe(ERRNO.EINVAL);
    expect(bitmap.every((byte) => byte === 0)).toBe(true);
    expect(table.readAndClearDirty(0, 64, bitmap, 0)).toBe(64);
  });

  test('a range of several blocks that ends outside the input: ERANGE, and nothing is cleaned', () => {
    const table = createTable(createPool(), vtdSecondStage({ levels: 3 }));
    const first = 2 ** 27 - 2 ** 19;
    expect(table.mapRange(first, 1, 8, RW)).toBe(0);
    for (let at = 0; at < 8; at++) table.setAccessedDirty(first + at, true);
    const bitmap = new Uint8Array(2 ** 17);
    expect(table.readAndClearDirty(first, 2 ** 19 + 1, bitmap, 0)).toBe(ERRNO.ERANGE);
    expect(bitmap[0]).toBe(0);
    expect(table.readAndClearDirty(first, 2 ** 19 + 0.5, bitmap, 0)).toBe(ERRNO.EINVAL);
    expect(table.readAndClearDirty(first, 2 ** 19, bitmap, 0, DIRTY.NO_CLEAR)).toBe(8);
    expect(bitmap[0]).toBe(0xff);
  });
});

describe('lists', () => {
  test.each([0, -1, 1.5, 3, Number.NaN, Number.POSITIVE_INFINITY])('%d of two runs', (count) => {
    const table = vtd();
    expect(table.mapRuns(0, Float64Array.of(5, 1, 9, 1), count, RW)).toBe(ERRNO.EINVAL);
    expect(table.mapList(0, Float64Array.of(5, 9), count, RW)).toBe(ERRNO.EINVAL);
    expect(table.stats()).toMatchObject({ mappedPages: 0, tables: 1 });
  });

  test.each([
    ['half a frame', [5, 1, 9.5, 1], ERRNO.EINVAL],
    ['parts of pages that add up', [5, 1.5, 9, 0.5], ERRNO.EINVAL],
    ['an empty run', [5, 1, 9, 0], ERRNO.EINVAL],
    ['a run backwards', [5, 3, 9, -1], ERRNO.EINVAL],
    ['an output beyond the width', [5, 1, 2 ** 40, 1], ERRNO.ERANGE],
    ['more than the input has', [5, 1, 9, 2 ** 36], ERRNO.ERANGE],
  ])('%s in the last run', (_, runs, errno) => {
    const table = vtd();
    expect(table.mapRuns(0, Float64Array.from(runs), 2, RW)).toBe(errno);
    expect(table.stats()).toMatchObject({ mappedPages: 0, tables: 1 });
  });

  test.each([-1, 1.5, 3, Number.NaN])('translateBatch of %d from two', (count) => {
    const out = Float64Array.of(7, 7);
    expect(() => vtd().translateBatch(Float64Array.of(0, 1), out, count)).toThrow(
      /count is .*, must be whole and at most 2 in and 2 out/,
    );
    expect([...out]).toEqual([7, 7]);
  });
});

describe('freed tables', () => {
  /** A table of which one leaf table has been freed and taken. */
  function taken() {
    const table = vtd();
    for (const at of [0, 512]) expect(table.mapRange(at, 1, 512, RW)).toBe(0);
    expect(table.unmapRange(0, 512)).toBe(512);
    return { table, handle: table.takeFreedTables() };
  }

  test.each([
    ['-1', () => -1],
    ['a fraction', (handle: number) => handle + 0.5],
    ['no number', () => Number.NaN],
    ['a page of the records', () => 2 ** 20],
    ['another page', (handle: number) => handle + 1],
    ['more tables than were taken', (handle: number) => handle + 2 ** 20],
    ['no tables at a page', (handle: number) => handle - 2 ** 20],
    ['a page outside the memory', () => 2 ** 20 + 2 ** 19],
    ['infinity', () => Number.POSITIVE_INFINITY],
  ])('%s is no handle', (_, forge) => {
    const { table, handle } = taken();
    expect(() => table.freeTables(forge(handle))).toThrow(/freeTables: .* must be what takeFreed/);
    table.freeTables(handle);
  });

  test('a handle frees once, also when others are out', () => {
    const { table, handle } = taken();
    expect(table.unmapRange(512, 512)).toBe(512);
    const second = table.takeFreedTables();
    table.freeTables(handle);
    expect(() => table.freeTables(handle)).toThrow(RangeError);
    // One is out, not two.
    expect(() => table.freeTables(second + 2 ** 20)).toThrow(RangeError);
    table.freeTables(second);
    expect(() => table.freeTables(second)).toThrow(RangeError);
    // Had one been freed twice, two tables would share its memory now.
    for (const at of [0, 512, 1024]) expect(table.mapRange(at, 10_000 + at, 512, RW)).toBe(0);
    for (const at of [0, 512, 1024]) expect(table.translate(at)).toBe(10_000 + at);
  });

  test('what another table gave', () => {
    const { handle } = taken();
    const other = vtd();
    expect(() => other.freeTables(handle)).toThrow(RangeError);
  });

  test('what was taken before the table was destroyed', () => {
    const pool = createPool();
    const table = createTable(pool, vtdSecondStage({ levels: 4 }));
    expect(table.mapRange(0, 1, 512, RW)).toBe(0);
    table.unmapRange(0, 512);
    const handle = table.takeFreedTables();
    const used = pool.stats().usedBytes;
    table.destroy();
    expect(pool.stats().usedBytes).toBeLessThan(used);
    table.freeTables(handle);
    expect(() => table.freeTables(handle)).toThrow(RangeError);
    expect(pool.stats().usedBytes).toBe(4096); // the page of control blocks
  });
});

test.each<[string, PageTableFormat]>([
  ['vtd-ss', vtdSecondStage({ levels: 4 })],
  ['x86-64', x86FirstStage({ levels: 4 })],
  ['amd-v1', amdV1()],
  ['mock', mockFormat()],
  ['arm-s1', armStage1()],
  ['arm-s1, LPA2', armStage1({ iovaBits: 52, oaBits: 52 })],
  ['arm-s1, 64 KiB', armStage1({ granule: 65536, iovaBits: 52, oaBits: 52 })],
])('a hole behind the last output frame reads back as a hole: %s', (_, format) => {
  const table = createTable(createPool(), format);
  const granule = 2 ** (format.granuleLg2 - format.frameLg2);
  const last = 2 ** (format.oaBits - format.frameLg2) - granule;
  expect(table.mapRange(4 * granule, last - granule, 2 * granule, RW)).toBe(0);
  const out = new Float64Array(8);
  expect(table.readRuns(4 * granule, 6 * granule, out)).toBe(2);
  expect([...out.subarray(0, 4)]).toEqual([last - granule, 2 * granule, -1, 4 * granule]);
});

test('a destroyed table answers and touches nothing', () => {
  const pool = createPool({ base: 2 ** 36 });
  const table = createTable(pool, vtdSecondStage({ levels: 4 }));
  expect(table.mapRange(0, 1, 600, RW)).toBe(0);
  const keeper = createTable(pool, vtdSecondStage({ levels: 4 }));
  table.destroy();
  const before = pool.shards[0]?.u8.slice();
  const trace = createWalkTrace();
  const leaf = { iovaPfn: 0, oaPfn: 0, pages: 0, level: 0, wordLo: 0, wordHi: 0 };
  for (const [first, count] of [
    [0, 1],
    [0, 2],
    [1, 512],
    [2 ** 30, 1],
  ] as const) {
    expect(table.mapRange(first, 0, count, RW)).toBeLessThan(0);
    expect(table.mapList(first, new Float64Array(count), count, RW)).toBeLessThan(0);
    expect(table.mapRuns(first, Float64Array.of(0, count), 1, RW)).toBeLessThan(0);
    expect(table.unmapRange(first, count)).toBeLessThanOrEqual(0);
    expect(table.setAccessedDirty(first, true)).toBeLessThan(0);
    expect(table.splitLeaf(first)).toBeLessThan(0);
    expect(table.mergeLeaves(first, count)).toBeLessThanOrEqual(0);
    expect(table.readAndClearDirty(first, count, new Uint8Array(64), 0)).toBeLessThanOrEqual(0);
    expect(table.walk(first, trace)).toBeLessThan(0);
    expect(table.nextLeaf(first, first + count, leaf)).toBe(false);
    expect(table.translate(first)).toBe(-1);
  }
  expect(trace.result).not.toBe(WALK.RESERVED);
  const after = pool.shards[0]?.u8.slice() as Uint8Array;
  // Lists go by the scratch area.
  after.set(before?.subarray(8192, 8192 + 65536) as Uint8Array, 8192);
  expect(Buffer.compare(after, before as Uint8Array)).toBe(0);
  keeper.destroy();
});

describe('exhaustion of the pool is ENOMEM, and nothing has changed', () => {
  /** A table with a leaf of 1 GiB in a pool with `left` pages. */
  function exhausted(left: number) {
    const pool = createPool({ maxBytes: 2 << 20 });
    const table = createTable(pool, vtdSecondStage({ levels: 4 }));
    expect(table.mapRange(0, 2 ** 18, 2 ** 18, RW)).toBe(0);
    const hog = createTable(pool, vtdSecondStage({ levels: 3 }));
    let pages = 0;
    while (hog.mapRange(512 * pages, 1, 1, RW) === 0) pages++;
    for (let i = 0; i < left; i++) hog.unmapRange(512 * i, 512);
    hog.freeTables(hog.takeFreedTables());
    return { table, state: () => ({ ...table.stats(), pool: pool.stats() }) };
  }

  test('splitLeaf', () => {
    const { table, state } = exhausted(1);
    const before = state();
    expect(table.splitLeaf(7)).toBe(ERRNO.ENOMEM); // one table of 2 MiB leaves, 512 of 4 KiB leaves
    expect(state()).toEqual(before);
    expect(table.translate(7)).toBe(2 ** 18 + 7);
    expect(table.splitLeaf(7, 21)).toBe(0);
    expect(table.splitLeaf(7, 12)).toBe(ERRNO.ENOMEM);
    expect(table.stats().tables).toBe(before.tables + 1);
    expect([7, 2 ** 18 - 1].map((at) => table.translate(at))).toEqual([2 ** 18 + 7, 2 ** 19 - 1]);
  });

  test.each([0, 1, 2])('mapList that needs three tables, %i left', (left) => {
    const { table, state } = exhausted(left);
    const before = state();
    const list = Float64Array.from({ length: 514 }, (_, i) => 3 * i);
    expect(table.mapList(2 ** 18 + 511, list, 514, RW)).toBe(ERRNO.ENOMEM);
    expect(state()).toEqual(before);
    expect(table.translate(2 ** 18 + 511)).toBe(-1);
  });
});
