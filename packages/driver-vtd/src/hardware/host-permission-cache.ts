/**
 * The HPT cache: host permission table entries as they were read, by requester and address.
 *
 * Entries of level 1, and pairs of levels 2 and 3 that give a permission, are what the
 * specification calls the leaf cache: they decide without a walk. Entries that point to a table are
 * its paging-structure cache; the walker uses them for their own HPTDID alone.
 *
 * @spec VT-d 6.2.1 (tagging), 6.2.6 (HPT cache), 6.5.2.7 (invalidation)
 */

/** Dwords of an entry. */
export const HPT_WORDS = 4;

/** Entries that are kept; the oldest goes. */
const CAPACITY = 4096;

/** lg2 of the 4 KiB frames that an entry of each level covers; level 0 is none. */
export const HPT_COVERED_LG2 = [0, 5, 13, 21, 29] as const;

/** One cached entry. */
export interface HptCacheEntry {
  /** Requester and PASID in one number, see `sourceOf`. */
  readonly source: number;
  /** 1 to 4. */
  readonly level: number;
  /** First 4 KiB frame that the entry covers, divided by how many it covers. */
  readonly tag: number;
  /** Host permission table domain id. */
  readonly did: number;
  /** Four dwords as read from memory. */
  readonly words: readonly number[];
}

/** Which entries an invalidation removes. */
export interface HptVictims {
  /** Levels 1 to this one. */
  readonly topLevel: number;
  readonly did: number;
  /** 4 KiB frames, inclusive. */
  readonly firstPfn: number;
  readonly lastPfn: number;
}

/** Tag of the entry of a level that covers a frame. */
export const hptTag = (pfn: number, level: number): number =>
  Math.floor(pfn / 2 ** (HPT_COVERED_LG2[level] as number));

/** Level and tag in one number: tags have at most 35 bits. */
const keyOf = (level: number, tag: number): number => tag * 8 + level;

/** By requester, then by level and address. */
export class HostPermissionCache {
  readonly #sources = new Map<number, Map<number, HptCacheEntry>>();
  /** Oldest first. */
  readonly #ages = new Set<HptCacheEntry>();

  /** Entries in use. */
  get live(): number {
    return this.#ages.size;
  }

  /** The entry of a level that covers a frame. */
  find(source: number, level: number, pfn: number): HptCacheEntry | undefined {
    return this.#sources.get(source)?.get(keyOf(level, hptTag(pfn, level)));
  }

  /** Keep an entry. */
  insert(entry: HptCacheEntry): void {
    const { source, level, tag } = entry;
    const own = this.#sources.get(source) ?? new Map<number, HptCacheEntry>();
    this.#sources.set(source, own);
    const old = own.get(keyOf(level, tag));
    if (old !== undefined) this.#ages.delete(old);
    own.set(keyOf(level, tag), entry);
    this.#ages.add(entry);
    if (this.#ages.size <= CAPACITY) return;
    for (const oldest of this.#ages) {
      this.#drop(oldest);
      return;
    }
  }

  #drop({ source, level, tag }: HptCacheEntry): void {
    const own = this.#sources.get(source);
    const entry = own?.get(keyOf(level, tag));
    if (own === undefined || entry === undefined) return;
    this.#ages.delete(entry);
    own.delete(keyOf(level, tag));
    if (own.size === 0) this.#sources.delete(source);
  }

  /** Drop everything. */
  invalidateAll(): number {
    const dropped = this.#ages.size;
    this.#ages.clear();
    this.#sources.clear();
    return dropped;
  }

  /** Drop what matches the domain, the levels and the range. */
  invalidate({ topLevel, did, firstPfn, lastPfn }: HptVictims): number {
    let dropped = 0;
    for (const entry of this.#ages) {
      if (entry.did !== did || entry.level > topLevel) continue;
      const frames = 2 ** (HPT_COVERED_LG2[entry.level] as number);
      const first = entry.tag * frames;
      if (first > lastPfn || first + frames <= firstPfn) continue;
      this.#drop(entry);
      dropped++;
    }
    return dropped;
  }

  /** Entries, oldest first. */
  entries(): HptCacheEntry[] {
    return [...this.#ages];
  }

  /** Put entries back, oldest first. */
  restore(entries: readonly HptCacheEntry[]): void {
    this.invalidateAll();
    for (const entry of entries) this.insert(entry);
  }
}
