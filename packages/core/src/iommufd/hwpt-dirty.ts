/**
 * Dirty tracking of paging HWPTs.
 *
 * @linux drivers/iommu/iommufd/hw_pagetable.c iommufd_hwpt_set_dirty_tracking,
 *   io_pagetable.c iopt_read_and_clear_dirty_data
 * @module
 */
import type { DirtyOps } from '../driver/domains.ts';
import { DIRTY_TRACKING, GET_DIRTY_BITMAP, U64_MAX } from '../uapi/constants.ts';
import type { IommuCommand } from '../uapi/structs.ts';
import type { Call } from './call.ts';
import { DirtyBitmap, type DirtyRange } from './dirty-bitmap.ts';
import type { HwptPaging } from './hwpt.ts';

const dirtyOpsOf = (call: Call, hwpt: HwptPaging): DirtyOps => {
  const { dirty } = hwpt.domain;
  if (dirty) return dirty;
  throw call.refuse('EOPNOTSUPP', 'dirty-domain', `HWPT ${hwpt.id} tracks no dirty pages`, {
    value: hwpt.id,
    accepted: 'a HWPT allocated with IOMMU_HWPT_ALLOC_DIRTY_TRACKING',
  });
};

/** `IOMMU_HWPT_SET_DIRTY_TRACKING`. */
export const hwptSetDirtyTracking = (
  call: Call,
  command: IommuCommand<'IOMMU_HWPT_SET_DIRTY_TRACKING'>,
): void => {
  call.answers = false;
  call.checkFlags(command.flags, DIRTY_TRACKING.ENABLE);
  const hwpt = call.context.find(call.op, command.hwptId, 'HWPT_PAGING');
  const dirty = dirtyOpsOf(call, hwpt);
  const enable = (command.flags & DIRTY_TRACKING.ENABLE) !== 0;
  if (enable) clearAll(hwpt, dirty);
  dirty.setTracking(enable);
};

/** Forget what was recorded before: tracking starts with everything clean. */
const clearAll = (hwpt: HwptPaging, dirty: DirtyOps): void => {
  const granuleLg2 = BigInt(hwpt.domain.granuleLg2);
  hwpt.ioas.forEachArea(0n, U64_MAX, (start, last) => {
    const frame = Number(start >> granuleLg2);
    dirty.readAndClear(frame, Number(last >> granuleLg2) - frame + 1, () => {}, true);
    return true;
  });
};

/**
 * Call `visit` with the granules of each area inside `[start, last]`, up to the first gap: what lies
 * behind a gap is not reported.
 *
 * @linux drivers/iommu/iommufd/io_pagetable.c __iommu_read_and_clear_dirty
 */
const forEachContiguous = (
  hwpt: HwptPaging,
  start: bigint,
  last: bigint,
  visit: (frame: number, count: number) => void,
): void => {
  const granuleLg2 = BigInt(hwpt.domain.granuleLg2);
  let from = start;
  hwpt.ioas.forEachArea(start, last, (areaStart, areaLast) => {
    if (areaStart > from) return false;
    const to = areaLast < last ? areaLast : last;
    const frame = Number(from >> granuleLg2);
    visit(frame, Number(to >> granuleLg2) - frame + 1);
    from = to + 1n;
    return true;
  });
};

/** `IOMMU_HWPT_GET_DIRTY_BITMAP`. */
export const hwptGetDirtyBitmap = (
  call: Call,
  command: IommuCommand<'IOMMU_HWPT_GET_DIRTY_BITMAP'>,
): void => {
  call.answers = false;
  call.checkFlags(command.flags, GET_DIRTY_BITMAP.NO_CLEAR);
  call.checkReserved(command.reserved);
  const hwpt = call.context.find(call.op, command.hwptId, 'HWPT_PAGING');
  const range = {
    iova: BigInt(command.iova),
    length: BigInt(command.length),
    pageSize: BigInt(command.pageSize),
  };
  checkRange(call, hwpt, range);
  const dirty = dirtyOpsOf(call, hwpt);
  call.checkAllocation('the bitmap');
  call.checkAllocation('the pages of the bitmap');
  const bitmap = new DirtyBitmap(call.process, command.data, range);
  const clear = (command.flags & GET_DIRTY_BITMAP.NO_CLEAR) === 0;
  const last = range.iova + range.length - 1n;
  const { granuleLg2 } = hwpt.domain;
  const leafEnd = dirty.leafEnd?.bind(dirty);
  forEachContiguous(hwpt, range.iova, last, (frame, count) => {
    dirty.readAndClear(
      frame,
      count,
      (dirtyFrame, dirtyCount) => bitmap.record(dirtyFrame, dirtyCount, granuleLg2, leafEnd),
      clear,
    );
  });
  bitmap.flush();
};

/** @linux drivers/iommu/iommufd/io_pagetable.c iommufd_check_iova_range */
const checkRange = (call: Call, hwpt: HwptPaging, { iova, length, pageSize }: DirtyRange): void => {
  const bad = (rule: string, message: string, value: bigint, accepted: string) =>
    call.refuse('EINVAL', rule, message, { value, accepted });
  if (length === 0n) throw bad('length', 'the range is empty', length, 'at least one page');
  const last = iova + length - 1n;
  if (last > U64_MAX) {
    throw call.refuse('EOVERFLOW', 'iova-wrap', 'the range passes the end of the address space', {
      range: { start: iova, last },
      accepted: 'iova + length at most 2^64',
    });
  }
  const alignment = BigInt(hwpt.ioas.iovaAlignment);
  if ((iova | (last + 1n)) % alignment !== 0n) {
    throw bad('iova-alignment', 'the range is misaligned', iova, `multiples of ${alignment}`);
  }
  const mask = pageSize === 0n ? 0n : pageSize - 1n;
  if (pageSize === 0n || (iova | (last + 1n)) & mask) {
    throw bad('page-size', 'page size is 0 or the range no multiple', pageSize, 'a power of two');
  }
};
