/** Pools that span more than 4 GiB of addresses: the low halves of their tables' addresses are not unique. */
import { describe, expect, test } from 'vitest';
import {
  amdV1,
  armStage1,
  createPool,
  createTable,
  createWalker,
  createWalkTrace,
  mockFormat,
  type PageTableFormat,
  PROT,
  vtdSecondStage,
  x86FirstStage,
} from '../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
const MIB = 2 ** 20;
const GIB_PAGES = 2 ** 18;
const FOUR_GIB = 2 ** 32;
const FORMATS: [string, PageTableFormat][] = [
  ['vtd-ss', vtdSecondStage({ levels: 4 })],
  ['x86-64', x86FirstStage({ levels: 5 })],
  ['amd-v1', amdV1({ levels: 1 })],
  ['arm-s1', armStage1()],
];

describe.each(FORMATS)('%s', (_, format) => {
  test.each([
    ['whole shards of 4 GiB', 2 ** 36, 3 * FOUR_GIB],
    ['a first shard that ends at a multiple of 4 GiB', 2 ** 36 + FOUR_GIB - 8 * MIB, 2 * FOUR_GIB],
    ['addresses of 47 bits', 2 ** 47 - FOUR_GIB, 3 * FOUR_GIB],
  ])('%s', (_title, base, maxBytes) => {
    const pool = createPool({ base, maxBytes });
    // The emptiest shard gets the next table.
    const tables = [createTable(pool, format)];
    while (pool.addShard() !== undefined) tables.push(createTable(pool, format));
    const { shards } = pool;
    expect([tables.length, shards.length]).toEqual([3, 3]);
    const used = new Set(tables.map(({ rootPa }) => pool.regionAt(rootPa)));
    expect(used.size).toBeGreaterThan(1);
    tables.forEach((table, i) => {
      expect(table.mapRange(GIB_PAGES - 700, 1000 * i + 1, 1400, RW)).toBe(0);
    });
    const walker = createWalker(format);
    const trace = createWalkTrace();
    tables.forEach((table, i) => {
      const shard = pool.regionAt(table.rootPa);
      for (const at of [0, 699, 700, 1399]) {
        const iova = GIB_PAGES - 700 + at;
        expect(table.translate(iova)).toBe(1000 * i + 1 + at);
        expect(walker.walk(pool, table.rootPa, table.levels, iova, trace)).toBe(1000 * i + 1 + at);
        // Every pointer leads into the table's own shard.
        for (const pa of trace.entryPa.subarray(0, trace.steps)) {
          expect(pool.regionAt(pa)).toBe(shard);
        }
      }
    });
    expect(tables[0]?.unmapRange(GIB_PAGES - 700, 1400)).toBe(1400);
    tables[0]?.freeTables(tables[0].takeFreedTables());
    expect(tables.map((table) => table.translate(GIB_PAGES))).toEqual([-1, 1701, 2701]);
    for (const table of tables) table.destroy();
    expect(pool.stats().usedBytes).toBe(used.size * 4096); // their pages of control blocks
  });
});

test('the same offset in every shard: tables differ in the high halves of their addresses alone', () => {
  const pool = createPool({ base: 2 ** 36, maxBytes: 3 * FOUR_GIB });
  pool.addShard();
  pool.addShard();
  const format = vtdSecondStage({ levels: 4 });
  const tables = [0, 1, 2].map(() => createTable(pool, format));
  expect(tables.map(({ rootPa }) => rootPa % FOUR_GIB)).toEqual(
    tables.map(() => (tables[0]?.rootPa as number) % FOUR_GIB),
  );
  expect(tables.map(({ rootPa }) => Math.floor(rootPa / FOUR_GIB))).toEqual([16, 17, 18]);
  // Borders of the regions: each address belongs to one shard or to none.
  for (const [i, shard] of pool.shards.entries()) {
    expect(pool.regionAt(shard.base)).toBe(shard);
    expect(pool.regionAt(shard.base + shard.size - 1)).toBe(shard);
    expect(pool.regionAt(shard.base + shard.size)).toBeUndefined();
    expect(pool.regionAt(shard.base - 1)).toBeUndefined();
    expect(shard.base).toBe(2 ** 36 + i * FOUR_GIB);
  }
});

describe.each([
  ['4 KiB', vtdSecondStage({ levels: 4 }), 1],
  ['64 KiB', armStage1({ granule: 65536 }), 16],
] as const)('tables of %s up to the last bytes below 4 GiB', (_, format, granule) => {
  test.each([2, 4, 6])('in %i MiB', (mib) => {
    const pool = createPool({ base: 2 ** 36 + FOUR_GIB - mib * MIB, maxBytes: mib * MIB });
    const table = createTable(pool, format);
    const entries = 2 ** format.decoder.levelBits;
    const size = entries * granule;
    const output = (i: number) => (i * entries + 1) * granule;
    let leafTables = 0;
    while (table.mapRange(leafTables * size, output(leafTables), size, RW) === 0) leafTables++;
    // Not in use: records of each chunk, header and scratch area, the last page; what a block of 64 KiB misses.
    const { usedBytes, totalBytes } = pool.stats();
    const lost = ((mib / 2) * (granule > 1 ? 16 : 1) + 17 + 1) * 4096;
    expect(totalBytes - usedBytes).toBeLessThanOrEqual(lost + 2 * (granule - 1) * 4096);
    expect(totalBytes).toBe(mib * MIB);
    for (let i = 0; i < leafTables; i++) {
      const last = (i + 1) * size - granule;
      expect([i, table.translate(last)]).toEqual([i, output(i) + size - granule]);
      expect(table.translate(i * size)).toBe(output(i));
    }
    expect(table.stats().mappedPages).toBe(leafTables * size);
    expect(table.unmapRange(0, size * leafTables)).toBe(size * leafTables);
  });
});

test.each<[string, PageTableFormat, number]>([
  ['arm-s1, 48 bits', armStage1(), 48],
  ['arm-s1, LPA2', armStage1({ oaBits: 52 }), 52],
  ['arm-s1, 64 KiB', armStage1({ granule: 65536 }), 52],
  ['mock', mockFormat(), 51],
  ['vtd-ss', vtdSecondStage({ levels: 4 }), 52],
])('a pool where no entry can point: %s', (_, format, bits) => {
  const inReach = createTable(
    createPool({ base: 2 ** bits - FOUR_GIB, maxBytes: 4 * MIB }),
    format,
  );
  const granule = 2 ** (format.granuleLg2 - format.frameLg2);
  expect(inReach.mapRange(0, granule, granule, RW)).toBe(0);
  const trace = createWalkTrace();
  expect([inReach.translate(0), inReach.walk(0, trace)]).toEqual([granule, granule]);
  if (bits === 52) return; // no pool lies higher
  const beyond = createPool({ base: 2 ** bits, maxBytes: 4 * MIB });
  expect(() => createTable(beyond, format)).toThrow(/pool lies at 0x\w+, entries of .* bits; give/);
  const across = createPool({ base: 2 ** bits - 4 * MIB, maxBytes: 8 * MIB });
  // Half of the first shard is used up: a further one is added, which is of no use.
  const first = createTable(across, format);
  const entries = granule * 2 ** format.decoder.levelBits;
  for (let i = 0; across.stats().usedBytes < 2.5 * MIB; i++) {
    expect(first.mapRange(i * entries, granule, granule, RW)).toBe(0);
  }
  expect(createTable(across, format).rootPa).toBeLessThan(2 ** bits);
  expect(across.shards.map(({ base }) => base)).toEqual([2 ** bits - 4 * MIB, 2 ** bits]);
});
