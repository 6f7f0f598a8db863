import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  amdV1,
  armStage2,
  attachPool,
  attachTable,
  createPool,
  createTable,
  type PageTableFormat,
  tableHandle,
  vtdSecondStage,
  x86FirstStage,
} from '../src/index.ts';
import { CONTROL, FIRST_PAGE, HEADER, SCRATCH_BYTES } from '../src/pool/pool-layout.ts';

const RW = 3;
const MIB = 1 << 20;
const GIB_PAGES = 1 << 18;

describe('places of the pool data', () => {
  const pool = readFileSync(new URL('../wasm/pool.ts', import.meta.url), 'utf8');
  const control = readFileSync(new URL('../wasm/control-block.ts', import.meta.url), 'utf8');
  const inPool = (name: string) =>
    Number(pool.match(new RegExp(`${name}\\(.*ORIGIN \\+ 4096 \\+ (\\d+)`))?.[1]);
  test.each([
    ['bumpAt', HEADER.BUMP],
    ['limitAt', HEADER.LIMIT],
    ['inUseAt', HEADER.IN_USE],
    ['freeCount', HEADER.FREE_COUNTS],
  ])('%s', (name, index) => expect(4096 + inPool(name)).toBe(index * 4));
  test.each([
    ['oaLimit', CONTROL.OA_LIMIT],
    ['pageSizes', CONTROL.PAGE_SIZES],
    ['order', CONTROL.ORDER],
    ['rootOrder', CONTROL.ROOT_ORDER],
    ['freedHead', CONTROL.FREED_HEAD],
    ['freedCount', CONTROL.FREED_COUNT],
    ['rootEntries', CONTROL.ROOT_ENTRIES],
    ['maxLevels', CONTROL.MAX_LEVELS],
    ['tables', CONTROL.TABLES],
    ['lastSlot', CONTROL.LAST_SLOT],
  ])('%s', (name, index) => {
    const offset = control.match(
      new RegExp(`function ${name}\\(.*load<u\\d+>\\(block, (\\d+)\\)`),
    )?.[1];
    expect(Number(offset)).toBe(index * 4);
  });
  test('scratch area', () => {
    expect(Number(pool.match(/SCRATCH_BYTES: u32 = (\d+)/)?.[1] ?? SCRATCH_BYTES)).toBe(
      SCRATCH_BYTES,
    );
    expect(FIRST_PAGE).toBe(18);
  });
});

describe('where the pool lies', () => {
  test.each([
    ['4 GiB aligned', 0x10_0000_0000],
    ['low', 0x20_0000],
    ['zero', 0],
    ['just below 4 GiB', 0xffe0_0000],
    ['high', 2 ** 51 + 0x4000_0000],
  ])('table pointers are host-physical addresses: %s', (_, base) => {
    const pool = createPool({ base, maxBytes: 64 * MIB });
    const table = createTable(pool, x86FirstStage({ levels: 4 }));
    expect(table.mapRange(7, 99, 3, RW)).toBe(0);
    expect(table.rootPa).toBeGreaterThan(base);
    let pa = table.rootPa;
    for (let level = 3; level >= 0; level--) {
      const region = pool.regionAt(pa);
      expect(region).toBeDefined();
      const index = level === 0 ? 7 : 0;
      const at = (pa - (region?.base ?? 0)) / 4 + index * 2;
      const lo = (region?.i32[at] as number) >>> 0;
      const hi = (region?.i32[at + 1] as number) >>> 0;
      pa = (hi & 0xfffff) * 2 ** 32 + (lo - (lo % 4096));
    }
    expect(pa).toBe(99 * 4096);
  });

  test.each([
    [{ base: 4096 }, /base is 4096, must be a multiple of 2 MiB/],
    [{ base: -1 }, /base is -1/],
    [{ maxBytes: 5000 }, /maxBytes is 5000/],
    [{ shardBytes: 2 ** 33 }, /shardBytes is 8589934592/],
    [{ initialBytes: 0 }, /initialBytes is 0/],
    [{ prefaultBytes: Number.NaN }, /prefaultBytes is NaN/],
  ])('createPool(%j) says what is wrong', (options, message) => {
    expect(() => createPool(options)).toThrow(message);
  });
});

describe('growth and reuse', () => {
  test('grows while tables are mapped, tells listeners, and views follow', () => {
    const pool = createPool();
    const sizes: number[] = [];
    const stop = pool.onGrow((region, isNew) => {
      expect(isNew).toBe(false);
      expect(region.i32.byteLength).toBe(region.size);
      sizes.push(region.size);
    });
    const table = createTable(pool, vtdSecondStage({ levels: 4 }));
    expect(table.mapRange(0, 1, 16 * GIB_PAGES, RW)).toBe(0);
    expect(sizes.length).toBeGreaterThan(0);
    expect(pool.size).toBe(sizes.at(-1));
    expect(table.translate(16 * GIB_PAGES - 1)).toBe(16 * GIB_PAGES);
    stop();
  });

  test('freed tables are reused only after freeTables', () => {
    const pool = createPool();
    const table = createTable(pool, vtdSecondStage({ levels: 4 }));
    table.mapRange(0, 1, GIB_PAGES, RW);
    const used = pool.stats().usedBytes;
    expect(table.unmapRange(0, GIB_PAGES)).toBe(GIB_PAGES);
    expect(pool.stats().usedBytes).toBe(used);
    expect(table.stats().freedTables).toBe(513);
    const freed = table.takeFreedTables();
    expect(table.takeFreedTables()).toBe(0);
    expect(pool.stats().usedBytes).toBe(used);
    table.freeTables(freed);
    expect(pool.stats().usedBytes).toBe(used - 513 * 4096);
    const { size } = pool;
    table.mapRange(GIB_PAGES, 1, GIB_PAGES, RW);
    expect(pool.size).toBe(size);
  });

  test('destroy gives everything back, and a destroyed table answers with errors', () => {
    const pool = createPool();
    const table = createTable(pool, amdV1());
    table.mapRange(0, 1, GIB_PAGES, RW);
    table.destroy();
    table.destroy();
    expect(pool.stats().usedBytes).toBe(4096);
    expect(table.translate(0)).toBe(-1);
    expect(table.mapRange(0, 1, 1, RW)).toBeLessThan(0);
    expect(table.mapRange(0, 1, 5, RW)).toBeLessThan(0);
    expect(table.unmapRange(0, 5)).toBeLessThanOrEqual(0);
    expect(table.takeFreedTables()).toBe(0);
  });

  test('concatenated roots are aligned to their size', () => {
    const pool = createPool({ base: 0x4000_0000 });
    const small = createTable(pool, vtdSecondStage({ levels: 4 }));
    const root = createTable(pool, armStage2({ granule: 65536, iovaBits: 46, oaBits: 48 }));
    expect(root.levels).toBe(2);
    expect(root.rootPa % (16 * 65536)).toBe(0);
    expect(small.mapRange(0, 0, 1, RW)).toBe(0);
    expect(root.mapRange(2 ** 34 - 16, 32, 16, RW)).toBe(0);
    expect(root.translate(2 ** 34 - 1)).toBe(47);
  });

  test('further shards continue the address range', () => {
    const pool = createPool({ maxBytes: 8 * MIB, shardBytes: 4 * MIB });
    const added: number[] = [];
    pool.onGrow((region, isNew) => isNew && added.push(region.base));
    const format = vtdSecondStage({ levels: 4 });
    const first = createTable(pool, format);
    expect(first.mapRange(0, 1, GIB_PAGES + 90_000, RW)).toBe(0);
    const second = createTable(pool, format);
    expect(added).toEqual([pool.base + 4 * MIB]);
    expect(second.rootPa).toBeGreaterThan(pool.base + 4 * MIB);
    expect(second.mapRange(0, 5, 1000, RW)).toBe(0);
    expect([first.translate(77), second.translate(77)]).toEqual([78, 82]);
    expect(pool.regionAt(second.rootPa)?.base).toBe(pool.base + 4 * MIB);
  });
});

describe('exhaustion is -12 with nothing changed', () => {
  const formats: [string, PageTableFormat][] = [
    ['vtd-ss', vtdSecondStage({ levels: 5 })],
    ['amd-v1, whose top grows first', amdV1({ levels: 1 })],
    ['arm-s2', armStage2({})],
  ];
  test.each(formats)('%s: at every number of tables left', (_, format) => {
    for (let left = 0; left < 12; left++) {
      const pool = createPool({ maxBytes: 2 * MIB });
      const hog = createTable(pool, vtdSecondStage({ levels: 3 }));
      const table = createTable(pool, format);
      expect(table.mapRange(3, 4, 1, RW)).toBe(0);
      let pages = 0;
      while (hog.mapRange(512 * pages, 1, 1, RW) === 0) pages++;
      for (let i = 0; i < left; i++) hog.unmapRange(512 * i, 512);
      hog.freeTables(hog.takeFreedTables());
      const before = {
        ...table.stats(),
        root: table.rootPa,
        levels: table.levels,
        pool: pool.stats().usedBytes,
      };
      const error = table.mapRange(2 ** 27 - 1024, 1, 4096, RW);
      const runs = Float64Array.of(9, 2000, 5, 2096);
      const listed = error === 0 ? -12 : table.mapRuns(2 ** 27 - 1024, runs, 2, RW);
      expect([0, -12]).toContain(error);
      if (error === 0) {
        for (let i = 0; i < 4096; i += 511) expect(table.translate(2 ** 27 - 1024 + i)).toBe(1 + i);
        expect(table.translate(3)).toBe(4);
        expect(table.unmapRange(2 ** 27 - 1024, 4096)).toBe(4096);
        continue;
      }
      expect(listed).toBe(-12);
      const after = {
        ...table.stats(),
        root: table.rootPa,
        levels: table.levels,
        pool: pool.stats().usedBytes,
      };
      expect(after).toEqual(before);
      expect(table.translate(3)).toBe(4);
      expect(table.translate(2 ** 27 - 1024)).toBe(-1);
    }
  });

  test('a list counts the tables that its runs share once', () => {
    const pool = createPool({ maxBytes: 2 * MIB });
    const table = createTable(pool, vtdSecondStage({ levels: 3 }));
    expect(table.mapRange(0, 5, 1, RW)).toBe(0);
    let last = 1;
    while (table.mapRange(512 * last, 1, 1, RW) === 0) last++;
    table.unmapRange(512, 512);
    table.freeTables(table.takeFreedTables()); // one table left
    const runs = Float64Array.of(9, 3, 77, 1, 99, 5, 3, 1);
    expect(table.mapRuns(600, runs, 4, RW)).toBe(0);
    expect([600, 603, 604, 609].map((pfn) => table.translate(pfn))).toEqual([9, 77, 99, 3]);
  });

  test('a pool without room for a root says so', () => {
    const pool = createPool({ maxBytes: 2 * MIB });
    expect(() => {
      for (;;) createTable(pool, vtdSecondStage({ levels: 4 }));
    }).toThrow(/no memory for a vtd-ss root of 4096 bytes/);
  });
});

describe('a second user of the same memory', () => {
  test('reads with a scratch area of its own', () => {
    const pool = createPool({ shared: true });
    const format = vtdSecondStage({ levels: 4 });
    expect(() => pool.handle()).toThrow(/no table yet/);
    const table = createTable(pool, format);
    table.mapRange(0, 1000, 5000, RW);
    const handle = pool.handle();
    const other = attachPool(handle);
    const view = attachTable(other, format, tableHandle(table));
    expect(view.translate(4999)).toBe(5999);
    expect(other.shards[0]?.scratchOffset).not.toBe(pool.shards[0]?.scratchOffset);
    table.mapRange(2 ** 20, 1, 8 * GIB_PAGES, RW); // grows the memory
    expect(view.translate(2 ** 20 + 8 * GIB_PAGES - 1)).toBe(8 * GIB_PAGES);
    expect(other.regionAt(pool.base + pool.size - 4096)).toBeDefined();
    const out = new Float64Array(8);
    expect(view.readRuns(0, 5001, out)).toBe(2);
    expect(() => createPool().handle()).toThrow(/not shared/);
  });
});
