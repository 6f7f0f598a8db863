/**
 * The type1 backend of a container: which extensions it has, and its ioctls by number.
 *
 * @linux drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_ioctl, vfio_iommu_type1_open
 * @module
 */
import { type UserPointer, VFIO_EXTENSION, VFIO_IOCTL } from '@iommukit/core';
import type { AttachedGroup, VfioIommu, VfioIommuDriver } from '../backend.ts';
import type { VfioCall } from '../call.ts';
import { VFIO_DIRTY_PAGES_FLAG, VFIO_DMA_UNMAP_FLAG } from '../uapi/constants.ts';
import { decode, encode } from '../uapi/struct.ts';
import { VFIO_STRUCTS } from '../uapi/structs.ts';
import { checkBitmap, type VfioBitmap } from './dirty-bitmap.ts';
import {
  checkDirtyFlags,
  checkDirtyType,
  getDirtyBitmap,
  startDirtyTracking,
  stopDirtyTracking,
} from './dirty-pages.ts';
import { getInfo, type1Capabilities, type1Info } from './info.ts';
import { mapDma } from './map.ts';
import { Type1Iommu } from './type1-iommu.ts';
import { TypedType1 } from './typed.ts';
import { checkUnmapFlags, unmapDma } from './unmap.ts';

/** What {@link type1} takes. */
export interface Type1Options {
  /** Mappings a container may have (`dma_entry_limit`); default 65535. */
  readonly dmaEntryLimit?: number;
}

/** The opened backend. */
export class Type1Backend implements VfioIommu {
  readonly iommu: Type1Iommu;
  readonly names = NAMES;
  readonly dma: TypedType1;

  constructor(iommu: Type1Iommu) {
    this.iommu = iommu;
    this.dma = new TypedType1(iommu);
  }

  checkExtension(extension: bigint): number {
    switch (Number(extension)) {
      case VFIO_EXTENSION.DMA_CC_IOMMU:
        return this.iommu.isCacheCoherent ? 1 : 0;
      // Only containers with emulated devices lack it, and there are none.
      case VFIO_EXTENSION.UPDATE_VADDR:
        return 1;
      default:
        return checkStaticExtension(extension);
    }
  }

  ioctl(call: VfioCall, request: number, argument: UserPointer): number {
    const serve = IOCTLS[request];
    if (serve) return serve(call, this.iommu, argument);
    throw call.refuse('ENOTTY', 'ioctl-number', 'type1 has no such call', {
      value: request,
      accepted: Object.values(NAMES).join(', '),
    });
  }

  attachGroup(call: VfioCall, group: AttachedGroup): void {
    this.iommu.attachGroup(call, group);
  }

  detachGroup(group: AttachedGroup): void {
    this.iommu.detachGroup(group);
  }

  release(): void {
    this.iommu.release();
  }
}

/** Extensions that need no container. */
const checkStaticExtension = (extension: bigint): number => {
  switch (Number(extension)) {
    case VFIO_EXTENSION.TYPE1_IOMMU:
    case VFIO_EXTENSION.TYPE1v2_IOMMU:
    case VFIO_EXTENSION.UNMAP_ALL:
      return 1;
    default:
      return 0;
  }
};

/** The classic type1 backend, for `openVfioContainer({ drivers: [type1()] })`. */
export const type1 = (options: Type1Options = {}): VfioIommuDriver => ({
  name: 'type1',
  checkExtension: checkStaticExtension,
  open: (call, type, context) => {
    const isV2 = type === BigInt(VFIO_EXTENSION.TYPE1v2_IOMMU);
    if (!isV2 && type !== BigInt(VFIO_EXTENSION.TYPE1_IOMMU)) {
      throw call.refuse('EINVAL', 'iommu-type', `${type} is an extension, but no IOMMU type`, {
        value: type,
        accepted: 'TYPE1 1, TYPE1v2 3',
      });
    }
    return new Type1Backend(new Type1Iommu(context, isV2, options.dmaEntryLimit));
  },
});

const NAMES: Readonly<Record<number, string>> = {
  [VFIO_IOCTL.IOMMU_GET_INFO]: 'VFIO_IOMMU_GET_INFO',
  [VFIO_IOCTL.IOMMU_MAP_DMA]: 'VFIO_IOMMU_MAP_DMA',
  [VFIO_IOCTL.IOMMU_UNMAP_DMA]: 'VFIO_IOMMU_UNMAP_DMA',
  [VFIO_IOCTL.IOMMU_DIRTY_PAGES]: 'VFIO_IOMMU_DIRTY_PAGES',
};

type RawFunction = (call: VfioCall, iommu: Type1Iommu, argument: UserPointer) => number;

const rawInfo: RawFunction = (call, iommu, argument) => {
  const info = type1Info(iommu);
  return getInfo(call, info, type1Capabilities(info), argument);
};

const rawMap: RawFunction = (call, iommu, argument) => {
  mapDma(call, iommu, call.readStruct(VFIO_STRUCTS.iommu_type1_dma_map, argument));
  return 0;
};

const rawUnmap: RawFunction = (call, iommu, argument) => {
  const spec = VFIO_STRUCTS.iommu_type1_dma_unmap;
  const unmap = call.readStruct(spec, argument);
  checkUnmapFlags(call, unmap.flags);
  let bitmap: VfioBitmap | undefined;
  if (unmap.flags & VFIO_DMA_UNMAP_FLAG.GET_DIRTY_BITMAP) {
    const { size } = VFIO_STRUCTS.bitmap;
    call.checkArgsz(unmap.argsz, spec.size + size);
    bitmap = decode(VFIO_STRUCTS.bitmap, call.copyIn(argument, spec.size, size));
    checkBitmap(call, bitmap, unmap.size);
  }
  const size = unmapDma(call, iommu, unmap, bitmap);
  call.copyOut(argument, 0, encode(spec, { ...unmap, size }));
  return 0;
};

const rawDirtyPages: RawFunction = (call, iommu, argument) => {
  checkDirtyType(call, iommu);
  const spec = VFIO_STRUCTS.iommu_type1_dirty_bitmap;
  const { argsz, flags } = call.readStruct(spec, argument);
  checkDirtyFlags(call, flags);
  if (flags === VFIO_DIRTY_PAGES_FLAG.START) startDirtyTracking(call, iommu);
  else if (flags === VFIO_DIRTY_PAGES_FLAG.STOP) stopDirtyTracking(iommu);
  else {
    const get = VFIO_STRUCTS.iommu_type1_dirty_bitmap_get;
    call.checkArgsz(argsz, spec.size + get.size);
    const range = decode(get, call.copyIn(argument, spec.size, get.size));
    const { iova, size, bitmapPgsize, bitmapSize, bitmapData } = range;
    const bitmap = { pgsize: bitmapPgsize, size: bitmapSize, data: bitmapData };
    getDirtyBitmap(call, iommu, { iova, size, bitmap });
  }
  return 0;
};

/** ioctls by number. */
const IOCTLS: Readonly<Record<number, RawFunction>> = {
  [VFIO_IOCTL.IOMMU_GET_INFO]: rawInfo,
  [VFIO_IOCTL.IOMMU_MAP_DMA]: rawMap,
  [VFIO_IOCTL.IOMMU_UNMAP_DMA]: rawUnmap,
  [VFIO_IOCTL.IOMMU_DIRTY_PAGES]: rawDirtyPages,
};
