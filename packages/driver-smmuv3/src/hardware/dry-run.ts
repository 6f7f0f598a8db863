/**
 * What stands in for memory and caches where requests are only looked at: reads are real, writes and
 * fills go nowhere.
 */
import type { IotlbEntry } from '@iommukit/pgtable-fast';
import type { CacheAccess } from './caches.ts';
import type { Stage1Config, StreamConfig } from './configuration.ts';
import type { HardwareMemory, HardwareRegion } from './memory.ts';

/** The largest structures, and none crosses such a border. */
const WINDOW_BYTES = 64;
const WINDOW_DWORDS = WINDOW_BYTES / 4;
const MISS = -1;
/** User and privileged write rights in the permissions of cached translations. */
const WRITE_RIGHTS = 0b010_010;

/** A dword that a dry run would have changed. */
export interface MemoryUpdate {
  /** Byte address. */
  readonly address: number;
  /** Bits that differ. */
  readonly bits: number;
}

/** Memory in windows that are copied at first touch. */
export class ShadowMemory implements HardwareMemory {
  readonly #memory: HardwareMemory;
  readonly #windows = new Map<number, HardwareRegion>();

  constructor(memory: HardwareMemory) {
    this.#memory = memory;
  }

  /** A copy of what is around an address. */
  regionAt(pa: number): HardwareRegion | undefined {
    const base = pa - (pa % WINDOW_BYTES);
    const known = this.#windows.get(base);
    if (known !== undefined) return known;
    const region = this.#memory.regionAt(pa);
    if (region === undefined) return undefined;
    const at = (base - region.base) >>> 2;
    const copy = { base, size: WINDOW_BYTES, i32: region.i32.slice(at, at + WINDOW_DWORDS) };
    this.#windows.set(base, copy);
    return copy;
  }

  /** What has been written to the copies. */
  *updates(): Generator<MemoryUpdate> {
    for (const { base, i32 } of this.#windows.values()) {
      const region = this.#memory.regionAt(base);
      if (region === undefined) continue;
      const first = (base - region.base) >>> 2;
      for (let at = 0; at < i32.length; at++) {
        const bits = ((i32[at] as number) ^ (region.i32[first + at] as number)) >>> 0;
        if (bits !== 0) yield { address: base + at * 4, bits };
      }
    }
  }

  /** Forget the copies: read memory as it is now. */
  clear(): void {
    this.#windows.clear();
  }
}

/** The entry that a lookup would use; smallest page first, as the TLB does. */
const findEntry = (
  entries: Iterable<IotlbEntry>,
  source: number,
  asid: number,
  pfn: number,
  need: number,
): IotlbEntry | undefined => {
  let best: IotlbEntry | undefined;
  for (const entry of entries) {
    if (entry.source !== source >>> 0 || entry.pasid !== asid) continue;
    const pages = 2 ** (entry.sizeLg2 - 12);
    if (pfn < entry.iovaPfn || pfn >= entry.iovaPfn + pages) continue;
    const usable = entry.dirtyKnown ? entry.permissions : entry.permissions & ~WRITE_RIGHTS;
    if ((need & ~usable) !== 0 || (best && best.sizeLg2 <= entry.sizeLg2)) continue;
    best = entry;
  }
  return best;
};

/** What a dry run asks of real caches. */
export interface CachesToLookAt {
  readonly streams: Pick<CacheAccess['streams'], 'get'>;
  readonly contexts: Pick<CacheAccess['contexts'], 'get'>;
  readonly tlb: { entries(): Iterable<IotlbEntry> };
  readonly knowsGlobalPages: boolean;
}

/** Caches that are read without a trace in them; `report` hears of every look. */
export const dryCaches = (
  real: CachesToLookAt | undefined,
  report: (name: string, hit: boolean) => void = () => undefined,
): CacheAccess => {
  let found: IotlbEntry | undefined;
  const look = <T>(name: string, value: T | undefined): T | undefined => {
    if (real !== undefined) report(name, value !== undefined);
    return value;
  };
  const find = (source: number, asid: number, pfn: number, need: number): number => {
    const entries = real?.tlb.entries() ?? [];
    found = look('TLB', findEntry(entries, source, asid, pfn, need));
    return found === undefined ? MISS : 0;
  };
  return {
    knowsGlobalPages: real?.knowsGlobalPages ?? true,
    streams: {
      get: (sid, index): StreamConfig | undefined =>
        look('STE cache', real?.streams.get(sid, index)),
      set: () => undefined,
    },
    contexts: {
      get: (sid, index): Stage1Config | undefined =>
        look('CD cache', real?.contexts.get(sid, index)),
      set: () => undefined,
    },
    tlb: {
      find,
      describe: () => found,
      insert: () => 0,
      lookup: (source, asid, pfn, need) => {
        if (find(source, asid, pfn, need) < 0 || found === undefined) return MISS;
        return found.outPfn + (pfn - found.iovaPfn);
      },
    },
  };
};
