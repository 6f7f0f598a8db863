/**
 * The contract between `core` and an IOMMU driver.
 *
 * A driver makes *units* (one IOMMU each). A unit has a small required part and optional groups
 * (`dirty`, `nesting`, `viommu`, `pri`, `snapshot`): a group that is present is supported, one
 * that is absent is not, so that "supported" cannot disagree with "implemented". Everything is
 * synchronous. Control calls throw {@link IommuError}; map and unmap return 0 or a negative errno.
 *
 * Frame numbers in a domain's calls count *granules* of `1 << granuleLg2` bytes (4 KiB for real
 * hardware, 2 KiB for the mock driver), so every 64-bit address is an exact `number`.
 */
import type { Machine } from '../bus/machine.ts';
import type { TranslationAgent } from '../bus/request.ts';
import type { MemoryFile } from '../memory/memory-file.ts';

/** Version of this contract; `defineDriver` refuses another. */
export const DRIVER_API_VERSION = 1;

/** Rights of a mapping, one bit each. */
export const PROT = { READ: 1, WRITE: 2, CACHE: 4, NOEXEC: 8, MMIO: 16, PRIV: 32 } as const;

/** What a unit can do, as data. */
export interface UnitCaps {
  /** Page sizes of its paging domains, lg2 of bytes, ascending. */
  readonly pageSizesLg2: readonly number[];
  /** Width of an IOVA a paging domain can translate. */
  readonly iovaBits: number;
  /** Width of an output (host physical) address. */
  readonly oaBits: number;
  /** Width of a PASID; 0 = none. */
  readonly pasidBits: number;
  /** Table walks and DMA can be forced to snoop (IOMMU_CAP_ENFORCE_CACHE_COHERENCY). */
  readonly enforcesCacheCoherency: boolean;
  /** DMA is coherent with the CPU's caches (IOMMU_CAP_CACHE_COHERENCY). */
  readonly cacheCoherent: boolean;
  /** Nested translation: which stage the guest may own. 0 = no nesting. */
  readonly guestStage: 0 | 1;
  readonly ats: boolean;
  readonly pri: boolean;
  /** SMMU-style stalled transactions instead of page requests. */
  readonly stall: boolean;
}

/** One device as a unit sees it: the requester id, what it can do, and room for driver state. */
export interface UnitDevice {
  readonly name: string;
  readonly rid: number;
  /** PASID width of the device; 0 = none. */
  readonly pasidBits: number;
  readonly ats: boolean;
  readonly pri: boolean;
}

/** A window of IOVA that a device cannot have mapped freely. `last` inclusive, bytes. */
export interface ReservedRegion {
  readonly start: number;
  readonly last: number;
  /** `direct`: must be mapped one to one; `relaxable`: only until a driver takes over. */
  readonly kind: 'direct' | 'relaxable' | 'reserved' | 'msi' | 'sw-msi';
}

/** What `IOMMU_GET_HW_INFO` reports of a device. */
export interface HwInfo {
  /** `enum iommu_hw_info_type`. */
  readonly type: number;
  /** The vendor's struct, little endian. */
  readonly data: Uint8Array;
}

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

/**
 * One vendor struct in user memory. Core has checked nothing but that type and length are both
 * zero or both not.
 */
export interface UserBlob {
  readonly type: number;
  readonly length: number;
  /**
   * Copy it in.
   *
   * @param type the vendor type expected; EINVAL otherwise
   * @param minLast bytes up to and including the last mandatory field; shorter is EINVAL
   * @param size size of the struct; longer is EINVAL, a missing tail is zero
   * @returns `size` bytes
   */
  copyIn(type: number, minLast: number, size: number): Uint8Array;
  /** Copy `min(length, bytes.length)` bytes back out; EINVAL below `minLast`, EFAULT. */
  copyOut(minLast: number, bytes: Uint8Array): void;
}

/** An array of vendor structs in user memory (`IOMMU_HWPT_INVALIDATE`). */
export interface UserArray {
  readonly type: number;
  readonly entryLength: number;
  readonly entryCount: number;
  /** Entries handled so far; written back to `entry_num` also when a later one fails. */
  done: number;
  /** Copy entry `index`: EINVAL on wrong type, index or length, EFAULT. */
  copyEntry(index: number, type: number, minLast: number, size: number): Uint8Array;
  /** Copy all entries at once into `entryCount * size` bytes: E2BIG on a nonzero longer tail. */
  copyAll(type: number, size: number): Uint8Array;
}

/** Nested domains made on a paging parent (`IOMMU_HWPT_ALLOC` with a HWPT as parent). */
export interface NestingOps {
  allocNested(
    device: UnitDevice,
    parent: PagingDomain,
    flags: number,
    userData: UserBlob,
  ): NestedDomain;
}

/** A hardware region that a vIOMMU lets its process map. */
export interface MmapRegion {
  /** Whole pages. */
  readonly lengthBytes: number;
  /** The pages behind it: the process and the driver see the same bytes. */
  readonly file: MemoryFile;
}

/** The driver's side of one vIOMMU object. */
export interface ViommuBackend {
  /** Region offered for mmap; core picks the offset and gives it to `setMmapOffset`. */
  readonly mmapRegion?: MmapRegion;
  /** Told the file offset of `mmapRegion` before `outData` is read. */
  setMmapOffset?(offsetBytes: number): void;
  /** Bytes to write back to the caller's vendor data, if any. */
  readonly outData?: Uint8Array;
  allocNested?(device: UnitDevice, flags: number, userData: UserBlob): NestedDomain;
  invalidate?(array: UserArray): void;
  /** A vDEVICE was made (`virtId` 64 bits) or goes away. */
  vdeviceInit?(device: UnitDevice, virtId: bigint): void;
  vdeviceDestroy?(device: UnitDevice, virtId: bigint): void;
  readonly hwQueue?: HwQueueOps;
  destroy(): void;
}

/** Hardware queues of a vIOMMU. */
export interface HwQueueOps {
  /** Throws EOPNOTSUPP for an unknown type. */
  checkType(type: number): void;
  /**
   * Take a queue into use.
   *
   * @param baseHpa host physical byte address of the queue, contiguous and pinned
   * @returns a handle with the index of the queue it depends on, if any
   */
  alloc(
    type: number,
    index: number,
    iova: number | bigint,
    lengthBytes: number,
    baseHpa: number,
  ): { readonly dependsOnIndex?: number; destroy(): void };
}

/** vIOMMU objects. */
export interface ViommuOps {
  /** Whether this unit offers `type` for `device`; false = EOPNOTSUPP. */
  supports(device: UnitDevice, type: number): boolean;
  init(
    device: UnitDevice,
    type: number,
    parent: PagingDomain,
    userData: UserBlob | undefined,
    events: VeventSink,
  ): ViommuBackend;
}

/** Where a vIOMMU sends events for its guest. */
export interface VeventSink {
  /** @returns false when the guest has no queue of that type. */
  report(type: number, data: Uint8Array): boolean;
}

/** Page requests (PRI) or stalled transactions of devices. */
export interface PriOps {
  /** Start or stop taking page requests of a device; throws ENODEV when it cannot. */
  enable(device: UnitDevice): void;
  disable(device: UnitDevice): void;
  /**
   * Answer a whole group.
   *
   * @param pasid 20 bits or -1
   * @param code 0 success, 1 invalid, 2 failure
   */
  respond(device: UnitDevice, pasid: number, grpid: number, code: number): void;
}

/** A page request as it reaches core. */
export interface PageFault {
  /** 20 bits, or -1 for none. */
  readonly pasid: number;
  readonly grpid: number;
  /** `IOMMU_PGFAULT_PERM_*`: read 1, write 2, exec 4, priv 8. */
  readonly perm: number;
  /** 4 KiB frame of the address. */
  readonly addressPfn: number;
  /** The whole byte address, from hardware that reports more than the frame. */
  readonly address?: bigint;
  readonly last: boolean;
}

/** An unrecoverable fault as the host half decoded it from the hardware's record. */
export interface UnrecoverableFault {
  readonly rid: number;
  /** 20 bits, or -1 for none. */
  readonly pasid: number;
  /** 4 KiB frame of the address. */
  readonly addressPfn: number;
  readonly write: boolean;
  /** The architecture's number for the reason. */
  readonly reason: number;
  /** The specification's name and meaning of the reason. */
  readonly name: string;
  /** The raw record, u32 words, and its decoded fields by the specification's names. */
  readonly words: readonly number[];
  readonly fields: Readonly<Record<string, number | bigint>>;
}

/** What core offers to a unit. */
export interface UnitHost {
  readonly machine: Machine;
  /**
   * Hand over one page request. Core collects groups and routes them to fault queues.
   *
   * @returns false when nobody takes it: the driver answers INVALID itself
   */
  reportPageFault(device: UnitDevice, fault: PageFault): boolean;
  /** Hand over an unrecoverable fault; listeners of the machine see it. */
  reportFault(fault: UnrecoverableFault): void;
}

/** One IOMMU. */
export interface IommuUnit {
  readonly name: string;
  readonly driver: IommuDriver;
  readonly caps: UnitCaps;
  /** What the bus calls. */
  readonly agent: TranslationAgent;
  /** A domain that blocks everything; attaching it detaches. */
  readonly blocking: BlockingDomain;
  /** One-to-one domain, where the hardware has one. */
  readonly identity?: IdentityDomain;
  /** Take a device in charge; it starts blocked. Throws ENODEV when it is not in scope. */
  probeDevice(device: UnitDevice): void;
  releaseDevice(device: UnitDevice): void;
  reservedRegions(device: UnitDevice): readonly ReservedRegion[];
  /** Throws EOPNOTSUPP when `type` is neither 0 nor the driver's own. */
  hwInfo(device: UnitDevice, type: number): HwInfo;
  /** `IOMMU_HW_CAP_*` bits of the device. */
  hwCapabilities(device: UnitDevice): number;
  /** Throws EOPNOTSUPP on flags it does not know, EINVAL, ENOMEM. */
  allocPaging(device: UnitDevice, request: PagingRequest): PagingDomain;
  /**
   * Make `domain` the one that translates the device's requests with `pasid` (-1 = without
   * PASID), in place of whatever was there. Throws EINVAL when it does not fit this device;
   * core restores the old one then.
   */
  attach(device: UnitDevice, pasid: number, domain: Domain): void;
  readonly nesting?: NestingOps;
  readonly viommu?: ViommuOps;
  readonly pri?: PriOps;
  /** Bytes of the whole unit's state, and back. */
  snapshot?(): Uint8Array;
  restore?(bytes: Uint8Array): void;
}

/** A driver with its options bound: what `vtd(options)` returns. */
export interface IommuDriver {
  readonly apiVersion: number;
  /** `'intel-vtd'`, for instance. */
  readonly name: string;
  /** `enum iommu_hw_info_type`. */
  readonly hwInfoType: number;
  /** Bring one unit up on a machine. */
  create(host: UnitHost): IommuUnit;
}
