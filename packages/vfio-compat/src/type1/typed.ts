/**
 * The calls of a type1 container in typed form: numbers in, refusals as exceptions.
 * @module
 */
import type { UserPointer } from '@iommukit/core';
import type { DmaCalls } from '../backend.ts';
import { toU64, type VfioCall } from '../call.ts';
import { VFIO_DIRTY_PAGES_FLAG, VFIO_DMA_UNMAP_FLAG } from '../uapi/constants.ts';
import { checkBitmap, type VfioBitmap } from './dirty-bitmap.ts';
import {
  checkDirtyFlags,
  checkDirtyType,
  getDirtyBitmap,
  startDirtyTracking,
  stopDirtyTracking,
} from './dirty-pages.ts';
import { type Type1Info, type1Info } from './info.ts';
import { mapDma } from './map.ts';
import type { Type1Iommu } from './type1-iommu.ts';
import { checkUnmapFlags, unmapDma } from './unmap.ts';

/** What `iommuMapDma` takes. */
export interface DmaMapInput {
  /** Sum of `VFIO_DMA_MAP_FLAG` bits. */
  readonly flags: number;
  /** User byte address, 64 bits. */
  readonly vaddr: number | bigint;
  /** Byte address, 64 bits. */
  readonly iova: number | bigint;
  /** Bytes, 64 bits. */
  readonly size: number | bigint;
}

/** A bitmap for dirty pages: user memory, or bytes that the program holds itself. */
export interface BitmapInput {
  /** Bytes per bit; must be the container's smallest page. */
  readonly pgsize: number | bigint;
  /** Bytes; default the length of `data` when that is a `Uint8Array`. */
  readonly size?: number | bigint;
  readonly data: UserPointer;
}

/** What `iommuUnmapDma` takes. */
export interface DmaUnmapInput {
  /** Sum of `VFIO_DMA_UNMAP_FLAG` bits; default 0. */
  readonly flags?: number;
  /** First byte; 0 with ALL. */
  readonly iova: number | bigint;
  /** Bytes; 0 with ALL. */
  readonly size: number | bigint;
  /** Needed with GET_DIRTY_BITMAP. */
  readonly bitmap?: BitmapInput;
}

/** What `iommuDirtyPages` takes. */
export interface DirtyPagesInput {
  /** One of `VFIO_DIRTY_PAGES_FLAG`. */
  readonly flags: number;
  /** The rest: for GET_BITMAP. */
  readonly iova?: number | bigint;
  readonly size?: number | bigint;
  readonly bitmap?: BitmapInput;
}

/** The typed calls of one container. */
export class TypedType1 implements DmaCalls {
  readonly #iommu: Type1Iommu;

  constructor(iommu: Type1Iommu) {
    this.#iommu = iommu;
  }

  getInfo(): Type1Info {
    return type1Info(this.#iommu);
  }

  mapDma(call: VfioCall, { flags, vaddr, iova, size }: DmaMapInput): void {
    mapDma(call, this.#iommu, {
      flags,
      vaddr: toU64('vaddr', vaddr),
      iova: toU64('iova', iova),
      size: toU64('size', size),
    });
  }

  unmapDma(call: VfioCall, input: DmaUnmapInput): bigint {
    const flags = input.flags ?? 0;
    const unmap = { flags, iova: toU64('iova', input.iova), size: toU64('size', input.size) };
    checkUnmapFlags(call, flags);
    if ((flags & VFIO_DMA_UNMAP_FLAG.GET_DIRTY_BITMAP) === 0) {
      return unmapDma(call, this.#iommu, unmap);
    }
    const bitmap = bitmapOf(call, input.bitmap);
    checkBitmap(call, bitmap, unmap.size);
    return unmapDma(call, this.#iommu, unmap, bitmap);
  }

  dirtyPages(call: VfioCall, { flags, iova, size, bitmap }: DirtyPagesInput): void {
    checkDirtyType(call, this.#iommu);
    checkDirtyFlags(call, flags);
    if (flags === VFIO_DIRTY_PAGES_FLAG.START) startDirtyTracking(call, this.#iommu);
    else if (flags === VFIO_DIRTY_PAGES_FLAG.STOP) stopDirtyTracking(this.#iommu);
    else {
      getDirtyBitmap(call, this.#iommu, {
        iova: toU64('iova', iova ?? 0),
        size: toU64('size', size ?? 0),
        bitmap: bitmapOf(call, bitmap),
      });
    }
  }
}

const bitmapOf = (call: VfioCall, input: BitmapInput | undefined): VfioBitmap => {
  if (!input) {
    throw call.refuse('EINVAL', 'bitmap', 'there is no bitmap to report dirty pages in', {
      accepted: 'bitmap: { pgsize, data }',
    });
  }
  const { data, pgsize } = input;
  const size = input.size ?? (data instanceof Uint8Array ? data.length : 0);
  return { pgsize: toU64('pgsize', pgsize), size: toU64('bitmap.size', size), data };
};
