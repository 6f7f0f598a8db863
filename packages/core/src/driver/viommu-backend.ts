/**
 * What a unit offers to guests: nested domains, vIOMMUs, hardware queues.
 * @module
 */
import type { MemoryFile } from '../memory/memory-file.ts';
import type { UnitDevice } from './contract.ts';
import type { NestedDomain, PagingDomain } from './domains.ts';
import type { UserArray, UserBlob } from './vendor-data.ts';

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
