/**
 * The caches of a unit: device table entries by DeviceID, translations by DomainID. Nothing leaves
 * them but by a command, or for want of room.
 *
 * @spec AMD IOMMU 2.2.5 (caching)
 */
import { ContextCache, Iotlb } from '@iommukit/pgtable-fast';

/** Sizes of the caches. */
export interface CacheOptions {
  /** Device table entries kept, a power of two of at least 4; default 1024. */
  readonly deviceEntries?: number;
  /** Translations kept, a power of two of at least 32; default 2048. */
  readonly iotlbEntries?: number;
}

/** Payload of a cached device table entry: dword indices behind the one that a lookup returns. */
export const DEVICE = {
  /** The eight dwords of the DTE. */
  WORDS: 0,
  /** One of {@link DTE_VERDICT}. */
  VERDICT: 8,
  /** A page fault was logged since the entry was fetched (for DTE.SE). */
  FAULT_LOGGED: 9,
  SIZE: 10,
} as const;

/** What the checks of a device table entry said when it was fetched. */
export const DTE_VERDICT = { LEGAL: 0, PASS: 1, RESERVED_BITS: 2, UNSUPPORTED_MODE: 3 } as const;

const WAYS = 4;

/** Both caches. */
export class Caches {
  readonly devices: ContextCache;
  readonly iotlb: Iotlb;

  /** @throws {RangeError} for sizes that are no such powers of two */
  constructor(options: CacheOptions = {}) {
    const { deviceEntries = 1024, iotlbEntries = 2048 } = options;
    this.devices = new ContextCache({
      sets: deviceEntries / WAYS,
      ways: WAYS,
      payloadWords: DEVICE.SIZE,
    });
    this.iotlb = new Iotlb({ sets: iotlbEntries / WAYS, ways: WAYS });
  }

  /** Forget everything. */
  invalidateAll(): void {
    this.devices.invalidateAll();
    this.iotlb.invalidateAll();
  }
}
