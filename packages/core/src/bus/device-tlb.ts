import type { EndpointState } from '../snapshot/scenario-state.ts';
import type { AtsCompletion } from './request.ts';

/** One cached ATS translation of a 4 KiB page. */
export interface DeviceTlbEntry {
  /** Host physical 4 KiB frame. */
  readonly pfn: number;
  readonly read: boolean;
  readonly write: boolean;
  readonly global: boolean;
}

/** Pages a device's TLB holds unless its options say otherwise. */
export const DEVICE_TLB_ENTRIES = 4096;

/**
 * The address translation cache (ATC) inside an endpoint. Entries are kept per 4 KiB page; a
 * large completion is cached page by page as pages are used. They stay until an invalidation
 * message reaches them or the cache overflows (oldest first).
 *
 * @spec PCI Express Base 6.0, 10.3 (ATS invalidation)
 */
export class DeviceTlb {
  readonly #byPasid = new Map<number, Map<number, DeviceTlbEntry>>();
  readonly #capacity: number;
  #entries = 0;
  /** Lookups answered from the cache, and those that were not. */
  readonly stats = { hits: 0, misses: 0, invalidated: 0 };

  /** @param capacity pages it holds before it forgets the oldest */
  constructor(capacity = DEVICE_TLB_ENTRIES) {
    this.#capacity = capacity;
  }

  /** The entry of a page, if it is cached. `pasid` -1 = without PASID. */
  lookup(pasid: number, iovaPfn: number): DeviceTlbEntry | undefined {
    const entry = this.#byPasid.get(pasid)?.get(iovaPfn);
    if (entry) this.stats.hits++;
    else this.stats.misses++;
    return entry;
  }

  /** Keep what a successful completion said about the page `iovaPfn`. */
  insert(pasid: number, iovaPfn: number, completion: AtsCompletion): DeviceTlbEntry {
    if (this.#entries >= this.#capacity) this.#dropOldest();
    const pagesOfRegion = 2 ** (completion.sizeLg2 - 12);
    const entry = {
      pfn: completion.pfn + (iovaPfn % pagesOfRegion),
      read: completion.read === 1,
      write: completion.write === 1,
      global: completion.global === 1,
    };
    const pages = this.#byPasid.get(pasid) ?? new Map<number, DeviceTlbEntry>();
    this.#byPasid.set(pasid, pages);
    if (!pages.has(iovaPfn)) this.#entries++;
    pages.set(iovaPfn, entry);
    return entry;
  }

  /**
   * Drop what an invalidation message names.
   *
   * @param pasid -1 = entries without PASID
   * @param sizeLg2 lg2 of bytes, naturally aligned; 64 = everything
   * @param global drop global entries of every PASID too; with `pasid` -1 every entry of the
   *   range, whatever its PASID
   */
  invalidate(pasid: number, addressPfn: number, sizeLg2: number, global: boolean): void {
    const pages = 2 ** (sizeLg2 - 12);
    const start = addressPfn - (addressPfn % pages);
    for (const [tag, entries] of this.#byPasid) {
      if (tag !== pasid && !global) continue;
      const globalOnly = tag !== pasid && pasid !== -1;
      for (const [pfn, entry] of entries) {
        if (pfn < start || pfn >= start + pages) continue;
        if (globalOnly && !entry.global) continue;
        entries.delete(pfn);
        this.#entries--;
        this.stats.invalidated++;
      }
    }
  }

  /** Forget everything, as a function-level reset does. */
  clear(): void {
    this.#byPasid.clear();
    this.#entries = 0;
  }

  /** Pages it holds at most. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Entries by PASID, oldest first, for a snapshot. */
  save(): EndpointState['tlb'] {
    return [...this.#byPasid].map(([pasid, pages]) => ({
      pasid,
      entries: [...pages].map(([page, entry]) => ({ page, ...entry })),
    }));
  }

  /** Put entries back. */
  load(tlb: EndpointState['tlb'], stats: EndpointState['stats']): void {
    this.#byPasid.clear();
    this.#entries = 0;
    for (const { pasid, entries } of tlb) {
      const pages = new Map<number, DeviceTlbEntry>();
      for (const { page, ...entry } of entries) pages.set(page, entry);
      this.#byPasid.set(pasid, pages);
      this.#entries += pages.size;
    }
    Object.assign(this.stats, stats);
  }

  #dropOldest(): void {
    for (const entries of this.#byPasid.values()) {
      for (const pfn of entries.keys()) {
        entries.delete(pfn);
        this.#entries--;
        return;
      }
    }
  }
}
