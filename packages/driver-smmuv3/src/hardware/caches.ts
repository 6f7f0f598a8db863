/**
 * The caches of a unit: stream table entries, context descriptors, translations. Nothing leaves
 * them but by a command, or for want of room.
 *
 * @spec SMMUv3 3.21 (caching of configuration), 3.17 (TLB tagging)
 */
import {
  ANY_TAG,
  ContextCache,
  type ContextCacheState,
  Iotlb,
  type IotlbState,
  NO_PASID,
} from '@iommukit/pgtable-fast';
import type { Stage1Config, StreamConfig } from './configuration.ts';
import { WRITE_RIGHTS } from './stage2-walker.ts';

/** Sizes of the caches. */
export interface CacheOptions {
  /** Stream table entries kept, and as many context descriptors; a power of two, default 1024. */
  readonly configEntries?: number;
  /** Translations kept, a power of two of at least 32; default 2048. */
  readonly tlbEntries?: number;
  /**
   * Whether translations of global pages (nG = 0) are known as such: invalidations by address reach
   * them whatever ASID they name, those by ASID do not. False: nG is ignored and every translation
   * belongs to its ASID, as in some emulators. Default true.
   */
  readonly globalPages?: boolean;
  /**
   * Whether one entry holds a whole contiguous group. Then pages of a group that software set up
   * inconsistently may translate as their neighbours do. Default false: the hint is ignored.
   */
  readonly contiguousGroups?: boolean;
}

/** Index of an STE in its cache; CDs have their number. */
export const NO_INDEX = NO_PASID;

const WAYS = 4;
/** No StreamID. */
const NOTHING = -1;

/** Decoded configuration by StreamID and index. */
export class ConfigCache<T> {
  readonly #cache: ContextCache;
  readonly #values: (T | undefined)[] = [];
  /** The entry that was found last, until the cache changes: 25 ns less for each look-up. */
  #lastSid = NOTHING;
  #lastIndex = 0;
  #last: T | undefined;

  constructor(entries: number) {
    this.#cache = new ContextCache({ sets: entries / WAYS, ways: WAYS, payloadWords: 1 });
  }

  /** The entry, if it is cached. `index` is a CD's number, {@link NO_PASID} for an STE. @hot */
  get(sid: number, index: number): T | undefined {
    if (sid === this.#lastSid && index === this.#lastIndex) return this.#last;
    const at = this.#cache.lookup(sid, index);
    if (at < 0) return undefined;
    this.#lastSid = sid;
    this.#lastIndex = index;
    this.#last = this.#values[at];
    return this.#last;
  }

  set(sid: number, index: number, value: T): void {
    this.#lastSid = NOTHING;
    this.#values[this.#cache.insert(sid, index, 0, 0)] = value;
  }

  /** Drop what agrees with `sid` in the bits of `sidMask`; `index` {@link ANY_TAG} = all. */
  invalidate(sid: number, sidMask: number, index: number = ANY_TAG): void {
    this.#lastSid = NOTHING;
    this.#cache.invalidateSource(sid, sidMask, index);
  }

  invalidateAll(): void {
    this.#lastSid = NOTHING;
    this.#cache.invalidateAll();
    this.#values.length = 0;
  }

  /** Entries and the order in which they give way, for a snapshot. */
  save(): ConfigCacheState<T> {
    const values = [...this.#cache.entries()].flatMap(({ source, pasid }) => {
      const at = this.#cache.lookup(source, pasid);
      const value = this.#values[at];
      return value === undefined ? [] : [{ at, value }];
    });
    return { ...this.#cache.save(), values };
  }

  /** Put a state of a cache of the same size in place. */
  load({ values, ...cache }: ConfigCacheState<T>): void {
    this.#lastSid = NOTHING;
    this.#cache.load(cache);
    this.#values.length = 0;
    for (const { at, value } of values) this.#values[at] = value;
  }
}

/** State of a {@link ConfigCache}, plain data. */
export interface ConfigCacheState<T> extends ContextCacheState {
  readonly values: readonly { readonly at: number; readonly value: T }[];
}

/** What requests do with the caches: look up, and put in what they had to fetch. */
export interface CacheAccess {
  readonly streams: Pick<ConfigCache<StreamConfig>, 'get' | 'set'>;
  readonly contexts: Pick<ConfigCache<Stage1Config>, 'get' | 'set'>;
  readonly tlb: Pick<Iotlb, 'lookup' | 'find' | 'describe' | 'insert'>;
  readonly knowsGlobalPages: boolean;
}

/** Bits of {@link sourceTag} above the VMID. */
const CONFIG_SHIFT = 16;
const ASET_SHIFT = 19;
const WORLD_SHIFT = 20;

/**
 * Tag of a translation's input space: entries of different worlds, ASID sets and kinds of stream
 * stay apart, though one VMID names them. @hot
 */
export const sourceTag = (vmid: number, config: number, aset: number, world: number): number =>
  vmid | (config << CONFIG_SHIFT) | (aset << ASET_SHIFT) | (world << WORLD_SHIFT);

/** What commands name, by WORLD: the VMID in NS-EL1, and one number for each of the others. */
export const WORLD_TAG = [0, 0x1_0000, 0x2_0000] as const;

/** All three caches. */
export class Caches implements CacheAccess {
  readonly streams: ConfigCache<StreamConfig>;
  readonly contexts: ConfigCache<Stage1Config>;
  readonly tlb: Iotlb;
  readonly knowsGlobalPages: boolean;

  /** @throws {RangeError} for sizes that are no such powers of two */
  constructor(options: CacheOptions = {}) {
    const { configEntries = 1024, tlbEntries = 2048 } = options;
    this.knowsGlobalPages = options.globalPages ?? true;
    this.streams = new ConfigCache(configEntries);
    this.contexts = new ConfigCache(configEntries);
    this.tlb = new Iotlb({ sets: tlbEntries / WAYS, ways: WAYS, writeMask: WRITE_RIGHTS });
  }

  /** CFGI_STE: the entries of the streams, and all their contexts. */
  invalidateStreams(sid: number, sidMask: number): void {
    this.streams.invalidate(sid, sidMask);
    this.contexts.invalidate(sid, sidMask);
  }

  /** Forget everything. */
  invalidateAll(): void {
    this.streams.invalidateAll();
    this.contexts.invalidateAll();
    this.tlb.invalidateAll();
  }

  /** Everything, for a snapshot. */
  save(): CachesState {
    return {
      streams: this.streams.save(),
      contexts: this.contexts.save(),
      tlb: this.tlb.save(),
    };
  }

  /** Put a state of caches of the same sizes in place. */
  load({ streams, contexts, tlb }: CachesState): void {
    this.streams.load(streams);
    this.contexts.load(contexts);
    this.tlb.load(tlb);
  }
}

/** State of the caches, plain data. */
export interface CachesState {
  readonly streams: ConfigCacheState<StreamConfig>;
  readonly contexts: ConfigCacheState<Stage1Config>;
  readonly tlb: IotlbState;
}
