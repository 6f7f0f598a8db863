/**
 * The caches of a unit: device table entries by DeviceID, guest CR3s and translations by DomainID.
 * Nothing leaves them but by a command, or for want of room.
 *
 * @spec AMD IOMMU 2.2.5 (caching)
 */
import {
  ANY_TAG,
  ContextCache,
  type ContextCacheState,
  FIRST_STAGE_KINDS,
  Iotlb,
  type IotlbState,
} from '@iommukit/pgtable-fast';

/** Sizes of the caches. */
export interface CacheOptions {
  /** Device table entries kept, a power of two of at least 4; default 1024. */
  readonly deviceEntries?: number;
  /** Translations kept, a power of two of at least 32; default 2048. */
  readonly iotlbEntries?: number;
  /** Guest CR3s (GCR3 table entries) kept, a power of two of at least 4; default 1024. */
  readonly guestEntries?: number;
}

/** Payload of a cached device table entry: dword indices behind the one that a lookup returns. */
export const DEVICE = {
  /** The eight dwords of the DTE. */
  WORDS: 0,
  /** One of {@link DTE_VERDICT}. */
  VERDICT: 8,
  /** A page fault was logged since the entry was fetched (for DTE.SE). */
  FAULT_LOGGED: 9,
  /** What a hit in the IOTLB needs to know; see {@link DTE_INFO}. */
  INFO: 10,
  SIZE: 11,
} as const;

/** What the checks of a device table entry said when it was fetched. */
export const DTE_VERDICT = { LEGAL: 0, PASS: 1, RESERVED_BITS: 2, UNSUPPORTED_MODE: 3 } as const;

/**
 * Bits of {@link DEVICE}.INFO. Bits 0 and 1 are IR and IW, both 0 unless a translation may be taken
 * from the IOTLB under this entry.
 */
export const DTE_INFO = {
  RIGHTS: 3,
  /** Mode, as far as it bounds the address of requests without PASID. */
  MODE_SHIFT: 4,
  /** Requests with PASID are translated (GV). */
  GUEST: 0x80,
  /** Requests without PASID use PASID 0 (GV and GIoV). */
  GUEST_ZERO: 0x100,
} as const;

/** Payload of a cached guest CR3: low and high dword of its byte address. */
export const GUEST = { LO: 0, HI: 1, SIZE: 2 } as const;

/** State of all caches. */
export interface CachesSnapshot {
  readonly devices: ContextCacheState;
  readonly guests: ContextCacheState;
  readonly iotlb: IotlbState;
}

const WAYS = 4;
const DOMAINS = 0x1_0000;

/** All caches. */
export class Caches {
  readonly devices: ContextCache;
  /** By DomainID and PASID. */
  readonly guests: ContextCache;
  readonly iotlb: Iotlb;
  /**
   * By DomainID: 1 = guest translations or CR3s may be cached under it. Host invalidations have to
   * search everything for them; most domains have none.
   */
  readonly #guestDomains = new Uint8Array(DOMAINS);

  /** @throws {RangeError} for sizes that are no such powers of two */
  constructor(options: CacheOptions = {}) {
    const { deviceEntries = 1024, iotlbEntries = 2048, guestEntries = 1024 } = options;
    this.devices = new ContextCache({
      sets: deviceEntries / WAYS,
      ways: WAYS,
      payloadWords: DEVICE.SIZE,
    });
    this.guests = new ContextCache({
      sets: guestEntries / WAYS,
      ways: WAYS,
      payloadWords: GUEST.SIZE,
    });
    this.iotlb = new Iotlb({ sets: iotlbEntries / WAYS, ways: WAYS });
  }

  /** Forget everything. @returns entries dropped */
  invalidateAll(): number {
    return this.devices.invalidateAll() + this.guests.invalidateAll() + this.iotlb.invalidateAll();
  }

  /** A guest translation or CR3 of a domain was cached. @hot */
  guestCached(domain: number): void {
    this.#guestDomains[domain] = 1;
  }

  /** INVALIDATE_IOMMU_PAGES with GN=0: host translations of the range, all guest ones. */
  invalidateHostPages(domain: number, firstPfn: number, sizeLg2: number): number {
    const { iotlb } = this;
    if (this.#guestDomains[domain] === 0) {
      return iotlb.invalidateRange(domain, ANY_TAG, firstPfn, sizeLg2);
    }
    this.#guestDomains[domain] = 0;
    const guests = this.guests.invalidateSource(domain);
    return guests + iotlb.invalidateRangeAndNested(domain, firstPfn, sizeLg2);
  }

  /**
   * INVALIDATE_IOMMU_PAGES with GN=1.
   *
   * @param directories PDE: the cached CR3 too
   */
  invalidateGuestPages(
    domain: number,
    pasid: number,
    firstPfn: number,
    sizeLg2: number,
    directories: boolean,
  ): number {
    const guests = directories ? this.guests.invalidateSource(domain, -1, pasid) : 0;
    const { iotlb } = this;
    return guests + iotlb.invalidateRange(domain, pasid, firstPfn, sizeLg2, FIRST_STAGE_KINDS);
  }

  /** INVALIDATE_DEVTAB_ENTRY. */
  invalidateDevice(rid: number): number {
    return this.devices.invalidateSource(rid, -1, ANY_TAG);
  }

  /** Copies of the state. */
  snapshot(): CachesSnapshot {
    const { devices, guests, iotlb } = this;
    return { devices: devices.save(), guests: guests.save(), iotlb: iotlb.save() };
  }

  /**
   * Put a state back.
   * @throws {RangeError} with nothing changed, for caches of other sizes
   */
  restore(state: CachesSnapshot): void {
    const before = this.snapshot();
    try {
      this.devices.load(state.devices);
      this.guests.load(state.guests);
      this.iotlb.load(state.iotlb);
      this.#guestDomains.fill(1);
    } catch (error) {
      this.devices.load(before.devices);
      this.guests.load(before.guests);
      throw error;
    }
  }
}
