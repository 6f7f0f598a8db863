/**
 * A sparse array of page frames: page number to frame number. It serves as a process's page table
 * and as a file's page cache.
 * @module
 */
import type { FrameRunState } from '../snapshot/memory-state.ts';

const CHUNK_PAGES = 512;

/** Frames by page number (below 2^52). Holds no counts: its owner keeps those. */
export class FrameMap {
  /** Frame of the first page of the last `stretch`; -1 = absent. */
  stretchPfn = -1;
  /** Frame number + 1 per page; 0 = absent. */
  private readonly chunks = new Map<number, Float64Array>();

  /** Frame of a page, or -1. */
  get(page: number): number {
    const chunk = this.chunks.get(Math.floor(page / CHUNK_PAGES));
    return chunk === undefined ? -1 : (chunk[page % CHUNK_PAGES] as number) - 1;
  }

  /** Put `count` neighbouring frames behind `count` neighbouring pages. */
  setRun(page: number, pfn: number, count: number): void {
    for (let done = 0; done < count; ) {
      const key = Math.floor((page + done) / CHUNK_PAGES);
      let chunk = this.chunks.get(key);
      if (chunk === undefined) {
        chunk = new Float64Array(CHUNK_PAGES);
        this.chunks.set(key, chunk);
      }
      const from = (page + done) % CHUNK_PAGES;
      const to = Math.min(CHUNK_PAGES, from + count - done);
      for (let i = from, value = pfn + done + 1; i < to; i++) chunk[i] = value++;
      done += to - from;
    }
  }

  /** Forget `count` pages. */
  clear(page: number, count: number): void {
    for (let done = 0; done < count; ) {
      const key = Math.floor((page + done) / CHUNK_PAGES);
      const from = (page + done) % CHUNK_PAGES;
      const to = Math.min(CHUNK_PAGES, from + count - done);
      if (to - from === CHUNK_PAGES) this.chunks.delete(key);
      else this.chunks.get(key)?.fill(0, from, to);
      done += to - from;
    }
  }

  /**
   * How many pages from `page` on, at most `limit`, are alike: all absent, or present in
   * neighbouring frames. The first frame goes to `stretchPfn`. @hot
   */
  stretch(page: number, limit: number): number {
    const first = this.get(page);
    this.stretchPfn = first;
    return first < 0 ? this.absentStretch(page, limit) : this.presentStretch(page, limit, first);
  }

  /** Call `visit` with every run of present pages in `[page, page + count)`, ascending. */
  forEachRun(
    page: number,
    count: number,
    visit: (page: number, pfn: number, count: number) => void,
  ): void {
    for (let done = 0; done < count; ) {
      const pages = this.stretch(page + done, count - done);
      const pfn = this.stretchPfn;
      if (pfn >= 0) visit(page + done, pfn, pages);
      done += pages;
    }
  }

  /** All runs, ascending, for a snapshot. */
  save(): FrameRunState[] {
    const runs: FrameRunState[] = [];
    for (const key of [...this.chunks.keys()].sort((a, b) => a - b)) {
      this.forEachRun(key * CHUNK_PAGES, CHUNK_PAGES, (page, pfn, count) => {
        const last = runs.at(-1);
        const joins = last && last.page + last.count === page && last.pfn + last.count === pfn;
        if (joins) runs[runs.length - 1] = { ...last, count: last.count + count };
        else runs.push({ page, pfn, count });
      });
    }
    return runs;
  }

  /** Replace everything. */
  load(runs: readonly FrameRunState[]): void {
    this.chunks.clear();
    for (const { page, pfn, count } of runs) this.setRun(page, pfn, count);
  }

  private absentStretch(page: number, limit: number): number {
    for (let done = 0; done < limit; ) {
      const from = (page + done) % CHUNK_PAGES;
      const to = Math.min(CHUNK_PAGES, from + limit - done);
      const chunk = this.chunks.get(Math.floor((page + done) / CHUNK_PAGES));
      let i = from;
      if (chunk === undefined) i = to;
      else while (i < to && chunk[i] === 0) i++;
      done += i - from;
      if (i < to) return done;
    }
    return limit;
  }

  private presentStretch(page: number, limit: number, first: number): number {
    for (let done = 0; done < limit; ) {
      const from = (page + done) % CHUNK_PAGES;
      const to = Math.min(CHUNK_PAGES, from + limit - done);
      const chunk = this.chunks.get(Math.floor((page + done) / CHUNK_PAGES));
      if (chunk === undefined) return done;
      let value = first + done + 1;
      let i = from;
      while (i < to && chunk[i] === value) {
        i++;
        value++;
      }
      done += i - from;
      if (i < to) return done;
    }
    return limit;
  }
}
