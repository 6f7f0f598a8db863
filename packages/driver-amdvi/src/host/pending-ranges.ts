/** Ranges kept apart before they are merged into one. */
const MAX_RANGES = 16;

/** Ranges of 4 KiB frames whose cached translations must be dropped. */
export class PendingRanges {
  readonly #start = new Float64Array(MAX_RANGES);
  readonly #last = new Float64Array(MAX_RANGES);
  /** Ranges held. */
  count = 0;

  get isEmpty(): boolean {
    return this.count === 0;
  }

  /** First frame of range `index`. */
  startAt(index: number): number {
    return this.#start[index] as number;
  }

  /** Last frame of range `index`, inclusive. */
  lastAt(index: number): number {
    return this.#last[index] as number;
  }

  /**
   * Add a range; one that touches the newest extends it. @hot
   *
   * @param last inclusive
   */
  add(start: number, last: number): void {
    const newest = this.count - 1;
    if (newest >= 0 && start === this.lastAt(newest) + 1) {
      this.#last[newest] = last;
      return;
    }
    if (this.count === MAX_RANGES) this.#merge();
    this.#start[this.count] = start;
    this.#last[this.count] = last;
    this.count++;
  }

  clear(): void {
    this.count = 0;
  }

  /** All of them as one range that covers them. */
  #merge(): void {
    const { count } = this;
    this.#start[0] = Math.min(...this.#start.subarray(0, count));
    this.#last[0] = Math.max(...this.#last.subarray(0, count));
    this.count = 1;
  }
}
