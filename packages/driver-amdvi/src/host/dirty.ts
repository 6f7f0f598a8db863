/**
 * Dirty tracking of host tables.
 *
 * @spec AMD IOMMU 2.2.3 (D bit, DTE.HAD)
 * @linux drivers/iommu/amd/iommu.c (amd_iommu_set_dirty_tracking)
 */
import { type DirtyOps, PendingRanges } from '@iommukit/core';
import { DIRTY, type LeafRecord } from '@iommukit/pgtable-fast';
import { BitmapRuns } from './bitmap-runs.ts';
import type { AmdviPagingDomain } from './domain.ts';
import { rewriteEntries } from './entries.ts';

/** Frames read at once. */
const WINDOW_FRAMES = 2 ** 18;

type Visit = (iovaFrame: number, count: number) => void;

/** Dirty tracking of one domain, nested devices above it included. */
export class DirtyTracking implements DirtyOps {
  readonly #domain: AmdviPagingDomain;
  readonly #ranges = new PendingRanges();
  readonly #leaf: LeafRecord = { iovaPfn: 0, oaPfn: 0, pages: 0, level: 0, wordLo: 0, wordHi: 0 };

  constructor(domain: AmdviPagingDomain) {
    this.#domain = domain;
  }

  get enabled(): boolean {
    return this.#domain.dirtyTracking;
  }

  /** Cached translations do not know of HAD: without a flush, writes through them set no D. */
  setTracking(enable: boolean): void {
    const domain = this.#domain;
    if (domain.dirtyTracking === enable) return;
    domain.dirtyTracking = enable;
    try {
      rewriteEntries(domain);
      domain.tags.flushAll();
    } catch (error) {
      domain.dirtyTracking = !enable;
      rewriteEntries(domain);
      throw error;
    }
  }

  readAndClear(iovaFrame: number, count: number, visit: Visit, clear: boolean): void {
    const ranges = this.#ranges;
    ranges.clear();
    const end = iovaFrame + count;
    const runs = new BitmapRuns((start, frames) => {
      visit(start, frames);
      if (clear) ranges.add(start, start + frames - 1);
    });
    this.#eachWindow(iovaFrame, end, (start, frames, bitmap) => {
      const { table } = this.#domain;
      if (table.readAndClearDirty(start, frames, bitmap, 0, DIRTY.NO_CLEAR) > 0) {
        runs.add(bitmap, start, frames);
      }
    });
    runs.finish();
    if (!clear || ranges.isEmpty) return;
    this.#clean(iovaFrame, end);
    this.#coverWholeLeaf(iovaFrame);
    this.#coverWholeLeaf(end - 1);
    this.#domain.tags.flush(ranges, false);
  }

  leafEnd(iovaFrame: number): number {
    const leaf = this.#leaf;
    if (!this.#domain.table.nextLeaf(iovaFrame, iovaFrame + 1, leaf)) return iovaFrame + 1;
    return leaf.iovaPfn + leaf.pages;
  }

  /**
   * A second pass: a leaf can span many windows, and is cleaned as a whole by the first that
   * touches it.
   */
  #clean(first: number, end: number): void {
    this.#eachWindow(first, end, (start, frames, bitmap) => {
      this.#domain.table.readAndClearDirty(start, frames, bitmap, 0, 0);
    });
  }

  /** Visit the parts of a range where something is mapped. */
  #eachWindow(
    first: number,
    end: number,
    visit: (start: number, frames: number, bitmap: Uint8Array) => void,
  ): void {
    const bitmap = new Uint8Array((Math.min(end - first, WINDOW_FRAMES) + 7) >>> 3);
    const leaf = this.#leaf;
    let start = first;
    while (start < end && this.#domain.table.nextLeaf(start, end, leaf)) {
      start = Math.max(start, leaf.iovaPfn);
      const frames = Math.min(end - start, WINDOW_FRAMES);
      bitmap.fill(0);
      visit(start, frames, bitmap);
      start += frames;
    }
  }

  /** A leaf that reaches out of the range was cleaned as a whole. */
  #coverWholeLeaf(frame: number): void {
    const leaf = this.#leaf;
    if (!this.#domain.table.nextLeaf(frame, frame + 1, leaf) || leaf.pages === 1) return;
    this.#ranges.add(leaf.iovaPfn, leaf.iovaPfn + leaf.pages - 1);
  }
}
