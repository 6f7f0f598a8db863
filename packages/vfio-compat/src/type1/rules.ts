/**
 * The checks of MAP_DMA and UNMAP_DMA that need nothing but the arguments, in the kernel's order.
 *
 * @linux drivers/vfio/vfio_iommu_type1.c vfio_dma_do_map, vfio_dma_do_unmap
 * @module
 */
import { hex, type VfioCall } from '../call.ts';
import { VFIO_DMA_MAP_FLAG, VFIO_DMA_UNMAP_FLAG } from '../uapi/constants.ts';

const U64_MAX = (1n << 64n) - 1n;
const PAGE_SHIFT = 12n;
/** Largest frame number of a 64-bit address. */
const MAX_PFN = 2 ** 52 - 1;

/** `vfio_iommu_type1_dma_map` without `argsz`. */
export interface DmaMap {
  /** Sum of `VFIO_DMA_MAP_FLAG_*`. */
  readonly flags: number;
  /** User byte address, 64 bits. */
  readonly vaddr: bigint;
  /** Byte address, 64 bits. */
  readonly iova: bigint;
  /** Bytes, 64 bits. */
  readonly size: bigint;
}

/** `vfio_iommu_type1_dma_unmap` without `argsz`. */
export interface DmaUnmap {
  /** Sum of `VFIO_DMA_UNMAP_FLAG_*`. */
  readonly flags: number;
  readonly iova: bigint;
  readonly size: bigint;
}

/** A range of 4 KiB frames, both ends inclusive. */
export interface FrameRange {
  readonly startPfn: number;
  readonly lastPfn: number;
}

const checkSize = (call: VfioCall, size: bigint): void => {
  if (size !== 0n) return;
  throw call.refuse('EINVAL', 'size-zero', 'the size is 0', {
    value: 0,
    accepted: '1 page or more',
  });
};

const checkWrap = (call: VfioCall, what: string, start: bigint, size: bigint): void => {
  if (start + size - 1n <= U64_MAX) return;
  throw call.refuse(
    'EOVERFLOW',
    'range-overflow',
    `${what} ${hex(start)} with size ${hex(size)} ends above 2^64 - 1`,
    { value: start, accepted: `a size up to ${hex(U64_MAX - start + 1n)}` },
  );
};

const checkAligned = (call: VfioCall, what: string, value: bigint, pageBytes: bigint): void => {
  if (value % pageBytes === 0n) return;
  throw call.refuse(
    'EINVAL',
    'page-alignment',
    `${what} ${hex(value)} is not a multiple of ${pageBytes}`,
    { value, accepted: `a multiple of ${pageBytes}, the smallest page of the container` },
  );
};

const framesOf = (iova: bigint, size: bigint): FrameRange => ({
  startPfn: Number(iova >> PAGE_SHIFT),
  lastPfn: Number((iova + size - 1n) >> PAGE_SHIFT),
});

/**
 * Check a map: size, wrapping, exactly one of {READ, WRITE} and VADDR, alignment.
 *
 * @param pageBytes smallest page of the container
 * @returns its frames
 * @throws {IommuError} EINVAL, EOVERFLOW
 */
export const checkMap = (call: VfioCall, map: DmaMap, pageBytes: bigint): FrameRange => {
  const { flags, vaddr, iova, size } = map;
  checkSize(call, size);
  checkWrap(call, 'iova', iova, size);
  checkWrap(call, 'vaddr', vaddr, size);
  const setsAddress = (flags & VFIO_DMA_MAP_FLAG.VADDR) !== 0;
  const rights = flags & (VFIO_DMA_MAP_FLAG.READ | VFIO_DMA_MAP_FLAG.WRITE);
  if (setsAddress === (rights !== 0)) {
    throw call.refuse('EINVAL', 'map-flags', `flags ${hex(flags)} make no mapping`, {
      value: flags,
      accepted: 'READ 1 and WRITE 2 in any combination, or VADDR 4 alone',
    });
  }
  checkAligned(call, 'size', size, pageBytes);
  checkAligned(call, 'iova', iova, pageBytes);
  checkAligned(call, 'vaddr', vaddr, pageBytes);
  return framesOf(iova, size);
};

/**
 * Check an unmap: alignment, ALL with iova and size 0, size, wrapping.
 *
 * @returns its frames; everything for ALL
 * @throws {IommuError} EINVAL, EOVERFLOW
 */
export const checkUnmap = (call: VfioCall, unmap: DmaUnmap, pageBytes: bigint): FrameRange => {
  const { flags, iova, size } = unmap;
  checkAligned(call, 'iova', iova, pageBytes);
  if (flags & VFIO_DMA_UNMAP_FLAG.ALL) {
    if (iova === 0n && size === 0n) return { startPfn: 0, lastPfn: MAX_PFN };
    throw call.refuse('EINVAL', 'unmap-all', 'ALL goes with iova 0 and size 0 only', {
      value: iova === 0n ? size : iova,
      accepted: 'iova 0 and size 0',
    });
  }
  checkSize(call, size);
  checkAligned(call, 'size', size, pageBytes);
  checkWrap(call, 'iova', iova, size);
  return framesOf(iova, size);
};
