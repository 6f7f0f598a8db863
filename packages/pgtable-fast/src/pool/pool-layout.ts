/**
 * Places of the pool's own data in its memory, as `wasm/pool.ts` and `wasm/control-block.ts` have them.
 * @module
 */

/** A chunk: its first page holds an 8-byte record for each of its pages. */
export const CHUNK_BYTES = 2 * 1024 * 1024;

/** Pool header, page 1 of the first chunk: u32 indices from the start of the pool. */
export const HEADER = {
  /** Number of the first 4 KiB page never handed out, counted from memory offset 0. */
  BUMP: (4096 + 4) / 4,
  /** Number of the page behind the memory. */
  LIMIT: (4096 + 8) / 4,
  /** Pages handed out and not freed. */
  IN_USE: (4096 + 12) / 4,
  /** Free blocks of each order 0..8. */
  FREE_COUNTS: (4096 + 128) / 4,
} as const;

/** Free-list orders: blocks of `2^order` pages. */
export const ORDERS = 9;

/** Pages 2..17 of the first chunk: arguments and results of list, batch and bitmap operations. */
export const SCRATCH_OFFSET = 8192;
/** Size of the scratch area in bytes. */
export const SCRATCH_BYTES = 65536;

/** First page handed out, counted from the start of the pool. */
export const FIRST_PAGE = (SCRATCH_OFFSET + SCRATCH_BYTES) / 4096;

/** Bytes of a table's control block. */
export const CONTROL_BYTES = 64;

/** Fields of a control block: u32 indices from its start. */
export const CONTROL = {
  /** Top word: see {@link topWord}. */
  TOP: 0,
  /** Level-1 tables that ever left the tree, modulo 2^32. */
  LEVEL_1_LEFT: 1,
  /** Freed tables that the caller has taken and not given back. */
  FREED_TAKEN: 2,
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
  /** Entry above the leaf table where the last operation on one granule was; not in shared memory. */
  LAST_SLOT: 15,
} as const;

/**
 * All that a walk needs: offset of the root in bits 31:12, width of the input in bits of a frame number
 * in 11:6, option bits of the format in 5:3, levels in 2:0.
 */
export function topWord(root: number, width: number, options: number, levels: number): number {
  return root | (width << 6) | (options << 3) | levels;
}

/** Levels in a top word. */
export function levelsOf(top: number): number {
  return top & 7;
}

/** Offset of the root in a top word. */
export function rootOf(top: number): number {
  return (top & ~4095) >>> 0;
}

/** Offset of the record of the page at offset `table`: the count of its entries in use. */
export function recordOf(table: number): number {
  return ((table & 0xffe0_0000) | ((table >>> 9) & 0xff8)) >>> 0;
}
