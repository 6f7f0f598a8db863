/**
 * A growing list of runs of neighbouring page frames, as pairs (first frame, count).
 * @module
 */

/** Runs of frames, one behind the other; neighbouring runs are merged. */
export class FrameRuns {
  /** Pairs (first frame number, count), 4 KiB frames; only the first `count` pairs are valid. */
  pairs: Float64Array;
  /** Pairs in use. */
  count = 0;
  /** Frames in all runs. */
  pages = 0;

  constructor(capacity = 8) {
    this.pairs = new Float64Array(2 * capacity);
  }

  /** Append `count` frames from `pfn` on. @hot */
  push(pfn: number, count: number): void {
    const at = 2 * this.count;
    this.pages += count;
    if (at > 0 && (this.pairs[at - 2] as number) + (this.pairs[at - 1] as number) === pfn) {
      this.pairs[at - 1] = (this.pairs[at - 1] as number) + count;
      return;
    }
    if (at === this.pairs.length) this.grow();
    this.pairs[at] = pfn;
    this.pairs[at + 1] = count;
    this.count++;
  }

  /** Empty the list; its room stays. */
  clear(): void {
    this.count = 0;
    this.pages = 0;
  }

  private grow(): void {
    const pairs = new Float64Array(2 * this.pairs.length);
    pairs.set(this.pairs);
    this.pairs = pairs;
  }
}
