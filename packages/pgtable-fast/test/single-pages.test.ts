/**
 * Single pages after single pages: the table goes on where it was without asking the engine. Everything
 * here runs behind a few operations that make it know the place; the rules are those of any other call.
 */
import { describe, expect, test } from 'vitest';
import {
  amdV1,
  armStage1,
  armStage2,
  createPool,
  createTable,
  DIRTY,
  ERRNO,
  mockFormat,
  type PageTable,
  type PageTableFormat,
  type PageTablePool,
  PROT,
  vtdSecondStage,
  x86FirstStage,
} from '../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
const MIB = 1 << 20;
const GIB_PAGES = 1 << 18;
const START = 5 * 512;

const KINDS: Record<string, () => PageTableFormat> = {
  'vtd-ss': () => vtdSecondStage({ levels: 4 }),
  'x86-64': () => x86FirstStage({ levels: 4 }),
  'amd-v1': () => amdV1(),
  mock: () => mockFormat(),
  'arm-s1': () => armStage1({}),
  'arm-s1 contiguous': () => armStage1({ contiguous: true }),
  'arm-s2': () => armStage2({ iovaBits: 44 }),
  'arm-s2, two levels': () => armStage2({ iovaBits: 32, oaBits: 40, startLevel: 2 }),
  'arm-s2 of 16 KiB': () => armStage2({ granule: 16384 }),
};

/** A table that has mapped and unmapped single granules at the start of a leaf table. */
function warm(format: PageTableFormat, pool = createPool()) {
  const granule = 2 ** (format.granuleLg2 - format.frameLg2);
  const table = createTable(pool, format);
  const at = (slot: number) => (START + slot) * granule;
  for (let slot = 0; slot < 8; slot++) {
    expect(table.mapRange(at(slot), at(slot + 1000), granule, RW)).toBe(0);
    expect(table.unmapRange(at(slot), granule)).toBe(granule);
  }
  const map = (slot: number, output = slot + 1000, prot = RW) =>
    table.mapRange(at(slot), output * granule, granule, prot);
  const unmap = (slot: number) => table.unmapRange(at(slot), granule);
  return { table, pool, granule, at, map, unmap };
}

const state = (table: PageTable, pool: PageTablePool) =>
  JSON.stringify([table.stats(), pool.stats()]);

describe.each(Object.entries(KINDS))('%s', (_, format) => {
  test.each([
    ['input: a fraction', 0.5, 0, 1, RW, ERRNO.EINVAL],
    ['input: not a number', Number.NaN, 0, 1, RW, ERRNO.EINVAL],
    ['input: -1', -1 - START, 0, 1, RW, ERRNO.EINVAL],
    ['output: a fraction', 0, 0.5, 1, RW, ERRNO.EINVAL],
    ['output: not a number', 0, Number.NaN, 1, RW, ERRNO.EINVAL],
    ['output: -1', 0, -1, 1, RW, ERRNO.EINVAL],
    ['output: 2^51 frames', 0, 2 ** 51, 1, RW, ERRNO.ERANGE],
    ['no permission', 0, 0, 1, 0, ERRNO.EINVAL],
    ['permissions: -1', 0, 0, 1, -1, ERRNO.EINVAL],
    ['permissions: an unknown bit', 0, 0, 1, RW | (1 << 20), ERRNO.EINVAL],
    ['count: a fraction', 0, 0, 1.5, RW, ERRNO.EINVAL],
  ])('mapRange %s', (__, slot, output, count, prot, errno) => {
    const { table, pool, granule, at } = warm(format());
    const before = state(table, pool);
    expect(table.mapRange(at(slot), output * granule, count * granule, prot)).toBe(errno);
    expect(state(table, pool)).toBe(before);
  });

  test.each([
    ['a fraction', 0.5, ERRNO.EINVAL],
    ['not a number', Number.NaN, ERRNO.EINVAL],
    ['-1', -1 - START, ERRNO.EINVAL],
    ['2^53', 2 ** 53, ERRNO.ERANGE],
  ])('unmapRange %s', (__, slot, errno) => {
    const { table, pool, at, map } = warm(format());
    map(1);
    const before = state(table, pool);
    expect(table.unmapRange(at(slot), table.format.granuleLg2 === 14 ? 4 : 1)).toBe(errno);
    expect(state(table, pool)).toBe(before);
  });

  test('a page that is there is refused, and one that is not unmaps as 0 frames', () => {
    const { table, pool, at, granule, map, unmap } = warm(format());
    expect(map(3)).toBe(0);
    const before = state(table, pool);
    expect(map(3, 77)).toBe(ERRNO.EADDRINUSE);
    expect(unmap(4)).toBe(0);
    expect(state(table, pool)).toBe(before);
    expect(table.translate(at(3))).toBe(1003 * granule);
  });

  test('permissions change from page to page', () => {
    const { table, at, map } = warm(format());
    const prots = [RW, PROT.READ, RW, PROT.READ, PROT.READ, RW];
    prots.forEach((prot, slot) => {
      expect(map(slot, slot + 50, prot)).toBe(0);
    });
    const writes = prots.map((_prot, slot) => table.setAccessedDirty(at(slot), true));
    expect(writes).toEqual(prots.map((prot) => (prot === RW ? 0 : ERRNO.EACCES)));
  });

  test('a range counts the single pages in it', () => {
    const { table, at, granule, map } = warm(format());
    for (const slot of [0, 1, 5, 300]) expect(map(slot)).toBe(0);
    expect(table.mapRange(at(4), 0, 4 * granule, RW)).toBe(ERRNO.EADDRINUSE);
    expect(table.stats().mappedPages).toBe(4 * granule);
    expect(table.unmapRange(at(1), 299 * granule)).toBe(2 * granule);
    expect(table.stats().mappedPages).toBe(2 * granule);
    expect(map(5)).toBe(0);
    expect(table.stats().mappedPages).toBe(3 * granule);
  });

  test('a list and runs are refused by single pages in their way', () => {
    const { table, at, granule, map } = warm(format());
    map(2);
    const list = Float64Array.of(9, 4, 7, 1).map((frame) => frame * granule);
    expect(table.mapList(at(0), list, 4, RW)).toBe(ERRNO.EADDRINUSE);
    const runs = Float64Array.of(9, 2, 4, 2).map((frame) => frame * granule);
    expect(table.mapRuns(at(0), runs, 2, RW)).toBe(ERRNO.EADDRINUSE);
    expect(table.stats().mappedPages).toBe(granule);
  });

  test('a leaf table that left the tree is not written any more', () => {
    const { table, pool, at, granule, map, unmap } = warm(format());
    const entries = 2 ** table.format.decoder.levelBits;
    const first = Math.ceil(START / entries) * entries - START;
    for (const slot of [0, 1, 2]) expect(map(first + slot)).toBe(0);
    expect(table.unmapRange(at(first), entries * granule)).toBe(3 * granule);
    expect(table.stats().freedTables).toBe(1);
    table.freeTables(table.takeFreedTables());
    const other = createTable(pool, table.format); // takes the freed table over
    expect(other.mapRange(0, 512 * granule, 3 * granule, RW | PROT.SMALLEST_PAGES)).toBe(0);
    for (const slot of [0, 1, 2]) expect(unmap(first + slot)).toBe(0);
    for (const slot of [0, 1, 2]) expect(map(first + slot)).toBe(0);
    for (const slot of [0, 1, 2]) {
      expect(other.translate(slot * granule)).toBe((512 + slot) * granule);
      expect(table.translate(at(first + slot))).toBe((first + slot + 1000) * granule);
    }
    expect([other.stats().mappedPages, table.stats().mappedPages]).toEqual([
      3 * granule,
      3 * granule,
    ]);
  });

  test('a table freed, taken and freed again is noticed each time', () => {
    const { table, at, granule, map } = warm(format());
    const entries = 2 ** table.format.decoder.levelBits;
    const first = Math.ceil(START / entries) * entries - START;
    for (let round = 0; round < 3; round++) {
      for (const slot of [0, 1, 2, 3]) expect(map(first + slot)).toBe(0);
      expect(table.unmapRange(at(first), entries * granule)).toBe(4 * granule);
      table.freeTables(table.takeFreedTables());
      expect(table.stats().mappedPages).toBe(0);
    }
  });

  test('a large page takes the place of an empty leaf table, and gives it back', () => {
    const { table, at, granule, map, unmap } = warm(format());
    const entries = 2 ** table.format.decoder.levelBits;
    const first = Math.ceil(START / entries) * entries - START;
    for (const slot of [0, 1]) {
      expect(map(first + slot)).toBe(0);
      expect(unmap(first + slot)).toBe(granule);
    }
    const output = entries * granule;
    expect(table.mapRange(at(first), output, entries * granule, RW)).toBe(0);
    expect(map(first)).toBe(ERRNO.EADDRINUSE);
    expect(unmap(first + 1)).toBe(0);
    expect(table.splitLeaf(at(first))).toBe(0);
    expect(unmap(first + 1)).toBe(granule);
    expect(map(first + 1, entries + 1)).toBe(0);
    expect(table.translate(at(first + 1))).toBe(output + granule);
    expect(table.stats().mappedPages).toBe(entries * granule);
    expect(table.mergeLeaves(at(first), entries * granule)).toBeGreaterThan(0);
    expect(map(first + 1)).toBe(ERRNO.EADDRINUSE);
    expect(unmap(first)).toBe(entries * granule);
    expect(table.stats().mappedPages).toBe(0);
  });

  test('the pool grows in between', () => {
    const { table, pool, at, granule, map, unmap } = warm(format(), createPool());
    for (const slot of [0, 1, 2]) expect(map(slot)).toBe(0);
    const other = createTable(pool, vtdSecondStage({ levels: 4 }));
    const { size } = pool;
    expect(other.mapRange(0, 1, 2 * GIB_PAGES, RW)).toBe(0);
    expect(pool.size).toBeGreaterThan(size);
    for (const slot of [3, 4, 5]) expect(map(slot)).toBe(0);
    for (const slot of [0, 3]) expect(unmap(slot)).toBe(granule);
    const found = [0, 1, 2, 3, 4, 5].map((slot) => table.translate(at(slot)));
    expect(found).toEqual([-1, 1001, 1002, -1, 1004, 1005].map((n) => (n < 0 ? n : n * granule)));
    expect(table.stats().mappedPages).toBe(4 * granule);
  });

  test('an exhausted pool: single pages of known tables go on, others are -12 and change nothing', () => {
    const pool = createPool({ maxBytes: 2 * MIB });
    const { table, at, granule, map, unmap } = warm(format(), pool);
    const hog = createTable(pool, vtdSecondStage({ levels: 4 }));
    for (let i = 0; hog.mapRange(512 * i, 1, 1, RW) === 0; i++);
    const far = 3 * 2 ** table.format.decoder.levelBits;
    const left = pool.stats().freeBytes;
    for (let i = 1; left > 0 && map(i * far) === 0; i++); // larger tables may still find room
    for (const slot of [1, 2, 3]) expect(map(slot)).toBe(0);
    const before = state(table, pool);
    const unreached = 2 ** 19 - START;
    expect(map(unreached)).toBe(ERRNO.ENOMEM);
    expect(table.mapRange(at(unreached), 0, 2 * granule, RW)).toBe(ERRNO.ENOMEM);
    expect(state(table, pool)).toBe(before);
    expect(table.translate(at(unreached))).toBe(-1);
    for (const slot of [1, 2, 3]) expect(unmap(slot)).toBe(granule);
    for (const slot of [1, 2, 3]) expect(map(slot)).toBe(0);
    expect(state(table, pool)).toBe(before);
  });

  test('dirty bits and single pages in turn', () => {
    const { table, at, granule, map, unmap } = warm(format());
    const bitmap = new Uint8Array(64);
    const read = (flags = 0) => table.readAndClearDirty(at(0), 64 * granule, bitmap, 0, flags);
    for (const slot of [0, 1, 2]) map(slot, slot, RW | PROT.DIRTY_TRACKED);
    read();
    expect(table.setAccessedDirty(at(1), true)).toBe(0);
    const tracked = read(DIRTY.NO_CLEAR);
    expect(tracked).toBe(granule);
    expect(unmap(1)).toBe(granule);
    expect(read()).toBe(0);
  });

  test('after destroy', () => {
    const { table, map, unmap } = warm(format());
    for (const slot of [0, 1, 2]) map(slot);
    table.destroy();
    expect(map(3)).toBeLessThan(0);
    expect(unmap(0)).toBeLessThanOrEqual(0);
  });
});

test('the upper half of a sign-extended table', () => {
  const pool = createPool();
  const table = createTable(pool, x86FirstStage({ levels: 4 }));
  const top = 2 ** 52;
  for (let i = 1; i <= 600; i++) expect(table.mapRange(top - i, i, 1, RW)).toBe(0);
  for (let i = 1; i <= 600; i++) expect(table.translate(top - i)).toBe(i);
  expect(table.mapRange(top, 1, 1, RW)).toBeLessThan(0);
  for (let i = 1; i <= 600; i++) expect(table.unmapRange(top - i, 1)).toBe(1);
  expect(table.stats().mappedPages).toBe(0);
});

test('the last frames of a narrow input range', () => {
  const table = createTable(createPool(), armStage2({ iovaBits: 32, oaBits: 40, startLevel: 2 }));
  const end = 2 ** 20;
  for (let i = 1; i <= 4; i++) expect(table.mapRange(end - i, i, 1, RW)).toBe(0);
  expect(table.mapRange(end, 1, 1, RW)).toBe(ERRNO.ERANGE);
  expect(table.unmapRange(end, 1)).toBe(ERRNO.ERANGE);
  expect(table.unmapRange(end - 1, 1)).toBe(1);
});

test('the last output frames', () => {
  const table = createTable(createPool(), vtdSecondStage({ levels: 4, oaBits: 36 }));
  const end = 2 ** 24;
  for (let i = 1; i <= 4; i++) expect(table.mapRange(i, end - i, 1, RW)).toBe(0);
  expect(table.mapRange(9, end, 1, RW)).toBe(ERRNO.ERANGE);
  expect(table.translate(3)).toBe(end - 3);
});

test('output frames of 48 and more bits (LPA2)', () => {
  const table = createTable(createPool(), armStage1({ iovaBits: 52, oaBits: 52 }));
  const outputs = [1, 2 ** 36 - 1, 2 ** 36, 2 ** 39 + 5, 2 ** 40 - 1, 7];
  outputs.forEach((output, i) => {
    expect(table.mapRange(i, output, 1, RW)).toBe(0);
  });
  expect(outputs.map((_, i) => table.translate(i))).toEqual(outputs);
});
