/**
 * The operations every page table has, whatever its format.
 * @module
 */
import type { PageTableFormat } from '../formats/format.ts';
import type { WalkTrace } from '../walk/walk-trace.ts';

/**
 * Permissions and hints of a mapping. READ to PRIV have the values of the kernel's `IOMMU_*` flags.
 * A format ignores what it has no bits for.
 * @linux include/linux/iommu.h
 */
export const PROT = {
  READ: 1,
  WRITE: 2,
  /** Cacheable memory. Arm: normal write-back instead of non-cacheable. */
  CACHE: 4,
  /** Not executable. */
  NOEXEC: 8,
  /** Device memory. Arm: Device-nGnRE. */
  MMIO: 16,
  /** Privileged accesses only. */
  PRIV: 32,
  /** Arm stage 1: mark writable pages with DBM, so that hardware tracks writes to them. */
  DIRTY_TRACKED: 1 << 8,
  /** Use only the table's smallest page size. */
  SMALLEST_PAGES: 1 << 9,
} as const;

/** Flags of {@link PageTable.readAndClearDirty}. */
export const DIRTY = {
  /** Report without cleaning, as `IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR`. */
  NO_CLEAR: 1,
} as const;

/** A leaf found by {@link PageTable.nextLeaf}; the caller's record, filled in place. */
export interface LeafRecord {
  /** First input frame of the whole leaf. */
  iovaPfn: number;
  /** First output frame of the whole leaf. */
  oaPfn: number;
  /** Frames of the leaf, a power of two. */
  pages: number;
  /** Level of its entry, 0 = last level. */
  level: number;
  /** Halves of its (first) entry. */
  wordLo: number;
  wordHi: number;
}

/** What {@link PageTable.stats} returns. */
export interface TableStats {
  /** Frames mapped. */
  readonly mappedPages: number;
  /** Tables in the tree, the root counted once. */
  readonly tables: number;
  /** Memory of these tables in bytes. */
  readonly tableBytes: number;
  /** Tables that left the tree and wait for {@link PageTable.takeFreedTables}. */
  readonly freedTables: number;
}

/**
 * One page table in a pool. Addresses are numbers of 4 KiB frames (2 KiB for the mock format) of the
 * full 64-bit address, also where the granule is larger: a 64 KiB page has 16 frames, and every frame
 * number and count must then be a multiple of 16.
 *
 * Errors are negative errno values, see {@link ERRNO}; an operation that returns one has changed nothing.
 * Nothing here allocates an object, except where noted.
 */
export interface PageTable {
  readonly format: PageTableFormat;
  /** Host-physical byte address of the root. Changes when a table with a dynamic top grows. */
  readonly rootPa: number;
  /** Levels in use. Changes when a table with a dynamic top grows. */
  readonly levels: number;
  readonly iovaBits: number;
  readonly oaBits: number;
  /** log2 bytes of the page sizes that mapping may choose from, ascending. */
  readonly pageSizesLg2: readonly number[];

  /**
   * Maps `[iovaPfn, iovaPfn + countPages)` to `[oaPfn, oaPfn + countPages)` with the largest pages that
   * address, alignment and length allow.
   * @hot
   * @param prot bits of {@link PROT}, READ or WRITE at least
   * @returns 0; -22 EINVAL no permission, unknown bit, not a whole number, length 0 or alignment;
   * -34 ERANGE input or output beyond the table's width; -98 EADDRINUSE; -12 ENOMEM
   * @linux drivers/iommu/generic_pt/iommu_pt.h map_range
   */
  mapRange(iovaPfn: number, oaPfn: number, countPages: number, prot: number): number;

  /**
   * Maps consecutive input frames to a list of output runs.
   * @param runs pairs (first output frame, frames), `runCount` of them
   * @returns as {@link mapRange}, for the list as a whole
   */
  mapRuns(iovaPfn: number, runs: Float64Array, runCount: number, prot: number): number;

  /**
   * Maps consecutive input granules to a list of output frames, one entry per granule. Neighbours that
   * are contiguous become larger pages where possible.
   * @returns as {@link mapRange}, for the list as a whole
   */
  mapList(iovaPfn: number, oaPfns: Float64Array, count: number, prot: number): number;

  /**
   * Unmaps every leaf that starts in the range, holes allowed. A large leaf that ends behind the range
   * goes as a whole; a range that starts inside a leaf changes nothing and returns 0. Tables that the
   * range covers completely wait for {@link takeFreedTables}.
   * @hot
   * @returns frames unmapped (can be more than asked for); -22 EINVAL, -34 ERANGE
   * @linux drivers/iommu/generic_pt/iommu_pt.h unmap_range
   */
  unmapRange(iovaPfn: number, countPages: number): number;

  /**
   * Output frame of an input frame, permissions not considered (as `iova_to_phys`).
   * @hot
   * @param iovaPfn a whole number; anything else gives the translation of some frame
   * @returns frame, or -1 when nothing is mapped there or it lies outside the input range
   */
  translate(iovaPfn: number): number;

  /**
   * Translates `count` frames of `iovaPfns` into `out` (which may be the same array).
   * @hot
   * @throws {RangeError} an array is shorter than that
   */
  translateBatch(iovaPfns: Float64Array, out: Float64Array, count: number): void;

  /**
   * Reads the range back as runs of consecutive output frames: pairs (first frame, frames) into `out`;
   * a hole is a run of frame -1.
   * @hot
   * @returns runs written, or -errno. When `out` is full the runs cover only the start of the range:
   * continue behind the sum of their frames.
   */
  readRuns(iovaPfn: number, countPages: number, out: Float64Array): number;

  /**
   * Sets the bit of every dirty frame of the range and cleans the leaves. The bits of a large leaf go
   * together; if it reaches beyond the range it is cleaned all the same, so ask for whole leaves.
   * @param bitmap bits are set, never cleared
   * @param bitOffset bit of frame `iovaPfn`
   * @param flags bits of {@link DIRTY}
   * @param pagesPerBitLg2 log2 frames for which one bit stands, counted from `iovaPfn`
   * @returns dirty frames in the range; -22 EINVAL (bitmap too small also), -34 ERANGE
   */
  readAndClearDirty(
    iovaPfn: number,
    countPages: number,
    bitmap: Uint8Array,
    bitOffset: number,
    flags?: number,
    pagesPerBitLg2?: number,
  ): number;

  /**
   * What hardware does on an access: accessed in every entry used, dirty in the leaf on a write. For a
   * leaf with several copies only the copy used changes.
   * @hot
   * @returns 0; -2 ENOENT not mapped; -13 EACCES write to a leaf that does not allow it; -34 ERANGE
   */
  setAccessedDirty(iovaPfn: number, write: boolean): number;

  /**
   * Splits the leaf at `iovaPfn` into leaves of `2^pageLg2` bytes (default: the smallest page), same
   * permissions, accessed and dirty state. Nothing to do is success.
   * @returns 0; -2 ENOENT not mapped; -22 EINVAL not a page size of the table; -12 ENOMEM
   */
  splitLeaf(iovaPfn: number, pageLg2?: number): number;

  /**
   * Replaces consecutive leaves of the range that map consecutive frames with equal attributes by larger
   * ones, up to `2^maxPageLg2` bytes (default: the largest page). Dirty or accessed in one is dirty or
   * accessed in the merged leaf.
   * @returns merged leaves made, or -errno
   */
  mergeLeaves(iovaPfn: number, countPages: number, maxPageLg2?: number): number;

  /**
   * Walks to the leaf and records every step.
   * @param trace from `createWalkTrace()`
   * @returns output frame, or a negative code of `WALK`
   */
  walk(iovaPfn: number, trace: WalkTrace): number;

  /** First leaf that ends behind `iovaPfn` and starts before `endPfn`, written to `leaf`; false if none. */
  nextLeaf(iovaPfn: number, endPfn: number, leaf: LeafRecord): boolean;

  /**
   * Takes over the tables that left the tree since the last call. Give them back with {@link freeTables}
   * when no hardware can still hold a pointer to them.
   * @returns a handle, 0 when there are none
   */
  takeFreedTables(): number;

  /**
   * Gives tables of {@link takeFreedTables} back to the pool. Constant time.
   * @throws {RangeError} a handle that this table did not give, or that was freed before
   */
  freeTables(handle: number): void;

  /** Frees all tables at once, the waiting ones too; the caller has invalidated. Later calls return errors. */
  destroy(): void;

  /** Counts by walking the interior tables; allocates its result. */
  stats(): TableStats;
}
