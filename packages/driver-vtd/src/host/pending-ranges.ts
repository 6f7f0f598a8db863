import { coverAm, WHOLE_SPACE_AM } from './page-cover.ts';

/** Ranges kept apart before they are merged into one. */
const MAX_RANGES = 16;

/** Page ranges whose translations must be dropped, in 4 KiB frames. */
export class PendingRanges {
  readonly #start = new Float64Array(MAX_RANGES);
  readonly #last = new Float64Array(MAX_RANGES);
  #count = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  get count(): number {
    return this.#count;
  }

  /** First frame of range `i`. */
  startAt(i: number): number {
    return this.#start[i] as number;
  }

  /** Address mask of the cover of range `i`. */
  amAt(i: number): number {
    return coverAm(this.#start[i] as number, this.#last[i] as number);
  }

  /** Address mask of the largest cover. */
  get largestAm(): number {
    let am = 0;
    for (let i = 0; i < this.#count; i++) am = Math.max(am, this.amAt(i));
    return am;
  }

  /**
   * Add a range; one that touches the last one extends it. @hot
   *
   * @param lastPfn inclusive
   */
  add(startPfn: number, lastPfn: number): void {
    const newest = this.#count - 1;
    if (newest >= 0 && startPfn === (this.#last[newest] as number) + 1) {
      this.#last[newest] = lastPfn;
      return;
    }
    if (this.#count === MAX_RANGES) this.#merge();
    this.#start[this.#count] = startPfn;
    this.#last[this.#count] = lastPfn;
    this.#count++;
  }

  /** The whole address space. */
  addEverything(): void {
    this.#count = 0;
    this.add(0, 2 ** WHOLE_SPACE_AM - 1);
  }

  clear(): void {
    this.#count = 0;
  }

  #merge(): void {
    let start = this.#start[0] as number;
    let last = this.#last[0] as number;
    for (let i = 1; i < this.#count; i++) {
      start = Math.min(start, this.#start[i] as number);
      last = Math.max(last, this.#last[i] as number);
    }
    this.#start[0] = start;
    this.#last[0] = last;
    this.#count = 1;
  }
}
