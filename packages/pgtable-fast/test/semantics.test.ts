import { describe, expect, test } from 'vitest';
import {
  amdV1,
  armStage1,
  armStage2,
  createPool,
  createTable,
  DIRTY,
  ERRNO,
  type LeafRecord,
  mockFormat,
  type PageTable,
  PROT,
  vtdSecondStage,
  x86FirstStage,
} from '../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
const page = (address: number) => address / 4096;

function leaves(table: PageTable): [iova: number, pages: number][] {
  const leaf: LeafRecord = { iovaPfn: 0, oaPfn: 0, pages: 0, level: 0, wordLo: 0, wordHi: 0 };
  const found: [number, number][] = [];
  for (let at = 0; table.nextLeaf(at, 2 ** 52, leaf); at = leaf.iovaPfn + leaf.pages) {
    found.push([leaf.iovaPfn, leaf.pages]);
  }
  return found;
}

const KINDS = {
  'vtd-ss': () => vtdSecondStage({ levels: 4 }),
  'x86-64': () => x86FirstStage({ levels: 4 }),
  'amd-v1': () => amdV1(),
  'arm-s1': () => armStage1({}),
  'arm-s2': () => armStage2({ iovaBits: 44 }),
};

describe.each(Object.entries(KINDS))(
  '%s: the cases of the kernel generic_pt tests',
  (name, format) => {
    const make = () => createTable(createPool(), format());

    test('pgsize_boundary: 0xfef80000 to 0x208b95d000, 0x20000 bytes', () => {
      const table = make();
      expect(table.mapRange(page(0xfef80000), page(0x208b95d000), 32, RW)).toBe(0);
      for (let i = 0; i < 32; i++) {
        expect(table.translate(page(0xfef80000) + i)).toBe(page(0x208b95d000) + i);
      }
      expect(table.unmapRange(page(0xfef80000), 32)).toBe(32);
    });

    test('mixed: 14 of 2 MiB, 3 of 1 GiB, 3 of 2 MiB', () => {
      const table = createTable(
        createPool(),
        name === 'amd-v1' ? amdV1({ pageSizesLg2: [12, 21, 30] }) : format(),
      );
      const start = page(0x3fe400000);
      const count = page(0x4c0600000) - start;
      expect(table.mapRange(start, start, count, RW)).toBe(0);
      const sizes = leaves(table).map(([, pages]) => pages);
      expect(sizes).toEqual([
        ...Array(14).fill(512),
        ...Array(3).fill(1 << 18),
        ...Array(3).fill(512),
      ]);
      expect(table.unmapRange(start, count)).toBe(count);
      expect(table.stats().mappedPages).toBe(0);
    });

    test('unmap_split: a smaller size at the start of a leaf removes and reports the whole leaf', () => {
      const table = make();
      table.mapRange(512, 1024, 512, RW);
      expect(table.unmapRange(513, 1)).toBe(0);
      expect(table.translate(513)).toBe(1025);
      expect(table.unmapRange(512, 1)).toBe(512);
      expect(table.translate(1023)).toBe(-1);
    });

    test('map_table_to_oa: an empty table gives way to a larger leaf, one in use does not', () => {
      const table = make();
      table.mapRange(512, 7, 2, RW);
      expect(table.mapRange(512, 512, 512, RW)).toBe(ERRNO.EADDRINUSE);
      table.unmapRange(512, 1);
      table.unmapRange(513, 1);
      expect(table.stats().freedTables).toBe(0);
      expect(table.mapRange(512, 512, 512, RW)).toBe(0);
      expect(table.stats().freedTables).toBe(1);
      expect(leaves(table)).toEqual([[512, 512]]);
    });

    test('an occupied frame anywhere refuses the whole range and changes nothing', () => {
      const table = make();
      table.mapRange(3000, 5, 1, RW);
      const before = table.stats();
      expect(table.mapRange(0, 1, 4096, RW)).toBe(ERRNO.EADDRINUSE);
      expect(table.mapRuns(2000, Float64Array.of(9, 900, 77, 200), 2, RW)).toBe(ERRNO.EADDRINUSE);
      expect(table.stats()).toEqual(before);
      expect(leaves(table)).toEqual([[3000, 1]]);
    });

    test.each([
      ['no permission', 0, 0, 1, 0, ERRNO.EINVAL],
      ['an unknown bit', 0, 0, 1, 1 << 20, ERRNO.EINVAL],
      ['length 0', 0, 0, 0, RW, ERRNO.EINVAL],
      ['a fraction', 0.5, 0, 1, RW, ERRNO.EINVAL],
      ['not a number', 0, Number.NaN, 1, RW, ERRNO.EINVAL],
      ['a negative frame', -1, 0, 1, RW, undefined],
      ['a fraction of a length', 0, 0, 1.5, RW, ERRNO.EINVAL],
      ['infinity', 0, 0, Number.POSITIVE_INFINITY, RW, ERRNO.EINVAL],
      ['input beyond the width', 2 ** 52, 0, 1, RW, ERRNO.ERANGE],
      ['output beyond the width', 0, 2 ** 40, 1, RW, ERRNO.ERANGE],
      ['output that runs out', 0, 2 ** 36 * 16 - 1, 2, RW, undefined],
    ])('mapRange with %s', (_, iova, oa, count, prot, errno) => {
      const table = make();
      const result = table.mapRange(iova, oa, count, prot);
      expect(result).toBeLessThan(0);
      if (errno !== undefined) expect(result).toBe(errno);
      expect(table.stats().mappedPages).toBe(0);
    });
  },
);

describe('amd-v1', () => {
  test('increase_level: each map just past the top adds one level, up to six', () => {
    const table = createTable(createPool(), amdV1({ levels: 1 }));
    const roots = new Set([table.rootPa]);
    for (let levels = 1; levels <= 6; levels++) {
      expect(table.levels).toBe(levels);
      const past = 2 ** (9 * levels);
      if (levels === 6) break;
      expect(table.mapRange(past, levels, 1, RW)).toBe(0);
      roots.add(table.rootPa);
    }
    expect(roots.size).toBe(6);
    for (let levels = 1; levels < 6; levels++)
      expect(table.translate(2 ** (9 * levels))).toBe(levels);
    expect(table.mapRange(2 ** 52 - 1, 3, 1, RW)).toBe(0);
    expect(table.translate(2 ** 52 - 1)).toBe(3);
  });

  test('every power of two but 512 GiB', () => {
    for (let lg2 = 0; lg2 < 40; lg2++) {
      const table = createTable(createPool(), amdV1());
      expect(table.mapRange(2 ** lg2, 2 ** lg2, 2 ** lg2, RW)).toBe(0);
      const expected = lg2 === 27 ? [2 ** 26, 2 ** 26] : [2 ** lg2];
      expect(leaves(table).map(([, pages]) => pages)).toEqual(expected);
    }
  });

  test('a failed map does not keep the grown top', () => {
    const table = createTable(createPool(), amdV1());
    table.mapRange(0, 1, 1, RW);
    const { rootPa } = table;
    expect(table.mapRange(0, 1, 2 ** 28 + 1, RW)).toBe(ERRNO.EADDRINUSE);
    expect([table.levels, table.rootPa]).toEqual([3, rootPa]);
  });

  test('any dirty copy of a replicated leaf counts, and cleaning cleans all copies (H.4)', () => {
    const table = createTable(createPool(), amdV1());
    table.mapRange(256, 256, 256, RW);
    const bitmap = new Uint8Array(64);
    table.setAccessedDirty(256 + 200, true);
    table.setAccessedDirty(256 + 3, true);
    expect(table.readAndClearDirty(256, 256, bitmap, 0, DIRTY.NO_CLEAR)).toBe(256);
    expect(table.readAndClearDirty(256, 256, bitmap, 0)).toBe(256);
    expect(bitmap.subarray(0, 32).every((byte) => byte === 0xff)).toBe(true);
    expect(table.readAndClearDirty(256, 256, bitmap, 0)).toBe(0);
  });
});

describe.each([
  ['stage 1', armStage1({ contiguous: true, dirtyTracking: true })],
  ['stage 2', armStage2({ contiguous: true, dirtyTracking: true, iovaBits: 43 })],
])('arm, contiguous leaves: %s (Arm ARM D8)', (_, format) => {
  // Sixteen entries are one leaf: hardware may mark any of them.
  test.each([0, 7, 15])('dirty in entry %i is dirty in all sixteen', (entry) => {
    const table = createTable(createPool(), format);
    expect(table.mapRange(512, 1024, 512, RW | PROT.SMALLEST_PAGES)).toBe(0);
    expect(table.mapRange(16, 32, 16, RW)).toBe(0);
    expect(leaves(table)[0]).toEqual([16, 16]);
    const bitmap = new Uint8Array(8);
    const read = (from: number, count: number, flags = 0) =>
      table.readAndClearDirty(from, count, bitmap.fill(0), 0, flags);
    read(0, 64); // fresh writable pages are dirty
    expect(read(0, 64)).toBe(0);
    expect(table.setAccessedDirty(16 + entry, true)).toBe(0);
    expect(read(0, 64, DIRTY.NO_CLEAR)).toBe(16);
    expect([...bitmap]).toEqual([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    expect(read(16 + ((entry + 5) % 16), 1, DIRTY.NO_CLEAR)).toBe(1);
    expect(read(0, 64)).toBe(16);
    expect(read(0, 64)).toBe(0);
    table.setAccessedDirty(16 + entry, true);
    expect(table.splitLeaf(16)).toBe(0);
    expect(leaves(table).filter(([at]) => at < 32).length).toBe(16);
    expect(read(0, 64)).toBe(16);
    expect(read(0, 64)).toBe(0);
  });
});

test('mock: frames are 2 KiB', () => {
  const table = createTable(createPool(), mockFormat());
  expect([table.iovaBits, table.oaBits, table.pageSizesLg2[0]]).toEqual([56, 51, 11]);
  expect(table.mapRange(8192 + 1, 3, 1, RW)).toBe(0);
  expect(table.translate(8193)).toBe(3);
  expect(table.translate(8192)).toBe(-1);
});

test('a dirty leaf longer than one block of the bitmap is reported whole', () => {
  const table = createTable(
    createPool(),
    armStage1({ iovaBits: 52, oaBits: 52, dirtyTracking: true }),
  );
  const pages = 2 ** 27; // 512 GiB
  expect(table.mapRange(pages, 0, pages, RW)).toBe(0);
  const bitmap = new Uint8Array(pages / 8);
  expect(table.readAndClearDirty(pages, pages, bitmap, 0, DIRTY.NO_CLEAR)).toBe(pages);
  expect(table.readAndClearDirty(pages, pages, bitmap, 0)).toBe(pages);
  expect(bitmap.every((byte) => byte === 0xff)).toBe(true);
  expect(table.readAndClearDirty(pages, pages, bitmap, 0)).toBe(0);
});

test('lists longer than the scratch area', () => {
  const table = createTable(createPool(), vtdSecondStage({ levels: 4 }));
  const count = 20_000;
  const list = Float64Array.from({ length: count }, (_, i) => (i * 7) % 65_536);
  expect(table.mapList(100, list, count, RW)).toBe(0);
  const out = new Float64Array(count);
  table.translateBatch(
    Float64Array.from(list, (_, i) => 100 + i),
    out,
    count,
  );
  expect(out).toEqual(list);
  const runs = new Float64Array(2 * count);
  expect(table.readRuns(100, count, runs)).toBe(count);
  expect(runs.filter((_, i) => i % 2 === 0)).toEqual(list);
  expect(table.readRuns(100, count, runs.subarray(0, 10))).toBe(5);
  const again = Float64Array.from({ length: 2 * 9000 }, (_, i) => (i % 2 === 0 ? i * 3 : 2));
  expect(table.mapRuns(50_000, again, 9000, RW)).toBe(0);
  expect(table.translate(50_000 + 17_999)).toBe((2 * 9000 - 2) * 3 + 1);
});

describe.each(Object.entries(KINDS))('%s: holes', (_, format) => {
  // 512 frames without one, unmapped in windows that clear in blocks, in a tail, and one by one.
  test.each([0, 1, 7, 100, 255, 256, 383, 398, 399, 500, 511])('frame %i is not mapped', (hole) => {
    for (const [from, to] of [
      [100, 400],
      [1, 512],
      [0, 511],
      [97, 200],
      [380, 399],
    ] as const) {
      const table = createTable(createPool(), format());
      table.mapRange(0, 1, 512, RW);
      table.unmapRange(hole, 1);
      const inside = hole >= from && hole < to ? 1 : 0;
      expect(table.unmapRange(from, to - from)).toBe(to - from - inside);
      expect(table.stats().mappedPages).toBe(511 - (to - from - inside));
    }
  });

  test('merging keeps the dirty state of any part, splitting gives it to every part', () => {
    const table = createTable(createPool(), format());
    const prot = RW | PROT.SMALLEST_PAGES | PROT.DIRTY_TRACKED;
    const bitmap = new Uint8Array(64);
    const read = (flags = 0) => table.readAndClearDirty(0, 512, bitmap.fill(0), 0, flags);
    for (const dirty of [0, 1, 300, 511]) {
      expect(table.mapRange(0, 512, 512, prot)).toBe(0);
      read();
      table.setAccessedDirty(dirty, true);
      expect(read(DIRTY.NO_CLEAR)).toBe(1);
      expect(table.mergeLeaves(0, 512)).toBeGreaterThan(0);
      expect(leaves(table)).toEqual([[0, 512]]);
      expect(read(DIRTY.NO_CLEAR)).toBe(512);
      expect(table.splitLeaf(77)).toBe(0);
      expect(leaves(table).length).toBe(512);
      expect(read()).toBe(512);
      expect(read()).toBe(0);
      expect(table.translate(77)).toBe(512 + 77);
      table.unmapRange(0, 512);
    }
  });
});
