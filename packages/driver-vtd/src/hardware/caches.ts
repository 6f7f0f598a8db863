/**
 * The caches of a unit together, and what empties all of them.
 *
 * @spec VT-d 6.2
 */
import { ContextCache, type ContextCacheSnapshot } from './context-cache.ts';
import { HostPermissionCache, type HptCacheEntry } from './host-permission-cache.ts';
import { Iotlb, type IotlbSnapshot } from './iotlb.ts';
import { PasidCache, type PasidCacheSnapshot } from './pasid-cache.ts';

/** State of all caches. */
export interface CachesSnapshot {
  readonly context: ContextCacheSnapshot;
  readonly pasid: PasidCacheSnapshot;
  readonly iotlb: IotlbSnapshot;
  /** HPT cache, oldest entry first. */
  readonly hostPermission: readonly HptCacheEntry[];
}

/** Context cache, PASID cache, IOTLB, HPT cache: what translates and admits DMA. */
export class Caches {
  readonly context = new ContextCache();
  readonly pasid = new PasidCache();
  readonly hostPermission = new HostPermissionCache();
  readonly iotlb: Iotlb;

  /** @param iotlbEntriesLg2 lg2 of the IOTLB entries for 4 KiB pages */
  constructor(iotlbEntriesLg2: number) {
    this.iotlb = new Iotlb(iotlbEntriesLg2);
  }

  /** What SRTP with ESRTPS and switching translation off in scalable units do. */
  invalidateAll(): void {
    this.context.invalidateAll();
    this.pasid.invalidateAll();
    this.iotlb.invalidateAll();
    this.hostPermission.invalidateAll();
  }

  /** Copies of the state. */
  snapshot(): CachesSnapshot {
    return {
      context: this.context.snapshot(),
      pasid: this.pasid.snapshot(),
      iotlb: this.iotlb.snapshot(),
      hostPermission: this.hostPermission.entries(),
    };
  }

  /**
   * Put a state back.
   * @throws {RangeError} with nothing changed, for another size of IOTLB
   */
  restore(state: CachesSnapshot): void {
    this.iotlb.checkSize(state.iotlb);
    this.context.restore(state.context);
    this.pasid.restore(state.pasid);
    this.iotlb.restore(state.iotlb);
    this.hostPermission.restore(state.hostPermission);
  }
}
