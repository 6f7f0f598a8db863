/**
 * How memory stands in a snapshot: regions with their frames, counts of owners and pins, accounts,
 * files.
 * @module
 */
import {
  blob,
  bool,
  f64,
  i32s,
  int,
  list,
  nat,
  optional,
  type Stored,
  struct,
  text,
  u32,
  u32s,
} from './codec.ts';

/** Pages that have frames: `count` of them from `page` on have the frames from `pfn` on. */
export const FRAME_RUN = struct({ page: nat, pfn: nat, count: nat });
/** See {@link FRAME_RUN}. */
export type FrameRunState = Stored<typeof FRAME_RUN>;

/** Frames that are not all zero: the first one, counted from the start of the region. */
const CONTENT = struct({ frame: nat, bytes: blob });

/** A region; `frames` is absent where somebody else owns the bytes. */
const REGION = struct({
  name: text,
  base: nat,
  size: nat,
  frames: optional(struct({ used: u32s, stale: u32s })),
  content: list(CONTENT),
});
/** See {@link REGION}. */
export type RegionState = Stored<typeof REGION>;

/** Counts of frames in a row, run by run: pairs (count of frames, value). */
const FRAME_COUNTS = struct({ basePfn: nat, count: nat, owners: i32s, pins: i32s });
/** See {@link FRAME_COUNTS}. */
export type FrameCountsState = Stored<typeof FRAME_COUNTS>;

/** Physical memory. */
export const MEMORY = struct({
  regions: list(REGION),
  counts: list(FRAME_COUNTS),
  users: list(struct({ uid: int, lockedPages: int })),
});
/** See {@link MEMORY}. */
export type MemoryState = Stored<typeof MEMORY>;

/** A file in memory. */
export const MEMORY_FILE = struct({
  size: f64,
  hugetlb: bool,
  seals: u32,
  writableMappings: int,
  references: int,
  frames: list(FRAME_RUN),
});
/** See {@link MEMORY_FILE}. */
export type MemoryFileState = Stored<typeof MEMORY_FILE>;
