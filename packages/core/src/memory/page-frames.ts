/**
 * What a kernel's `struct page` holds that matters here: how many owners (page tables, page
 * caches) and how many long-term pins each frame of RAM has. Typed arrays, machine-wide.
 * @module
 */

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

  /** Add `delta` pins to each of `count` frames, which lie in one region. @hot */
  addPins(pfn: number, count: number, delta: number): void {
    const range = this.rangeAt(pfn);
    if (range === undefined) return;
    const from = pfn - range.basePfn;
    const { pins } = range;
    for (let i = from; i < from + count; i++) pins[i] = (pins[i] as number) + delta;
  }

  /** Add `delta` owners to each of `count` frames, which lie in one region. @hot */
  addOwners(pfn: number, count: number, delta: number): void {
    const range = this.rangeAt(pfn);
    if (range === undefined) return;
    const from = pfn - range.basePfn;
    const { owners } = range;
    for (let i = from; i < from + count; i++) owners[i] = (owners[i] as number) + delta;
  }

  /**
   * Call `free` with each run of frames in `[pfn, pfn + count)` that nobody owns or pins any more.
   */
  forEachUnused(pfn: number, count: number, free: (pfn: number, count: number) => void): void {
    const range = this.rangeAt(pfn);
    if (range === undefined) return;
    const { owners, pins } = range;
    const end = pfn - range.basePfn + count;
    let from = pfn - range.basePfn;
    while (from < end) {
      let to = from;
      while (to < end && owners[to] === 0 && pins[to] === 0) to++;
      if (to > from) free(range.basePfn + from, to - from);
      from = to + 1;
    }
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
