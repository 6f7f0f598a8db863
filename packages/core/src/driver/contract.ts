/**
 * The contract between `core` and an IOMMU driver: units and drivers.
 *
 * A driver makes *units* (one IOMMU each). A unit has a small required part and optional groups
 * (`nesting`, `viommu`, `pri`, `migration`; a domain's `dirty`): a group that is present is supported, one
 * that is absent is not, so that "supported" cannot disagree with "implemented". Everything is
 * synchronous. Control calls throw {@link IommuError}; map and unmap return 0 or a negative errno.
 * @module
 */
import type { Machine } from '../bus/machine.ts';
import type { TranslationAgent } from '../bus/request.ts';
import type {
  BlockingDomain,
  Domain,
  IdentityDomain,
  PagingDomain,
  PagingRequest,
} from './domains.ts';
import type { PageFault, PriOps, UnrecoverableFault } from './faults.ts';
import type { MigrationOps } from './migration.ts';
import type { NestingOps, ViommuOps } from './viommu-backend.ts';

/** Version of this contract; `defineDriver` refuses another. */
export const DRIVER_API_VERSION = 1;

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
  /**
   * Absent: a nested HWPT_ALLOC is EOPNOTSUPP at once. A unit that cannot nest (`caps.guestStage`
   * 0) may offer it all the same and refuse inside: core then checks the parent first (EINVAL), as
   * Linux does for drivers whose units differ.
   */
  readonly nesting?: NestingOps;
  readonly viommu?: ViommuOps;
  readonly pri?: PriOps;
  /** Bytes of the whole unit's state, and back into the same unit with the same domains. */
  snapshot?(): Uint8Array;
  restore?(bytes: Uint8Array): void;
  /** Its state in a snapshot of the machine; without it core rebuilds domains and attachments. */
  readonly migration?: MigrationOps;
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
