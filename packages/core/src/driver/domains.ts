/**
 * Domains: what a unit makes and devices are attached to.
 *
 * Frame numbers count *granules* of `1 << granuleLg2` bytes (4 KiB for real hardware, 2 KiB for
 * the mock driver), so every 64-bit address is an exact `number`.
 * @module
 */
import type { IommuUnit } from './contract.ts';
import type { UserArray, UserBlob } from './vendor-data.ts';

/** Rights of a mapping, one bit each. */
export const PROT = { READ: 1, WRITE: 2, CACHE: 4, NOEXEC: 8, MMIO: 16, PRIV: 32 } as const;

/** How a paging domain is asked for. */
export interface PagingRequest {
  /** `IOMMU_HWPT_ALLOC_*` bits; 0 = the driver's default. */
  readonly flags: number;
  /** Vendor data of a paging HWPT (data_type not NONE), else undefined. */
  readonly userData?: UserBlob | undefined;
  /** Limit leaf pages to the smallest size (IOMMU_OPTION_HUGE_PAGES off). */
  readonly smallPagesOnly?: boolean;
}

/** What every domain has. */
export interface DomainBase {
  readonly unit: IommuUnit;
  /** Give everything back. Never called while a device is attached. */
  free(): void;
}

/** Translates nothing: every DMA is blocked. */
export interface BlockingDomain extends DomainBase {
  readonly kind: 'blocking';
}

/** IOVA = host physical address. */
export interface IdentityDomain extends DomainBase {
  readonly kind: 'identity';
}

/** A domain whose table the host builds from an I/O address space. */
export interface PagingDomain extends DomainBase {
  readonly kind: 'paging';
  /** Smallest page, lg2 of bytes; the unit of all frame numbers below. */
  readonly granuleLg2: number;
  /** Page sizes in use, lg2 of bytes, ascending. */
  readonly pageSizesLg2: readonly number[];
  /** First and last usable frame (inclusive, granules). */
  readonly apertureStartFrame: number;
  readonly apertureLastFrame: number;
  /** Made with IOMMU_HWPT_ALLOC_NEST_PARENT. */
  readonly nestParent: boolean;
  /** Made with IOMMU_HWPT_ALLOC_PASID. */
  readonly pasidCompatible: boolean;
  /** Whether DMA through this domain is forced to snoop. */
  readonly enforcesCacheCoherency: boolean;
  /**
   * Map runs of frames one behind the other, starting at `iovaFrame`. @hot
   *
   * @param runs pairs (first output frame, count), granules
   * @param runCount pairs used
   * @param prot sum of {@link PROT} bits
   * @returns 0, or a negative errno with nothing changed
   */
  mapRuns(iovaFrame: number, runs: Float64Array, runCount: number, prot: number): number;
  /**
   * Unmap `count` granules. Whole large leaves go when only part of one is named. The caller
   * calls {@link PagingDomain.sync} before it reuses the pages. @hot
   *
   * @returns granules unmapped (0 = nothing was mapped), or a negative errno
   */
  unmap(iovaFrame: number, count: number): number;
  /** Make all unmaps so far visible to hardware: send the invalidations, wait, free tables. */
  sync(): void;
  /** The output frame of an IOVA frame, or -1. */
  iovaToFrame(iovaFrame: number): number;
  /**
   * Read mapped output frames back as runs, for unpinning. @hot
   *
   * @param out room for pairs (first output frame, count)
   * @returns pairs written, or a negative errno (-7 E2BIG when `out` is too small)
   */
  readRuns(iovaFrame: number, count: number, out: Float64Array): number;
  /** Present when hardware records writes. */
  readonly dirty?: DirtyOps;
  /** Force snooping from now on; false when some attached device or mapping does not allow it. */
  enforceCacheCoherency?(): boolean;
}

/** Dirty tracking of a paging domain. */
export interface DirtyOps {
  readonly enabled: boolean;
  /** Switch recording. Throws EOPNOTSUPP or a driver's errno and rolls back. */
  setTracking(enable: boolean): void;
  /**
   * Report dirty pages.
   *
   * @param visit called with (first dirty frame, count) runs, granules, ascending
   * @param clear test and clear (false = IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR)
   */
  readAndClear(
    iovaFrame: number,
    count: number,
    visit: (iovaFrame: number, count: number) => void,
    clear: boolean,
  ): void;
  /**
   * First frame behind the leaf that maps a frame. Drivers whose `readAndClear` joins leaves to runs
   * have it; without it each run is one leaf.
   */
  leafEnd?(iovaFrame: number): number;
}

/** A domain whose first table level belongs to a guest and is walked through its parent. */
export interface NestedDomain extends DomainBase {
  readonly kind: 'nested';
  readonly parent: PagingDomain;
  /** Made with IOMMU_HWPT_ALLOC_PASID. */
  readonly pasidCompatible: boolean;
  /** A user PASID table hangs below (SMMUv3, AMD): faults of any PASID belong to this domain. */
  readonly ownsPasidTable: boolean;
  /** Present when `IOMMU_HWPT_INVALIDATE` is supported on the HWPT itself. */
  invalidate?(array: UserArray): void;
}

/** Every kind of domain. */
export type Domain = BlockingDomain | IdentityDomain | PagingDomain | NestedDomain;
