/**
 * What a domain has unmapped and not yet invalidated.
 * @module
 */

/** Ranges kept apart before they are merged into one. */
const MAX_RANGES = 16;

/** Ranges of 4 KiB frames whose cached translations must be dropped. */
export class PendingRanges {
  readonly #start = new Float64Array(MAX_RANGES);
  readonly #last = new Float64Array(MAX_RANGES);
  readonly #leafLg2 = new Uint8Array(MAX_RANGES);
  #count = 0;

  /** Ranges held. */
  get count(): number {
    return this.#count;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** First frame of range `index`. */
  startAt(index: number): number {
    return this.#start[index] as number;
  }

  /** Last frame of range `index`, inclusive. */
  lastAt(index: number): number {
    return this.#last[index] as number;
  }

  /** lg2 of the bytes of every leaf in range `index`; 0 = they differ, or nobody knows. */
  leafLg2At(index: number): number {
    return this.#leafLg2[index] as number;
  }

  /**
   * Add a range; one that touches the newest extends it. @hot
   *
   * @param last inclusive
   * @param leafLg2 lg2 of the bytes of all its leaves, or 0
   */
  add(start: number, last: number, leafLg2 = 0): void {
    const newest = this.#count - 1;
    if (newest >= 0 && start === this.lastAt(newest) + 1) {
      this.#last[newest] = last;
      if (this.#leafLg2[newest] !== leafLg2) this.#leafLg2[newest] = 0;
      return;
    }
    if (this.#count === MAX_RANGES) this.#merge();
    this.#start[this.#count] = start;
    this.#last[this.#count] = last;
    this.#leafLg2[this.#count] = leafLg2;
    this.#count++;
  }

  /** Forget all. */
  clear(): void {
    this.#count = 0;
  }

  /** All of them as one range that covers them. */
  #merge(): void {
    this.#start[0] = Math.min(...this.#start);
    this.#last[0] = Math.max(...this.#last);
    this.#leafLg2[0] = 0;
    this.#count = 1;
  }
}
