/**
 * `VFIO_IOMMU_GET_INFO`: page sizes, and the chain of capabilities.
 *
 * @linux drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_get_info
 * @module
 */
import type { UserPointer } from '@iommukit/core';
import type { VfioCall } from '../call.ts';
import { type Capability, chainBytes, encodeChain } from '../uapi/cap-chain.ts';
import { VFIO_IOMMU_INFO_CAP, VFIO_IOMMU_INFO_FLAG } from '../uapi/constants.ts';
import { encode } from '../uapi/struct.ts';
import { VFIO_STRUCTS } from '../uapi/structs.ts';
import { DIRTY_BITMAP_BYTES_MAX } from './dirty-bitmap.ts';
import type { Type1Iommu } from './type1-iommu.ts';

/** What a type1 container is, in typed form. Addresses and sizes are bytes. */
export interface Type1Info {
  /** `VFIO_IOMMU_INFO_*`. */
  readonly flags: number;
  /** One bit per page size. */
  readonly iovaPgsizes: bigint;
  readonly migration: {
    readonly flags: number;
    /** The page that one bit of a dirty bitmap stands for. */
    readonly pgsizeBitmap: bigint;
    readonly maxDirtyBitmapSize: bigint;
  };
  /** Mappings that may still be made. */
  readonly dmaAvail: number;
  /** Where mappings may be, both ends inclusive, ascending. */
  readonly iovaRanges: readonly { readonly start: bigint; readonly end: bigint }[];
}

/** Collect what GET_INFO says. */
export const type1Info = (iommu: Type1Iommu): Type1Info => ({
  flags: VFIO_IOMMU_INFO_FLAG.PGSIZES | VFIO_IOMMU_INFO_FLAG.CAPS,
  iovaPgsizes: iommu.pageSizes,
  migration: {
    flags: 0,
    pgsizeBitmap: iommu.pageBytes,
    maxDirtyBitmapSize: BigInt(DIRTY_BITMAP_BYTES_MAX),
  },
  dmaAvail: iommu.dmaAvail,
  iovaRanges: iommu.ioas
    .iovaRanges()
    .map(({ start, last }) => ({ start: BigInt(start), end: BigInt(last) })),
});

const CAP_VERSION = 1;

/** The capabilities in the kernel's order; no IOVA range, no capability for them. */
export const type1Capabilities = (info: Type1Info): Capability[] => {
  const { migration, dmaAvail, iovaRanges } = info;
  const version = CAP_VERSION;
  const capabilities: Capability[] = [
    {
      id: VFIO_IOMMU_INFO_CAP.MIGRATION,
      version,
      body: encode(VFIO_STRUCTS.iommu_type1_info_cap_migration, migration),
    },
    {
      id: VFIO_IOMMU_INFO_CAP.DMA_AVAIL,
      version,
      body: encode(VFIO_STRUCTS.iommu_type1_info_dma_avail, { avail: dmaAvail }),
    },
  ];
  if (iovaRanges.length > 0) {
    capabilities.push({
      id: VFIO_IOMMU_INFO_CAP.IOVA_RANGE,
      version,
      body: rangesBody(iovaRanges),
    });
  }
  return capabilities;
};

const rangesBody = (ranges: Type1Info['iovaRanges']): Uint8Array => {
  const head = encode(VFIO_STRUCTS.iommu_type1_info_cap_iova_range, { nrIovas: ranges.length });
  const entryBytes = VFIO_STRUCTS.iova_range.size;
  const body = new Uint8Array(head.length + entryBytes * ranges.length);
  body.set(head);
  ranges.forEach((range, index) => {
    body.set(encode(VFIO_STRUCTS.iova_range, range), head.length + entryBytes * index);
  });
  return body;
};

/**
 * The raw call. Capabilities are written all or none: when they do not fit, `argsz` says how many
 * bytes are needed and `cap_offset` is 0.
 *
 * @throws {IommuError} EFAULT; EINVAL for an `argsz` below 16
 */
export const getInfo = (
  call: VfioCall,
  { flags, iovaPgsizes }: Type1Info,
  capabilities: readonly Capability[],
  argument: UserPointer,
): number => {
  const spec = VFIO_STRUCTS.iommu_type1_info;
  const { argsz } = call.readStruct(spec, argument);
  const total = spec.size + chainBytes(capabilities);
  const fits = argsz >= total;
  if (fits) call.copyOut(argument, spec.size, encodeChain(capabilities, spec.size));
  const head = encode(spec, {
    argsz: fits ? argsz : total,
    flags,
    iovaPgsizes,
    capOffset: fits ? spec.size : 0,
  });
  call.copyOut(argument, 0, head.subarray(0, Math.min(argsz, spec.size)));
  return 0;
};
