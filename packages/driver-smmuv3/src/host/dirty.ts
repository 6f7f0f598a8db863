/**
 * Dirty tracking of stage-1 domains. Hardware always records: a page counts as dirty from the
 * moment it is mapped writable until it is first cleaned.
 *
 * @spec SMMUv3 3.13 (HTTU); Arm ARM D8.5 (DBM)
 * @linux drivers/iommu/io-pgtable-arm.c (arm_lpae_read_and_clear_dirty)
 */
import { type DirtyOps, PendingRanges } from '@iommukit/core';
import { DIRTY, type LeafRecord } from '@iommukit/pgtable-fast';
import type { SmmuPagingDomain } from './domain.ts';

/** Frames scanned at once: a multiple of the largest page, so that no leaf is cut inside. */
const WINDOW_FRAMES = 2 ** 18;

type Visit = (iovaFrame: number, count: number) => void;

/** Dirty tracking of one domain. */
export class DirtyTracking implements DirtyOps {
  /** Asked for by the owner; the hardware knows no such switch. */
  enabled = false;
  readonly #domain: SmmuPagingDomain;
  readonly #ranges = new PendingRanges();
  readonly #leaf: LeafRecord = { iovaPfn: 0, oaPfn: 0, pages: 0, level: 0, wordLo: 0, wordHi: 0 };

  constructor(domain: SmmuPagingDomain) {
    this.#domain = domain;
  }

  setTracking(enable: boolean): void {
    this.enabled = enable;
  }

  readAndClear(iovaFrame: number, count: number, visit: Visit, clear: boolean): void {
    const { table, tags } = this.#domain;
    const ranges = this.#ranges;
    ranges.clear();
    const flags = clear ? 0 : DIRTY.NO_CLEAR;
    const runs = new RunMerger(visit, ranges);
    const end = iovaFrame + count;
    const bitmap = new Uint8Array((Math.min(count, WINDOW_FRAMES) + 7) >>> 3);
    for (let start = iovaFrame; start < end; ) {
      const next = Math.min(end, (Math.floor(start / WINDOW_FRAMES) + 1) * WINDOW_FRAMES);
      bitmap.fill(0);
      if (table.readAndClearDirty(start, next - start, bitmap, 0, flags) > 0) {
        addRuns(bitmap, start, next - start, runs);
      }
      start = next;
    }
    runs.finish();
    if (!clear || ranges.count === 0) return;
    this.#coverWholeLeaf(iovaFrame);
    this.#coverWholeLeaf(end - 1);
    tags.flush(ranges, true);
  }

  leafEnd(iovaFrame: number): number {
    const leaf = this.#leaf;
    if (!this.#domain.table.nextLeaf(iovaFrame, iovaFrame + 1, leaf)) return iovaFrame + 1;
    return leaf.iovaPfn + leaf.pages;
  }

  /** A leaf that reaches out of the range was cleaned as a whole. */
  #coverWholeLeaf(frame: number): void {
    const leaf = this.#leaf;
    if (!this.#domain.table.nextLeaf(frame, frame + 1, leaf) || leaf.pages === 1) return;
    this.#ranges.add(leaf.iovaPfn, leaf.iovaPfn + leaf.pages - 1, 0);
  }
}

/** Joins runs that touch, also across windows. */
class RunMerger {
  readonly #visit: Visit;
  readonly #ranges: PendingRanges;
  #start = -1;
  #end = -1;

  constructor(visit: Visit, ranges: PendingRanges) {
    this.#visit = visit;
    this.#ranges = ranges;
  }

  add(start: number, end: number): void {
    if (start === this.#end) {
      this.#end = end;
      return;
    }
    this.finish();
    this.#start = start;
    this.#end = end;
  }

  finish(): void {
    if (this.#start < 0) return;
    this.#visit(this.#start, this.#end - this.#start);
    this.#ranges.add(this.#start, this.#end - 1, 0);
    this.#start = -1;
    this.#end = -1;
  }
}

const addRuns = (bitmap: Uint8Array, first: number, count: number, runs: RunMerger): void => {
  let at = 0;
  while (at < count) {
    const byte = bitmap[at >>> 3] as number;
    if (byte === 0) {
      at = (at | 7) + 1;
    } else if (byte === 0xff && (at & 7) === 0 && at + 8 <= count) {
      runs.add(first + at, first + at + 8);
      at += 8;
    } else {
      if (byte & (1 << (at & 7))) runs.add(first + at, first + at + 1);
      at++;
    }
  }
};
