/**
 * Which page frames of one RAM region are taken: one bit each, lowest-address first fit.
 * @module
 */

const FULL = 0xffff_ffff;

const ctz32 = (word: number): number => 31 - Math.clz32(word & -word);

/** Used-frame bitmap of one region. Indexes count frames from the region's first one. */
export class FrameBitmap {
  /** Frames in the region. */
  readonly count: number;
  /** Frames taken now. */
  usedCount = 0;
  private readonly used: Uint32Array;
  /** Every word below this one is full. */
  private firstWord = 0;

  constructor(count: number) {
    this.count = count;
    this.used = new Uint32Array(Math.ceil(count / 32));
    this.closeEnd();
  }

  /**
   * Take `count` neighbouring frames, lowest first.
   *
   * @param phase the result plus `phase` is a multiple of `align`
   * @returns index of the first frame, or -1 when no hole is large enough
   */
  take(count: number, align: number, phase: number): number {
    const start =
      count === 1 && align === 1 ? this.nextFree(0) : this.findHole(count, align, phase);
    if (start < 0) return -1;
    this.mark(start, count, true);
    return start;
  }

  /** Whether all of `count` frames from `start` are taken. */
  isTaken(start: number, count: number): boolean {
    const free = this.nextFree(start);
    return free < 0 || free >= start + count;
  }

  /** Whether all of `count` frames from `start` are free. */
  isFree(start: number, count: number): boolean {
    return this.nextUsed(start, start + count) === start + count;
  }

  /** Mark frames taken or free. */
  mark(start: number, count: number, taken: boolean): void {
    const end = start + count;
    for (let at = start; at < end; ) {
      const bit = at % 32;
      const bits = Math.min(32 - bit, end - at);
      const mask = bits === 32 ? FULL : (((1 << bits) - 1) << bit) >>> 0;
      const word = at >>> 5;
      const old = this.used[word] as number;
      this.used[word] = taken ? old | mask : old & ~mask;
      at += bits;
    }
    this.usedCount += taken ? count : -count;
    if (!taken && start >>> 5 < this.firstWord) this.firstWord = start >>> 5;
  }

  /** A bit per frame, 1 = used, for a snapshot; bits behind the last frame are 1. */
  save(): Uint32Array {
    return this.used.slice();
  }

  /** @param used what {@link FrameBitmap.save} gave of a bitmap of this size */
  load(used: Uint32Array): void {
    this.used.set(used);
    this.closeEnd();
    this.firstWord = 0;
    this.usedCount = 0;
    for (let at = 0; at < this.count; at++) {
      if (((used[at >>> 5] as number) >>> (at % 32)) & 1) this.usedCount++;
    }
  }

  /** Bits behind the last frame never look free. */
  private closeEnd(): void {
    const rest = this.count % 32;
    const last = this.used.length - 1;
    if (rest !== 0) this.used[last] = ((this.used[last] as number) | (FULL << rest)) >>> 0;
  }

  private findHole(count: number, align: number, phase: number): number {
    let at = this.nextFree(0);
    while (at >= 0) {
      const start = Math.ceil((at + phase) / align) * align - phase;
      if (start + count > this.count) return -1;
      const end = this.nextUsed(start, start + count);
      if (end === start + count) return start;
      at = this.nextFree(end);
    }
    return -1;
  }

  /** Lowest free frame at or above `from`, or -1. */
  private nextFree(from: number): number {
    const used = this.used;
    const fromWord = from >>> 5;
    for (let w = Math.max(fromWord, this.firstWord); w < used.length; w++) {
      let free = ~(used[w] as number);
      if (w === fromWord) free &= FULL << (from % 32);
      if (free === 0) continue;
      if (fromWord <= this.firstWord && from % 32 === 0) this.firstWord = w;
      return w * 32 + ctz32(free);
    }
    return -1;
  }

  /** Lowest taken frame in `[from, end)`, or `end`. */
  private nextUsed(from: number, end: number): number {
    const used = this.used;
    for (let at = from; at < end; at = (at | 31) + 1) {
      const taken = (used[at >>> 5] as number) & (FULL << (at % 32));
      if (taken !== 0) return Math.min(end, (at & ~31) + ctz32(taken));
    }
    return end;
  }
}
