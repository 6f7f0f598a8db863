/**
 * Dirty tracking of second-stage domains.
 *
 * @spec VT-d 3.7.2 (accessed and dirty flags, SSADE)
 * @linux drivers/iommu/intel/iommu.c (intel_iommu_set_dirty_tracking)
 */
import { type DirtyOps, PendingRanges } from '@iommukit/core';
import { DIRTY, type LeafRecord } from '@iommukit/pgtable-fast';
import { PASID_ENTRY } from '../spec/pasid-entry.ts';
import type { Attachment } from './attachment.ts';
import type { VtdPagingDomain } from './domain.ts';
import { addEntryFlush, rewriteEntry } from './scalable-entries.ts';
import type { UnitContext } from './unit-context.ts';

const SSADE = PASID_ENTRY.fields.SSADE.mask;
/** Frames scanned at once: a multiple of the largest page, so that no leaf is cut inside. */
const WINDOW_FRAMES = 2 ** 18;

type Visit = (iovaFrame: number, count: number) => void;

/** Dirty tracking of one domain, its nested children included. */
export class DirtyTracking implements DirtyOps {
  readonly #domain: VtdPagingDomain;
  readonly #ranges = new PendingRanges();
  readonly #leaf: LeafRecord = {
    iovaPfn: 0,
    oaPfn: 0,
    pages: 0,
    level: 0,
    wordLo: 0,
    wordHi: 0,
  };

  constructor(domain: VtdPagingDomain) {
    this.#domain = domain;
  }

  get enabled(): boolean {
    return this.#domain.dirtyTracking;
  }

  setTracking(enable: boolean): void {
    const domain = this.#domain;
    if (domain.dirtyTracking === enable) return;
    const attachments = [...entriesOver(domain)];
    switchEntries(attachments, enable);
    try {
      flushEntries(attachments);
    } catch (error) {
      switchEntries(attachments, !enable);
      throw error;
    }
    domain.dirtyTracking = enable;
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
    if (!clear || ranges.isEmpty) return;
    this.#coverWholeLeaf(iovaFrame, end - 1);
    tags.flush(ranges, true);
  }

  leafEnd(iovaFrame: number): number {
    const leaf = this.#leaf;
    if (!this.#domain.table.nextLeaf(iovaFrame, iovaFrame + 1, leaf)) return iovaFrame + 1;
    return leaf.iovaPfn + leaf.pages;
  }

  /** A leaf that reaches out of the range was cleaned as a whole. */
  #coverWholeLeaf(first: number, last: number): void {
    const { table } = this.#domain;
    for (const frame of [first, last]) {
      const leaf = this.#leaf;
      if (!table.nextLeaf(frame, frame + 1, leaf) || leaf.pages === 1) continue;
      this.#ranges.add(leaf.iovaPfn, leaf.iovaPfn + leaf.pages - 1);
    }
  }
}

function* entriesOver(domain: VtdPagingDomain): Generator<Attachment> {
  yield* domain.attachments;
  for (const child of domain.children) yield* child.attachments;
}

const switchEntries = (attachments: readonly Attachment[], enable: boolean): void => {
  for (const attachment of attachments) {
    const first = attachment.words[0] as number;
    attachment.words[0] = enable ? first | SSADE : first & ~SSADE;
    rewriteEntry(attachment, 0);
  }
};

const flushEntries = (attachments: readonly Attachment[]): void => {
  const units = new Set<UnitContext>();
  for (const attachment of attachments) {
    addEntryFlush(attachment);
    units.add(attachment.unit);
  }
  for (const unit of units) unit.invalidate.queue.submit();
};

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
    this.#ranges.add(this.#start, this.#end - 1);
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
