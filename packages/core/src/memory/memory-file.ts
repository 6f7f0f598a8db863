/**
 * Files that live in memory (memfd, shared anonymous mappings): size, seals, page cache.
 * @module
 */

import type { MemoryFileState } from '../snapshot/memory-state.ts';
import { FrameMap } from './frame-map.ts';
import { type FramePool, HUGE_PAGES } from './frame-pool.ts';
import type { FrameRuns } from './frame-runs.ts';
import { PAGE_BYTES } from './memory-region.ts';

const EPERM = -1;
const EFAULT = -14;
const EBUSY = -16;
const EINVAL = -22;

/** `F_SEAL_*` bits. @linux include/uapi/linux/fcntl.h */
export const SEAL = {
  SEAL: 1,
  SHRINK: 2,
  GROW: 4,
  WRITE: 8,
  FUTURE_WRITE: 16,
  EXEC: 32,
} as const;

/** Who maps a dma-buf. */
export interface DmabufImporter {
  /**
   * The exporter takes its memory back or moves it: on return nothing reaches the old memory.
   * @linux include/linux/dma-buf.h struct dma_buf_attach_ops
   */
  invalidateMappings(): void;
}

/** Anything an `IOAS_MAP_FILE` may name; only files in memory can be pinned. */
export interface PinnableFile {
  /** A dma-buf: device memory, never charged, out of reach for accesses. */
  readonly isDmabuf?: boolean;
  /**
   * Pin pages of the file into empty `runs`.
   *
   * @returns 0; -22 (EINVAL) past the end of file or for a file that is not in memory; -12
   */
  pinRange(firstPage: number, count: number, runs: FrameRuns): number;
  /** A mapping holds the file from now on: its pages stay when the last descriptor is closed. */
  retain?(): void;
  /** That mapping is gone. */
  release?(): void;
  /** A dma-buf: tell `importer` when its memory is taken back, until `detach`. */
  attach?(importer: DmabufImporter): void;
  detach?(importer: DmabufImporter): void;
}

/** A file that is not in memory (`/dev/null`): it may be named, but never pinned. */
export const UNPINNABLE_FILE: PinnableFile = { pinRange: () => EINVAL };

/** How a file in memory is made. */
export interface MemoryFileOptions {
  /** Bytes. */
  readonly size: number;
  /** 2 MiB pages; `size` counts in whole ones then. */
  readonly hugetlb?: boolean;
  /** `MFD_ALLOW_SEALING`. */
  readonly sealable?: boolean;
}

/** A file in memory. It starts with one reference (its descriptor); mappings add theirs. */
export class MemoryFile implements PinnableFile {
  readonly pool: FramePool;
  readonly hugetlb: boolean;
  /** Bytes. */
  size: number;
  /** `F_SEAL_*` bits set. */
  seals: number;
  /** Shared mappings that may write. */
  writableMappings = 0;
  private references = 1;
  private readonly frames = new FrameMap();

  constructor(pool: FramePool, options: MemoryFileOptions) {
    this.pool = pool;
    this.size = options.size;
    this.hugetlb = options.hugetlb ?? false;
    this.seals = options.sealable ? 0 : SEAL.SEAL;
  }

  /** One reference more (a duplicated descriptor, a mapping). */
  retain(): void {
    this.references++;
  }

  /** One reference less; the last one drops the page cache. */
  release(): void {
    if (--this.references === 0) this.dropFrom(0);
  }

  /**
   * Set the size; pages past it are dropped.
   *
   * @returns 0, or -1 (EPERM) when sealed against it
   */
  truncate(size: number): number {
    if (size < this.size && this.seals & SEAL.SHRINK) return EPERM;
    if (size > this.size && this.seals & SEAL.GROW) return EPERM;
    if (size < this.size) {
      this.dropFrom(size);
      this.pageBytes(Math.floor(size / PAGE_BYTES))?.fill(0, size % PAGE_BYTES);
    }
    this.size = size;
    return 0;
  }

  /**
   * `F_ADD_SEALS`.
   *
   * @returns 0; -22 for unknown bits; -1 (EPERM) once sealed; -16 (EBUSY) for WRITE while somebody
   * has the file mapped writable
   */
  addSeals(seals: number): number {
    if (seals & ~0x3f) return EINVAL;
    if (this.seals & SEAL.SEAL) return EPERM;
    if (seals & SEAL.WRITE && this.writableMappings > 0) return EBUSY;
    this.seals |= seals;
    return 0;
  }

  /** Frame of a page that exists already, or -1. */
  cachedFrame(page: number): number {
    return this.frames.get(page);
  }

  /**
   * Frame of a page, made on first use.
   *
   * @returns frame; -14 (EFAULT, the SIGBUS of a mapping) past the end of file; -12
   */
  frame(page: number): number {
    const cached = this.frames.get(page);
    if (cached >= 0) return cached;
    if (page * PAGE_BYTES >= this.size) return EFAULT;
    const rc = this.fill(page, 1);
    return rc < 0 ? rc : this.frames.get(page);
  }

  /** Bytes of one page, or undefined where nothing was written yet. */
  pageBytes(page: number): Uint8Array | undefined {
    const pfn = this.frames.get(page);
    return pfn < 0 ? undefined : this.pool.bytes(pfn, 1);
  }

  /** @linux mm/memfd.c memfd_pin_folios */
  pinRange(firstPage: number, count: number, runs: FrameRuns): number {
    if ((firstPage + count) * PAGE_BYTES > this.size) return EINVAL;
    const rc = this.collect(firstPage, count, runs);
    if (rc < 0) runs.clear();
    else this.pool.pinRuns(runs);
    return rc;
  }

  /** Append the frames of pages to `runs` without pinning; 0, -14 past the end, -12. */
  collect(firstPage: number, count: number, runs: FrameRuns): number {
    if ((firstPage + count - 1) * PAGE_BYTES >= this.size) return EFAULT;
    for (let done = 0; done < count; ) {
      const pages = this.frames.stretch(firstPage + done, count - done);
      const pfn = this.frames.stretchPfn;
      if (pfn < 0) {
        const rc = this.fill(firstPage + done, pages);
        if (rc < 0) return rc;
        continue;
      }
      runs.push(pfn, pages);
      done += pages;
    }
    return 0;
  }

  /** Size, seals, counts and page cache, for a snapshot. */
  save(): MemoryFileState {
    const { size, hugetlb, seals, writableMappings, references } = this;
    return { size, hugetlb, seals, writableMappings, references, frames: this.frames.save() };
  }

  /** Give own frames back and put a state in place, whose frames are counted already. */
  load(state: MemoryFileState): void {
    this.dropFrom(0);
    this.size = state.size;
    this.seals = state.seals;
    this.writableMappings = state.writableMappings;
    this.references = state.references;
    this.frames.load(state.frames);
  }

  private fill(page: number, count: number): number {
    if (this.hugetlb) return this.fillHuge(page);
    for (let done = 0; done < count; ) {
      const pfn = this.pool.takeUpTo(count - done, page + done);
      if (pfn < 0) return pfn;
      this.frames.setRun(page + done, pfn, this.pool.takenCount);
      done += this.pool.takenCount;
    }
    return 0;
  }

  private fillHuge(page: number): number {
    const pfn = this.pool.take(HUGE_PAGES, HUGE_PAGES);
    if (pfn < 0) return pfn;
    this.frames.setRun(page - (page % HUGE_PAGES), pfn, HUGE_PAGES);
    return 0;
  }

  private dropFrom(size: number): void {
    const unit = this.hugetlb ? HUGE_PAGES : 1;
    const from = Math.ceil(size / (unit * PAGE_BYTES)) * unit;
    const end = Math.ceil(this.size / (unit * PAGE_BYTES)) * unit;
    if (end <= from) return;
    this.frames.forEachRun(from, end - from, (_page, pfn, count) => this.pool.drop(pfn, count));
    this.frames.clear(from, end - from);
  }
}
