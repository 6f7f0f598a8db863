/**
 * Typed calls of the TYPE1_NESTING dialects.
 * @module
 */

/** What the nesting capability of GET_INFO says (`iommu_nesting_info`). */
export interface NestingInfo {
  /** `IOMMU_PASID_FORMAT_*`. */
  readonly format: number;
  /** Sum of `NESTING_FEATURE` bits. */
  readonly features: number;
  /** Width of the guest's first stage, bits. */
  readonly addrWidth: number;
  readonly pasidBits: number;
  /** Capability registers, those bits that matter to a guest's tables. */
  readonly vtdCapReg: bigint;
  readonly vtdEcapReg: bigint;
}

/** A guest's first-stage table for one PASID (`iommu_gpasid_bind_data`). */
export interface BindInput {
  /** Guest physical address of the top table. */
  readonly gpgd: number | bigint;
  /** The PASID that the device sends; from PASID_REQUEST. */
  readonly hpasid: number;
  /** What the guest calls it. */
  readonly gpasid?: number;
  /** 48 or 57 bits; default 48. */
  readonly addrWidth?: number;
  /** Sum of `VTD_BIND_FLAG` bits; default 0. */
  readonly vtdFlags?: number;
}

/** An invalidation of the guest (`iommu_cache_invalidate_info`). */
export interface CacheInvalidateInput {
  /** Sum of `CACHE` bits. */
  readonly cache: number;
  /** One of `GRANULARITY`. */
  readonly granularity: number;
  /** Host PASID; with granularity PASID and ADDR. */
  readonly pasid?: number;
  /** First byte, with ADDR. */
  readonly addr?: number | bigint;
  /** Bytes of a page; default 4096. */
  readonly granuleSize?: number;
  /** Pages; default 1. */
  readonly nbGranules?: number;
  /** No table entry changed. */
  readonly leaf?: boolean;
}

/** The calls of `container.nesting`. */
export interface NestingCalls {
  /** The capability; undefined when the IOMMU does not nest. */
  readonly info: NestingInfo | undefined;
  /** `VFIO_IOMMU_PASID_REQUEST` ALLOC: the lowest free PASID in `[min, max]`. */
  pasidAlloc(range: { readonly min: number; readonly max: number }): number;
  /** `VFIO_IOMMU_PASID_REQUEST` FREE: every PASID of the process in `[min, max]`. */
  pasidFree(range: { readonly min: number; readonly max: number }): void;
  /** `VFIO_IOMMU_NESTING_OP` BIND_PGTBL. */
  bindPgtbl(input: BindInput): void;
  /** `VFIO_IOMMU_NESTING_OP` UNBIND_PGTBL. */
  unbindPgtbl(input: { readonly hpasid: number }): void;
  /** `VFIO_IOMMU_NESTING_OP` CACHE_INVLD. */
  cacheInvalidate(input: CacheInvalidateInput): void;
}
