/** Typed calls, and the kernel's order of checks: where two rules are broken, which one answers. */
import { VFIO_EXTENSION } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import {
  type DmaMapInput,
  type DmaUnmapInput,
  VFIO_DIRTY_PAGES_FLAG,
  VFIO_DMA_MAP_FLAG,
  VFIO_DMA_UNMAP_FLAG,
} from '../../src/index.ts';
import { HOLE, MEMORY, openFixture, PAGE, READ_ONLY, refusalOf } from '../fixture.ts';

const { READ, WRITE, VADDR } = VFIO_DMA_MAP_FLAG;
const { GET_DIRTY_BITMAP, ALL } = VFIO_DMA_UNMAP_FLAG;
const BASE = { flags: READ | WRITE, vaddr: MEMORY, iova: 0x10_0000, size: 4 * PAGE };
const U64_MAX = 2n ** 64n - 1n;

describe('VFIO_IOMMU_MAP_DMA (vfio_dma_do_map)', () => {
  const rows: readonly (readonly [string, Partial<DmaMapInput>, string])[] = [
    ['a map', {}, 'ok'],
    ['read-only memory, read', { vaddr: READ_ONLY, flags: READ }, 'ok'],
    ['size 0 before flags', { size: 0, flags: 0 }, 'EINVAL size-zero'],
    ['wrap before flags', { iova: U64_MAX - 4095n, flags: 0 }, 'EOVERFLOW range-overflow'],
    ['wrap of vaddr', { vaddr: U64_MAX - 4095n }, 'EOVERFLOW range-overflow'],
    ['unknown flag first of all', { flags: 8, size: 0 }, 'EINVAL flags'],
    ['no right', { flags: 0 }, 'EINVAL map-flags'],
    ['VADDR with a right', { flags: VADDR | READ }, 'EINVAL map-flags'],
    ['flags before alignment', { flags: 0, iova: 1 }, 'EINVAL map-flags'],
    ['iova inside a page', { iova: 0x10_0800 }, 'EINVAL page-alignment'],
    ['vaddr inside a page', { vaddr: MEMORY + 1 }, 'EINVAL page-alignment'],
    ['size inside a page', { size: PAGE + 1 }, 'EINVAL page-alignment'],
    ['overlap before reserved', { iova: 0xfedf_f000, size: 2 * PAGE }, 'EEXIST iova-mapped'],
    ['MSI window', { iova: 0xfee0_0000, size: PAGE }, 'EINVAL iova-reserved'],
    ['above the aperture', { iova: 2n ** 57n, size: PAGE }, 'EINVAL iova-reserved'],
    ['nothing mapped there', { vaddr: HOLE }, 'EFAULT user-memory'],
    ['read-only memory, write', { vaddr: READ_ONLY }, 'EFAULT user-memory'],
    ['last page of all addresses', { vaddr: U64_MAX - 4095n, size: PAGE }, 'EFAULT user-memory'],
    ['a page of 2^47', { vaddr: 2 ** 47 - PAGE, size: 2 * PAGE }, 'EFAULT user-memory'],
    ['VADDR of no mapping', { flags: VADDR }, 'ENOENT iova-not-mapped'],
    [
      'VADDR of a valid one',
      { flags: VADDR, iova: 0xfedf_f000, size: PAGE },
      'EINVAL vaddr-update',
    ],
  ];

  test.each(rows)('%s', (_title, change, wanted) => {
    const { container, process } = openFixture();
    container.iommuMapDma({ ...BASE, iova: 0xfedf_f000, size: PAGE });
    expect(refusalOf(() => container.iommuMapDma({ ...BASE, ...change }))).toBe(wanted);
    const pages = wanted === 'ok' ? 5 : 1;
    expect([process.lockedPages, process.pinnedPages]).toEqual([pages, 0]);
  });

  test('dma_entry_limit: ENOSPC beyond it, and an unmap gives a place back', () => {
    const { container } = openFixture(VFIO_EXTENSION.TYPE1v2_IOMMU, { dmaEntryLimit: 2 });
    const map = (iova: number) => () => container.iommuMapDma({ ...BASE, iova });
    expect([0, 0x10000, 0x20000].map((iova) => refusalOf(map(iova)))).toEqual([
      'ok',
      'ok',
      'ENOSPC dma-avail',
    ]);
    expect(container.iommuGetInfo().dmaAvail).toBe(0);
    container.iommuUnmapDma({ iova: 0, size: 4 * PAGE });
    expect(container.iommuGetInfo().dmaAvail).toBe(1);
    expect(refusalOf(map(0x20000))).toBe('ok');
  });

  test('65535 mappings by default', () => {
    const { container } = openFixture();
    expect(container.iommuGetInfo().dmaAvail).toBe(65_535);
  });

  test.each([-1, 1.5, 2 ** 53, 2n ** 64n])('an iova of %s is no 64-bit integer', (iova) => {
    const { container } = openFixture();
    expect(() => container.iommuMapDma({ ...BASE, iova })).toThrow(/iova is .*64 bits/);
  });
});

describe('VFIO_IOMMU_UNMAP_DMA (vfio_dma_do_unmap)', () => {
  const rows: readonly (readonly [string, Partial<DmaUnmapInput>, string])[] = [
    ['what was mapped', {}, 'ok'],
    ['unknown flag first of all', { flags: 8, iova: 1 }, 'EINVAL flags'],
    ['a bitmap with ALL', { flags: GET_DIRTY_BITMAP | ALL }, 'EINVAL unmap-flags'],
    ['no bitmap', { flags: GET_DIRTY_BITMAP }, 'EINVAL bitmap'],
    ['iova inside a page before ALL', { flags: ALL, iova: 1 }, 'EINVAL page-alignment'],
    ['ALL with a size', { flags: ALL, iova: 0, size: PAGE }, 'EINVAL unmap-all'],
    ['size 0', { size: 0 }, 'EINVAL size-zero'],
    ['size before wrap', { iova: U64_MAX - 4095n, size: U64_MAX }, 'EINVAL page-alignment'],
    ['wrap', { iova: U64_MAX - 4095n, size: 2 * PAGE }, 'EOVERFLOW range-overflow'],
    ['the start of a mapping', { size: PAGE }, 'EINVAL mapping-cut'],
    ['the end of a mapping', { iova: 0x10_3000, size: PAGE }, 'EINVAL mapping-cut'],
    [
      'tracking is off',
      { flags: GET_DIRTY_BITMAP, bitmap: { pgsize: 4096, data: new Uint8Array(8) } },
      'EINVAL dirty-tracking-off',
    ],
  ];

  test.each(rows)('TYPE1v2: %s', (_title, change, wanted) => {
    const { container, process } = openFixture();
    container.iommuMapDma(BASE);
    const { iova, size } = BASE;
    expect(refusalOf(() => container.iommuUnmapDma({ iova, size, ...change }))).toBe(wanted);
    expect(process.lockedPages).toBe(wanted === 'ok' ? 0 : 4);
  });

  test.each([
    ['the first page: all of it goes', 0x10_0000, 1, 4, 0],
    ['from below into it: all of it goes', 0xf_f000, 2, 4, 0],
    ['the last page: it stays', 0x10_3000, 1, 0, 4],
    ['beside it', 0x10_4000, 1, 0, 4],
  ])('TYPE1: %s', (_title, iova, pages, removed, left) => {
    const { container, process } = openFixture(VFIO_EXTENSION.TYPE1_IOMMU);
    container.iommuMapDma(BASE);
    expect(container.iommuUnmapDma({ iova, size: pages * PAGE }).size).toBe(BigInt(removed * PAGE));
    expect(process.lockedPages).toBe(left);
  });
});

describe('VFIO_IOMMU_DIRTY_PAGES (vfio_iommu_type1_dirty_pages)', () => {
  const { START, STOP, GET_BITMAP } = VFIO_DIRTY_PAGES_FLAG;

  test('a TYPE1 container has none', () => {
    const { container } = openFixture(VFIO_EXTENSION.TYPE1_IOMMU);
    expect(refusalOf(() => container.iommuDirtyPages({ flags: START }))).toBe(
      'EACCES type1v2-only',
    );
  });

  test('every mapped page of a range is dirty, also those that an unmap takes', () => {
    const { container } = openFixture();
    container.iommuMapDma(BASE);
    container.iommuMapDma({ ...BASE, iova: 0x10_6000, size: 2 * PAGE });
    container.iommuDirtyPages({ flags: START });
    const data = new Uint8Array(8);
    const bitmap = { pgsize: PAGE, data };
    container.iommuDirtyPages({ flags: GET_BITMAP, iova: 0x10_0000, size: 8 * PAGE, bitmap });
    expect([...data]).toEqual([0b1100_1111, 0, 0, 0, 0, 0, 0, 0]);
    data.fill(0);
    const unmapped = container.iommuUnmapDma({
      flags: GET_DIRTY_BITMAP,
      iova: 0xf_f000,
      size: 9 * PAGE,
      bitmap,
    });
    expect(unmapped.size).toBe(BigInt(6 * PAGE));
    expect([...data]).toEqual([0b1001_1110, 1, 0, 0, 0, 0, 0, 0]);
    container.iommuDirtyPages({ flags: STOP });
    const get = { flags: GET_BITMAP, iova: 0, size: PAGE, bitmap };
    expect(refusalOf(() => container.iommuDirtyPages(get))).toBe('EINVAL dirty-tracking-off');
  });

  test('a bitmap that faults: mappings before it are gone, that one stays', () => {
    const { container, process } = openFixture();
    container.iommuMapDma({ ...BASE, iova: 0, size: 64 * PAGE });
    container.iommuMapDma({ ...BASE, iova: 64 * PAGE, size: PAGE });
    container.iommuDirtyPages({ flags: START });
    const bitmap = { pgsize: PAGE, size: 16, data: MEMORY + 64 * PAGE - 8 };
    const unmap = { flags: GET_DIRTY_BITMAP, iova: 0, size: 65 * PAGE, bitmap };
    expect(refusalOf(() => container.iommuUnmapDma(unmap))).toBe('EFAULT user-memory');
    expect(process.lockedPages).toBe(1);
    expect(container.iommuGetInfo().dmaAvail).toBe(65_534);
  });
});
