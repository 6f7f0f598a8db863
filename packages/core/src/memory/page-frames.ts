/**
 * What a kernel's `struct page` holds that matters here: how many owners (page tables, page
 * caches) and how many long-term pins each frame of RAM has. Typed arrays, machine-wide.
 * @module
 */
import type { FrameCountsState } from '../snapshot/memory-state.ts';

class FrameRange {
  readonly basePfn: number;
  readonly count: number;
  readonly owners: Int32Array;
  readonly pins: Int32Array;

  constructor(basePfn: number, count: number) {
    this.basePfn = basePfn;
    this.count = count;
    this.owners = new Int32Array(count);
    this.pins = new Int32Array(count);
  }
}

/** Equal values in a row as pairs (how many, value). */
const runsOf = (counts: Int32Array): Int32Array => {
  const pairs: number[] = [];
  for (let from = 0; from < counts.length; ) {
    let to = from;
    while (to < counts.length && counts[to] === counts[from]) to++;
    pairs.push(to - from, counts[from] as number);
    from = to;
  }
  return Int32Array.from(pairs);
};

const fillRuns = (counts: Int32Array, pairs: Int32Array): void => {
  let at = 0;
  for (let i = 0; i < pairs.length; i += 2) {
    counts.fill(pairs[i + 1] as number, at, at + (pairs[i] as number));
    at += pairs[i] as number;
  }
};

const addTo = (counts: Int32Array, from: number, to: number, delta: number): void => {
  for (let i = from; i < to; i++) counts[i] = (counts[i] as number) + delta;
};

const NO_RANGE = { basePfn: 0, count: 0 } as FrameRange;

/** Owner and pin counts per page frame. Frame numbers are physical addresses / 4096. */
export class PageFrames {
  private readonly ranges: FrameRange[] = [];
  private lastHit: FrameRange = NO_RANGE;

  /** Start counting a range of RAM. */
  addRange(basePfn: number, count: number): void {
    this.ranges.push(new FrameRange(basePfn, count));
  }

  /** Long-term pins of a frame. */
  pinCount(pfn: number): number {
    const range = this.rangeAt(pfn);
    return range === undefined ? 0 : (range.pins[pfn - range.basePfn] as number);
  }

  /** Page tables and page caches that hold a frame. */
  ownerCount(pfn: number): number {
    const range = this.rangeAt(pfn);
    return range === undefined ? 0 : (range.owners[pfn - range.basePfn] as number);
  }

  /** Add `delta` pins to each of `count` neighbouring frames. @hot */
  addPins(pfn: number, count: number, delta: number): void {
    for (let at = pfn; at < pfn + count; ) {
      const range = this.rangeAt(at);
      if (range === undefined) return;
      const to = Math.min(range.count, pfn + count - range.basePfn);
      addTo(range.pins, at - range.basePfn, to, delta);
      at = range.basePfn + to;
    }
  }

  /** Add `delta` owners to each of `count` neighbouring frames. @hot */
  addOwners(pfn: number, count: number, delta: number): void {
    for (let at = pfn; at < pfn + count; ) {
      const range = this.rangeAt(at);
      if (range === undefined) return;
      const to = Math.min(range.count, pfn + count - range.basePfn);
      addTo(range.owners, at - range.basePfn, to, delta);
      at = range.basePfn + to;
    }
  }

  /**
   * Call `free` with each run of frames in `[pfn, pfn + count)` that nobody owns or pins any more;
   * a run does not cross from one region of RAM to the next.
   */
  forEachUnused(pfn: number, count: number, free: (pfn: number, count: number) => void): void {
    for (let at = pfn; at < pfn + count; ) {
      const range = this.rangeAt(at);
      if (range === undefined) return;
      const { owners, pins, basePfn } = range;
      const end = Math.min(range.count, pfn + count - basePfn);
      for (let from = at - basePfn; from < end; ) {
        let to = from;
        while (to < end && owners[to] === 0 && pins[to] === 0) to++;
        if (to > from) free(basePfn + from, to - from);
        from = to + 1;
      }
      at = basePfn + end;
    }
  }

  /** All counts, for a snapshot. */
  save(): FrameCountsState[] {
    return this.ranges.map(({ basePfn, count, owners, pins }) => ({
      basePfn,
      count,
      owners: runsOf(owners),
      pins: runsOf(pins),
    }));
  }

  /** @param states of the same ranges, in the same order */
  load(states: readonly FrameCountsState[]): void {
    states.forEach(({ owners, pins }, index) => {
      const range = this.ranges[index] as FrameRange;
      fillRuns(range.owners, owners);
      fillRuns(range.pins, pins);
    });
  }

  private rangeAt(pfn: number): FrameRange | undefined {
    const last = this.lastHit;
    const offset = pfn - last.basePfn;
    if (offset >= 0 && offset < last.count) return last;
    for (const range of this.ranges) {
      if (pfn >= range.basePfn && pfn < range.basePfn + range.count) {
        this.lastHit = range;
        return range;
      }
    }
    return undefined;
  }
}
