/**
 * Saved memory: sizes, frames and counts must fit together before anything is made of them.
 * @module
 */
import { need } from './check.ts';
import type { FrameCountsState, FrameRunState, MemoryState, RegionState } from './memory-state.ts';

const PAGE_BYTES = 4096;
const MAX_PAGE = 2 ** 52;
/** Pages in all page tables and caches together: 256 GiB, so that crafted runs cannot fill memory. */
const MAX_MAPPED_PAGES = 2 ** 26;

/** Frame numbers of RAM, to check others against. */
export class RamFrames {
  readonly #ranges: readonly { readonly basePfn: number; readonly count: number }[];
  #mapped = 0;

  constructor({ counts }: MemoryState) {
    this.#ranges = counts;
  }

  /** Fail unless a run of frames is RAM. @throws {IommuError} EINVAL */
  need(pfn: number, count: number, what: string): void {
    const inside = this.#ranges.some(
      (range) => pfn >= range.basePfn && pfn + count <= range.basePfn + range.count,
    );
    need(count > 0 && inside, `frames of ${what} are no RAM`, pfn);
  }

  /** Fail unless pages ascend, below `endPage`, and have frames of RAM. @throws {IommuError} EINVAL */
  needRuns(runs: readonly FrameRunState[], endPage: number, what: string): void {
    let from = 0;
    for (const { page, pfn, count } of runs) {
      this.need(pfn, count, what);
      need(page >= from && page + count <= endPage, `pages of ${what} are out of order`, page);
      from = page + count;
      this.#mapped += count;
    }
    need(this.#mapped <= MAX_MAPPED_PAGES, 'too many pages are mapped', this.#mapped);
  }

  /** The same for a file, whose pages have no limit of their own. */
  needFile(runs: readonly FrameRunState[], what: string): void {
    this.needRuns(runs, MAX_PAGE, what);
  }
}

/** @throws {IommuError} EINVAL */
export const checkMemory = (memory: MemoryState): void => {
  for (const region of memory.regions) checkRegion(region);
  for (const counts of memory.counts) {
    checkCounts(counts, counts.owners);
    checkCounts(counts, counts.pins);
    const base = counts.basePfn * PAGE_BYTES;
    const region = memory.regions.find((known) => known.base === base && known.frames);
    need(region?.size === counts.count * PAGE_BYTES, 'frames are counted that are no RAM', base);
    checkUsed(counts, region as RegionState);
  }
};

const checkRegion = ({ name, size, frames, content }: RegionState): void => {
  need(size % PAGE_BYTES === 0, `region ${name} has no whole pages`, size);
  const pages = size / PAGE_BYTES;
  const words = Math.ceil(pages / 32);
  for (const bits of frames ? [frames.used, frames.stale] : []) {
    need(bits.length === words, `region ${name} has another number of frames`, bits.length);
  }
  let from = 0;
  for (const { frame, bytes } of content) {
    const whole = bytes.length > 0 && bytes.length % PAGE_BYTES === 0;
    need(whole && frame >= from, `bytes of region ${name} are out of order`, frame);
    from = frame + bytes.length / PAGE_BYTES;
  }
  need(from <= pages, `region ${name} has bytes behind its end`, from);
};

const checkCounts = ({ count }: FrameCountsState, pairs: Int32Array): void => {
  need(pairs.length % 2 === 0, 'counts of frames come in pairs', pairs.length);
  let frames = 0;
  for (let i = 0; i < pairs.length; i += 2) {
    const [run, value] = [pairs[i] as number, pairs[i + 1] as number];
    need(run > 0 && value >= 0, 'a count of frames is below 0', value);
    frames += run;
  }
  need(frames === count, 'counts of frames are missing', frames);
};

/** Frames that somebody owns or pins are in use. */
const checkUsed = ({ owners, pins }: FrameCountsState, { frames }: RegionState): void => {
  const used = frames?.used as Uint32Array;
  for (const pairs of [owners, pins]) {
    let frame = 0;
    for (let i = 0; i < pairs.length; i += 2) {
      const end = frame + (pairs[i] as number);
      for (; pairs[i + 1] !== 0 && frame < end; frame++) {
        const isUsed = ((used[frame >>> 5] as number) >>> (frame % 32)) & 1;
        need(isUsed === 1, 'a frame is owned or pinned and free', frame);
      }
      frame = end;
    }
  }
};
