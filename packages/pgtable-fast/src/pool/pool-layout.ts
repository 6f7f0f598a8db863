/**
 * Places of the pool's own data in its memory, as `wasm/pool.ts` and `wasm/control-block.ts` have them.
 * @module
 */

/** A chunk: its first page holds an 8-byte record for each of its pages. */
export const CHUNK_BYTES = 2 * 1024 * 1024;

/** Page 1 of chunk 0. Fields are u32 indices into memory. */
export const HEADER = {
  /** First 4 KiB page never handed out. */
  BUMP: (4096 + 4) / 4,
  /** 4 KiB pages in the memory. */
  LIMIT: (4096 + 8) / 4,
  /** Pages handed out and not freed. */
  IN_USE: (4096 + 12) / 4,
  /** Free blocks of each order 0..8. */
  FREE_COUNTS: (4096 + 128) / 4,
} as const;

/** Free-list orders: blocks of `2^order` pages. */
export const ORDERS = 9;

/** Pages 2..17: arguments and results of list, batch and bitmap operations. */
export const SCRATCH_OFFSET = 8192;
/** Size of the scratch area in bytes. */
export const SCRATCH_BYTES = 65536;

/** First page handed out. */
export const FIRST_PAGE = (SCRATCH_OFFSET + SCRATCH_BYTES) / 4096;

/** Bytes of a table's control block. */
export const CONTROL_BYTES = 64;

/** Fields of a control block: u32 indices from its start. */
export const CONTROL = {
  /** Root offset (page aligned) | levels. */
  TOP: 0,
  OPTIONS: 1,
  /** u64: frames of the input space. */
  VA_LIMIT: 2,
  /** u64: frames of the output space. */
  OA_LIMIT: 4,
  /** u64: bit s set when pages of 2^s frames may be used. */
  PAGE_SIZES: 6,
  /** Order of every table but the root. */
  ORDER: 8,
  ROOT_ORDER: 9,
  FREED_HEAD: 10,
  FREED_COUNT: 11,
  ROOT_ENTRIES: 12,
  MAX_LEVELS: 13,
  /** Tables in the tree. */
  TABLES: 14,
} as const;
