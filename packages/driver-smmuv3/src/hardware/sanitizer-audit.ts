/**
 * Which entries of a unit's caches the tables no longer bear out.
 */
import type { IotlbEntry } from '@iommukit/pgtable-fast';
import { type Caches, NO_INDEX } from './caches.ts';
import type { Stage1Config, StreamConfig } from './configuration.ts';
import { type FreshWalk, isSameConfiguration, type Staleness } from './sanitizer-fresh.ts';
import {
  type CachedConfiguration,
  type CachedPage,
  pageKey,
  type SanitizerRecords,
} from './sanitizer-records.ts';
import { WRITE_RIGHTS } from './stage2-walker.ts';

const NONE = -1;
const USER = 0b111;

/** Compares what is cached with fresh looks at the tables. */
export class CacheAudit {
  readonly #caches: Caches;
  readonly #records: SanitizerRecords;
  readonly #fresh: FreshWalk;

  constructor(caches: Caches, records: SanitizerRecords, fresh: FreshWalk) {
    this.#caches = caches;
    this.#records = records;
    this.#fresh = fresh;
  }

  /** Configuration that is still cached. */
  *liveConfigurations(): Generator<CachedConfiguration> {
    for (const [key, known] of this.#records.configurations) {
      if (this.isLive(known)) yield known;
      else this.#records.configurations.delete(key);
    }
  }

  /** Whether a cache still holds this. */
  isLive({ sid, index, value }: CachedConfiguration): boolean {
    const cache = index === NO_INDEX ? this.#caches.streams : this.#caches.contexts;
    return cache.get(sid, index) === value;
  }

  /** What the tables say where this was read. */
  freshConfiguration({ sid, index }: CachedConfiguration): StreamConfig | Stage1Config | undefined {
    const stream = this.#fresh.stream(sid);
    if (index === NO_INDEX) return stream;
    return stream === undefined || stream.bad ? undefined : this.#fresh.context(stream, sid, index);
  }

  /** Whether the tables say something else now. */
  isStaleConfiguration(known: CachedConfiguration): boolean {
    return !isSameConfiguration(known.value, this.freshConfiguration(known));
  }

  /** With the configuration of now where it still leads to the entry, else with that of then. */
  staleness(entry: IotlbEntry): Staleness | undefined {
    const known = this.#records.pages.get(pageKey(entry));
    if (known === undefined) return undefined;
    const { sid } = known.provenance;
    const { stream, context } = this.#configurationFor(entry, known, sid);
    const need = entry.dirtyKnown ? entry.permissions : entry.permissions & ~WRITE_RIGHTS;
    for (const rights of [need & USER, need & ~USER]) {
      if (rights === 0) continue;
      const stale = this.#fresh.staleness(entry, stream, context, entry.iovaPfn, rights);
      if (stale !== undefined) return stale;
    }
    return undefined;
  }

  #configurationFor(entry: IotlbEntry, known: CachedPage, sid: number) {
    const stream = this.#fresh.stream(sid);
    if (stream === undefined || stream.bad) return known;
    const index = known.context === undefined ? NONE : Math.max(known.provenance.ssid, 0);
    const context = index >= 0 ? this.#fresh.context(stream, sid, index) : undefined;
    return this.#fresh.reaches(entry, stream, context) ? { stream, context } : known;
  }
}
