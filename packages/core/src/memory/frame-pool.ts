/**
 * What user memory does with page frames: take them, copy them, count owners and pins, and give a
 * frame back when nobody owns or pins it any more.
 * @module
 */
import type { FrameRuns } from './frame-runs.ts';
import { PAGE_BYTES } from './memory-region.ts';
import type { PhysicalMemory } from './physical-memory.ts';

const ENOMEM = -12;

/** Pages of a 2 MiB page. */
export const HUGE_PAGES = 512;

/** Largest power of two below `count` (at least 2): powers fill regions without leaving scraps. */
const largestPowerBelow = (count: number): number => 2 ** Math.ceil(Math.log2(count) - 1);

/** Frames of one machine for user memory. */
export class FramePool {
  readonly memory: PhysicalMemory;
  /** Frames that the last `take` got. */
  takenCount = 0;

  constructor(memory: PhysicalMemory) {
    this.memory = memory;
  }

  /**
   * Take up to `wanted` neighbouring zeroed frames, as many as one hole gives, owned once.
   *
   * @param page page number they are for: from 2 MiB on, frame and page number agree in their low
   * 9 bits so that large leaves are possible
   * @returns first frame (count in `takenCount`), or -12
   */
  takeUpTo(wanted: number, page: number): number {
    const toBoundary = (HUGE_PAGES - (page % HUGE_PAGES)) % HUGE_PAGES;
    let count = toBoundary > 0 && wanted > toBoundary ? toBoundary : wanted;
    for (;;) {
      const pfn = this.take(count, count >= HUGE_PAGES ? HUGE_PAGES : 1);
      if (pfn >= 0 || count <= 1) return pfn;
      count = largestPowerBelow(count);
    }
  }

  /** Take exactly `count` neighbouring frames, owned once; -12 when there are none. */
  take(count: number, alignPages: number): number {
    const base = this.memory.allocPages(count, { alignPages });
    if (base < 0) return ENOMEM;
    this.takenCount = count;
    this.memory.pages.addOwners(base / PAGE_BYTES, count, 1);
    return base / PAGE_BYTES;
  }

  /** Take `count` frames that hold a copy of those at `pfn`; -12 when there are none. */
  takeCopy(pfn: number, count: number, alignPages: number): number {
    const copy = this.take(count, alignPages);
    if (copy < 0) return copy;
    const source = this.bytes(pfn, count);
    if (source) this.memory.copyIn(copy * PAGE_BYTES, source);
    return copy;
  }

  /** The bytes of neighbouring frames. */
  bytes(pfn: number, count: number): Uint8Array | undefined {
    return this.memory.view(pfn * PAGE_BYTES, count * PAGE_BYTES);
  }

  /** One owner less; frames without owner and pin are free again. */
  drop(pfn: number, count: number): void {
    this.memory.pages.addOwners(pfn, count, -1);
    this.freeUnused(pfn, count);
  }

  /** Pin every frame of the runs once more. */
  pinRuns(runs: FrameRuns): void {
    for (let i = 0; i < runs.count; i++) {
      this.memory.pages.addPins(runs.pairs[2 * i] as number, runs.pairs[2 * i + 1] as number, 1);
    }
  }

  /** Take back one pin of neighbouring frames; unowned ones without pin are free again. */
  unpin(pfn: number, count: number): void {
    this.memory.pages.addPins(pfn, count, -1);
    this.freeUnused(pfn, count);
  }

  private freeUnused(pfn: number, count: number): void {
    this.memory.pages.forEachUnused(pfn, count, (first, pages) => {
      this.memory.freePages(first * PAGE_BYTES, pages);
    });
  }
}
