/**
 * The interrupt entry cache: interrupt remapping table entries as they were read, by index. An entry
 * stays until a command names its index, whatever happens to the table.
 *
 * @spec VT-d 6.4, 6.5.2.8 (invalidation)
 */

/** One cached entry. */
export interface InterruptCacheEntry {
  readonly index: number;
  /** Four dwords as read from memory. */
  readonly words: readonly number[];
}

/** At most 65,536 entries: one per index. */
export class InterruptCache {
  readonly #entries = new Map<number, Int32Array>();

  /** Dwords of an entry. */
  find(index: number): Int32Array | undefined {
    return this.#entries.get(index);
  }

  /** Keep an entry. */
  insert(index: number, words: ArrayLike<number>): void {
    this.#entries.set(index, Int32Array.from(words));
  }

  /** Drop everything. */
  invalidateAll(): number {
    const dropped = this.#entries.size;
    this.#entries.clear();
    return dropped;
  }

  /** Drop `count` indexes from `first` up. */
  invalidate(first: number, count: number): number {
    let dropped = 0;
    if (count > this.#entries.size) {
      for (const index of this.#entries.keys())
        if (index >= first && index < first + count) dropped += this.#drop(index);
      return dropped;
    }
    for (let index = first; index < first + count; index++) dropped += this.#drop(index);
    return dropped;
  }

  #drop(index: number): number {
    return this.#entries.delete(index) ? 1 : 0;
  }

  /** Entries, oldest first. */
  entries(): InterruptCacheEntry[] {
    return Array.from(this.#entries, ([index, words]) => ({
      index,
      words: Array.from(words, (word) => word >>> 0),
    }));
  }

  /** Put entries back. */
  restore(entries: readonly InterruptCacheEntry[]): void {
    this.#entries.clear();
    for (const { index, words } of entries) this.insert(index, words);
  }
}
