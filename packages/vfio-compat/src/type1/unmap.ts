/**
 * `VFIO_IOMMU_UNMAP_DMA`.
 *
 * @linux drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_unmap_dma, vfio_dma_do_unmap
 * @module
 */
import { hex, rangeText, type VfioCall } from '../call.ts';
import { VFIO_DMA_UNMAP_FLAG } from '../uapi/constants.ts';
import { checkBitmapPage, type VfioBitmap, writeDirtyRun } from './dirty-bitmap.ts';
import { type DmaMapping, iovaOf, lastPfnOf, sizeOf } from './dma-list.ts';
import { checkUnmap, type DmaUnmap, type FrameRange } from './rules.ts';
import type { Type1Iommu } from './type1-iommu.ts';

const { GET_DIRTY_BITMAP, ALL, VADDR } = VFIO_DMA_UNMAP_FLAG;

/** @throws {IommuError} EINVAL for unknown flags, or GET_DIRTY_BITMAP with ALL or VADDR */
export const checkUnmapFlags = (call: VfioCall, flags: number): void => {
  call.checkFlags(flags, GET_DIRTY_BITMAP | ALL | VADDR);
  if ((flags & GET_DIRTY_BITMAP) === 0 || (flags & (ALL | VADDR)) === 0) return;
  throw call.refuse('EINVAL', 'unmap-flags', 'a dirty bitmap goes with a plain unmap only', {
    value: flags,
    accepted: 'GET_DIRTY_BITMAP 1 without ALL 2 and VADDR 4',
  });
};

/**
 * Remove whole mappings, or (VADDR) take their user addresses back.
 *
 * @param bitmap with GET_DIRTY_BITMAP, checked by `checkBitmap`
 * @returns bytes of the mappings in question, 0 when there were none
 * @throws {IommuError} EINVAL, EOVERFLOW with nothing changed; EFAULT for the bitmap, with earlier
 *   mappings gone
 */
export const unmapDma = (
  call: VfioCall,
  iommu: Type1Iommu,
  unmap: DmaUnmap,
  bitmap?: VfioBitmap,
): bigint => {
  const range = checkUnmap(call, unmap, iommu.pageBytes);
  if (bitmap) checkTracking(call, iommu, bitmap);
  const all = (unmap.flags & ALL) !== 0;
  if (iommu.v2 && !all) checkNotCut(call, iommu, range);
  const inside = iommu.mappings.collect(range.startPfn, range.lastPfn);
  // Type1 (v1) removes a mapping whole when its first page is in the range, and stops at one that
  // begins below the range.
  const [first] = inside;
  if (!iommu.v2 && first && first.startPfn < range.startPfn) return 0n;
  if (unmap.flags & VADDR) return invalidateVaddr(call, iommu, inside);
  return removeAll(call, iommu, inside, range, bitmap);
};

const checkTracking = (call: VfioCall, iommu: Type1Iommu, { pgsize }: VfioBitmap): void => {
  if (!iommu.dirtyTracking) {
    throw call.refuse('EINVAL', 'dirty-tracking-off', 'dirty pages are not tracked', {
      accepted: 'VFIO_IOMMU_DIRTY_PAGES START first',
    });
  }
  checkBitmapPage(call, pgsize, iommu.pageBytes);
};

/**
 * Type1v2 and dirty bitmaps: a range may not start or end inside a mapping.
 *
 * @throws {IommuError} EINVAL
 */
export const checkNotCut = (
  call: VfioCall,
  iommu: Type1Iommu,
  { startPfn, lastPfn }: FrameRange,
): void => {
  const low = iommu.mappings.find(startPfn, startPfn);
  const high = iommu.mappings.find(lastPfn, lastPfn);
  const cut =
    low && low.startPfn !== startPfn ? low : high && lastPfnOf(high) !== lastPfn ? high : undefined;
  if (!cut) return;
  const last = iovaOf(cut) + sizeOf(cut) - 1n;
  throw call.refuse(
    'EINVAL',
    'mapping-cut',
    `the range cuts the mapping ${rangeText(iovaOf(cut), last)}`,
    { range: { start: iovaOf(cut), last }, accepted: 'whole mappings, as they were mapped' },
  );
};

/** Take addresses back from all or none. */
const invalidateVaddr = (
  call: VfioCall,
  iommu: Type1Iommu,
  mappings: readonly DmaMapping[],
): bigint => {
  const invalid = mappings.find(({ vaddrInvalid }) => vaddrInvalid);
  if (invalid) {
    throw call.refuse('EINVAL', 'vaddr-invalid', `${hex(iovaOf(invalid))} has no address now`, {
      value: iovaOf(invalid),
      accepted: 'mappings that still have their user address',
    });
  }
  let bytes = 0n;
  for (const mapping of mappings) {
    mapping.vaddrInvalid = true;
    bytes += sizeOf(mapping);
  }
  iommu.vaddrInvalidCount += mappings.length;
  return bytes;
};

const removeAll = (
  call: VfioCall,
  iommu: Type1Iommu,
  mappings: readonly DmaMapping[],
  range: FrameRange,
  bitmap: VfioBitmap | undefined,
): bigint => {
  let bytes = 0n;
  let done = 0;
  try {
    for (const mapping of mappings) {
      if (bitmap) reportDirty(call, mapping, range.startPfn, bitmap);
      bytes += sizeOf(mapping);
      done++;
    }
  } finally {
    iommu.removeMappings(done === mappings.length ? mappings : mappings.slice(0, done));
  }
  return bytes;
};

/** Every page of a mapping counts as dirty: no device of a type1 container reports its writes. */
export const reportDirty = (
  call: VfioCall,
  mapping: DmaMapping,
  basePfn: number,
  { pgsize, data }: VfioBitmap,
): void => {
  const pagesPerBit = Number(pgsize / 4096n);
  const firstBit = (mapping.startPfn - basePfn) / pagesPerBit;
  writeDirtyRun(call, data, firstBit, mapping.pages / pagesPerBit);
};
