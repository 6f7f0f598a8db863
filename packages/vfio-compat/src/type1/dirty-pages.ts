/**
 * `VFIO_IOMMU_DIRTY_PAGES`. As in Linux, type1 tells no written page from another: every mapped page
 * is dirty. (iommufd's IOMMU_HWPT_GET_DIRTY_BITMAP reports what hardware recorded.)
 *
 * @linux drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_dirty_pages
 * @module
 */
import { hex, type VfioCall } from '../call.ts';
import { VFIO_DIRTY_PAGES_FLAG } from '../uapi/constants.ts';
import { checkBitmap, checkBitmapPage, type VfioBitmap } from './dirty-bitmap.ts';
import { checkTrackable } from './map.ts';
import type { Type1Iommu } from './type1-iommu.ts';
import { checkNotCut, reportDirty } from './unmap.ts';

const { START, STOP, GET_BITMAP } = VFIO_DIRTY_PAGES_FLAG;
const U64_MAX = (1n << 64n) - 1n;

/** `vfio_iommu_type1_dirty_bitmap_get`. */
export interface DirtyRange {
  /** First byte of IOVA. */
  readonly iova: bigint;
  /** Bytes. */
  readonly size: bigint;
  readonly bitmap: VfioBitmap;
}

/** @throws {IommuError} EACCES in a TYPE1 (v1) container */
export const checkDirtyType = (call: VfioCall, { v2 }: Type1Iommu): void => {
  if (v2) return;
  throw call.refuse('EACCES', 'type1v2-only', 'a TYPE1 container tracks no dirty pages', {
    accepted: 'VFIO_SET_IOMMU with TYPE1v2 3',
  });
};

/** @throws {IommuError} EINVAL unless exactly one flag is set */
export const checkDirtyFlags = (call: VfioCall, flags: number): void => {
  if (flags === START || flags === STOP || flags === GET_BITMAP) return;
  throw call.refuse('EINVAL', 'dirty-flags', `flags ${hex(flags)} name no one operation`, {
    value: flags,
    accepted: 'START 1, STOP 2 or GET_BITMAP 4',
  });
};

/** START: report pages from now on; again is no error. EINVAL for a mapping too large to track. */
export const startDirtyTracking = (call: VfioCall, iommu: Type1Iommu): void => {
  if (iommu.dirtyTracking) return;
  for (const { pages } of iommu.mappings.all()) checkTrackable(call, pages);
  iommu.dirtyTracking = true;
};

/** STOP; again is no error. */
export const stopDirtyTracking = (iommu: Type1Iommu): void => {
  iommu.dirtyTracking = false;
};

/**
 * GET_BITMAP: set the bits of every mapped page of a range that cuts no mapping.
 *
 * @throws {IommuError} EINVAL, EOVERFLOW, EFAULT
 */
export const getDirtyBitmap = (call: VfioCall, iommu: Type1Iommu, range: DirtyRange): void => {
  const { iova, size, bitmap } = range;
  if (size === 0n) throw call.refuse('EINVAL', 'size-zero', 'the size is 0', { value: 0 });
  if (iova + size - 1n > U64_MAX) {
    throw call.refuse('EOVERFLOW', 'range-overflow', `${hex(iova)} with ${hex(size)} wraps`, {
      value: iova,
      accepted: 'a range that ends at or below 2^64 - 1',
    });
  }
  checkBitmap(call, bitmap, size);
  const { pageBytes } = iommu;
  checkBitmapPage(call, bitmap.pgsize, pageBytes);
  if (iova % pageBytes !== 0n || size % pageBytes !== 0n) {
    throw call.refuse('EINVAL', 'page-alignment', 'iova or size is not made of whole pages', {
      value: iova % pageBytes === 0n ? size : iova,
      accepted: `multiples of ${pageBytes}`,
    });
  }
  if (!iommu.dirtyTracking) {
    throw call.refuse('EINVAL', 'dirty-tracking-off', 'dirty pages are not tracked', {
      accepted: 'VFIO_IOMMU_DIRTY_PAGES START first',
    });
  }
  reportRange(call, iommu, range);
};

const reportRange = (call: VfioCall, iommu: Type1Iommu, { iova, size, bitmap }: DirtyRange) => {
  const startPfn = Number(iova >> 12n);
  const lastPfn = Number((iova + size - 1n) >> 12n);
  checkNotCut(call, iommu, { startPfn, lastPfn });
  for (const mapping of iommu.mappings.collect(startPfn, lastPfn)) {
    reportDirty(call, mapping, startPfn, bitmap);
  }
};
