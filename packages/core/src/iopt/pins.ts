/**
 * Bookkeeping of pinned pages: what a pages object shares with all others of a machine, which of
 * its pages are needed how often, and the frames of those.
 * @module
 */
import { FrameMap } from '../memory/frame-map.ts';
import {
  type AllocationHook,
  FramePool,
  FrameRuns,
  failsAllocation,
  type PhysicalMemory,
} from '../memory/index.ts';
import type { PagesState } from '../snapshot/iopt-state.ts';

/** What pins of one machine share. */
export class PinContext {
  readonly pool: FramePool;
  /** Room for the frames of one operation. */
  readonly scratch = new FrameRuns();
  /** Asked before every allocation; may be replaced at any time. Default: what the memory says. */
  shouldFail: AllocationHook;

  constructor(memory: PhysicalMemory) {
    this.pool = new FramePool(memory);
    this.shouldFail = (site) => failsAllocation(memory, site);
  }

  /** Take back one pin of every frame in `runs`. */
  unpinRuns(runs: FrameRuns): void {
    for (let i = 0; i < runs.count; i++) {
      this.pool.unpin(runs.pairs[2 * i] as number, runs.pairs[2 * i + 1] as number);
    }
  }
}

/** How many users each page of an object has: a step function over page indexes. */
class CoverMap {
  /** Page indexes where the level changes, ascending. */
  private readonly starts: number[] = [];
  /** Users from each start on; the last one is 0. */
  private readonly levels: number[] = [];

  /** Nobody uses any page. */
  get isEmpty(): boolean {
    return this.starts.length === 0;
  }

  /** Add `delta` users to pages `[first, first + count)`. */
  add(first: number, count: number, delta: number): void {
    const from = this.split(first);
    const to = this.split(first + count);
    for (let i = from; i < to; i++) this.levels[i] = (this.levels[i] as number) + delta;
    this.join(to);
    this.join(from);
  }

  /** Call `visit` with every run of pages in `[first, first + count)` that has `level` users. */
  forEach(
    first: number,
    count: number,
    level: number,
    visit: (first: number, count: number) => void,
  ): void {
    const end = first + count;
    let i = this.indexOf(first);
    for (let at = first; at < end; i++) {
      const next = Math.min(end, this.starts[i + 1] ?? end);
      const users = i < 0 ? 0 : (this.levels[i] as number);
      if (users === level) visit(at, next - at);
      at = next;
    }
  }

  /** Index of the last step at or below a page, or -1. */
  save(): { start: number; level: number }[] {
    return this.starts.map((start, i) => ({ start, level: this.levels[i] as number }));
  }

  load(steps: readonly { readonly start: number; readonly level: number }[]): void {
    for (const { start, level } of steps) {
      this.starts.push(start);
      this.levels.push(level);
    }
  }

  private indexOf(page: number): number {
    let low = 0;
    let high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.starts[middle] as number) <= page) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Make a step start at `page`; returns its index. */
  private split(page: number): number {
    const i = this.indexOf(page);
    if (i >= 0 && this.starts[i] === page) return i;
    this.starts.splice(i + 1, 0, page);
    this.levels.splice(i + 1, 0, i < 0 ? 0 : (this.levels[i] as number));
    return i + 1;
  }

  /** Drop a step that changes nothing. */
  private join(i: number): void {
    const before = i === 0 ? 0 : (this.levels[i - 1] as number);
    if (i >= this.starts.length || this.levels[i] !== before) return;
    this.starts.splice(i, 1);
    this.levels.splice(i, 1);
  }
}

/** Pins a range of source pages into empty `runs`: 0 or a negative errno with nothing pinned. */
export type PinSource = (first: number, count: number, runs: FrameRuns) => number;

/** Pins of an object whose pages do not all have the same users. */
export class PartialPins {
  private readonly context: PinContext;
  private readonly cover = new CoverMap();
  private readonly frames = new FrameMap();

  constructor(context: PinContext) {
    this.context = context;
  }

  /** No page is pinned. */
  get isEmpty(): boolean {
    return this.cover.isEmpty;
  }

  /** Take over pages that are pinned already and have `users` users each. */
  adopt(runs: FrameRuns, users: number): void {
    for (let i = 0, page = 0; i < runs.count; i++) {
      const count = runs.pairs[2 * i + 1] as number;
      this.frames.setRun(page, runs.pairs[2 * i] as number, count);
      page += count;
    }
    this.cover.add(0, runs.pages, users);
  }

  /**
   * One user more for a range; pages without a user so far are pinned.
   *
   * @returns pages newly pinned, or a negative errno with nothing changed
   */
  acquire(first: number, count: number, pin: PinSource): number {
    const gaps: number[] = [];
    this.cover.forEach(first, count, 0, (at, pages) => gaps.push(at, pages));
    let pinned = 0;
    for (let i = 0; i < gaps.length; i += 2) {
      const rc = this.pinGap(gaps[i] as number, gaps[i + 1] as number, pin);
      if (rc < 0) {
        for (let j = 0; j < i; j += 2) this.drop(gaps[j] as number, gaps[j + 1] as number);
        return rc;
      }
      pinned += gaps[i + 1] as number;
    }
    this.cover.add(first, count, 1);
    return pinned;
  }

  /** One user less for a range; returns pages unpinned. */
  release(first: number, count: number): number {
    let unpinned = 0;
    this.cover.forEach(first, count, 1, (at, pages) => {
      this.drop(at, pages);
      unpinned += pages;
    });
    this.cover.add(first, count, -1);
    return unpinned;
  }

  /** Append the frames of a pinned range. */
  collect(first: number, count: number, out: FrameRuns): void {
    this.frames.forEachRun(first, count, (_page, pfn, pages) => out.push(pfn, pages));
  }

  /** Users and frames, for a snapshot. */
  save(): NonNullable<PagesState['partial']> {
    return { cover: this.cover.save(), frames: this.frames.save() };
  }

  /** Put a state back; its frames are pinned already. */
  load(state: NonNullable<PagesState['partial']>): void {
    this.cover.load(state.cover);
    this.frames.load(state.frames);
  }

  private pinGap(first: number, count: number, pin: PinSource): number {
    const runs = new FrameRuns();
    const rc = pin(first, count, runs);
    for (let i = 0, page = first; i < runs.count && rc >= 0; i++) {
      const pages = runs.pairs[2 * i + 1] as number;
      this.frames.setRun(page, runs.pairs[2 * i] as number, pages);
      page += pages;
    }
    return rc;
  }

  private drop(first: number, count: number): void {
    this.frames.forEachRun(first, count, (_page, pfn, pages) =>
      this.context.pool.unpin(pfn, pages),
    );
    this.frames.clear(first, count);
  }
}

/** Append the frames of a part of `runs`: `count` pages from `first` on. */
export const collectRuns = (
  runs: FrameRuns,
  first: number,
  count: number,
  out: FrameRuns,
): void => {
  let skip = first;
  let left = count;
  for (let i = 0; i < runs.count && left > 0; i++) {
    const pages = runs.pairs[2 * i + 1] as number;
    if (skip < pages) {
      const part = Math.min(left, pages - skip);
      out.push((runs.pairs[2 * i] as number) + skip, part);
      left -= part;
    }
    skip = Math.max(0, skip - pages);
  }
};
