/**
 * What a walk records: every entry read, and the result.
 * @module
 */

/** Negative results of a walk. */
export const WALK = {
  /** An entry on the way is not present. */
  NOT_PRESENT: -1,
  /** The input address is outside the table's range, or not canonical. */
  OUT_OF_RANGE: -2,
  /** Nothing answers at an entry's address. */
  BUS_ERROR: -3,
  /** An entry has a reserved bit set. */
  RESERVED: -4,
  /** An entry's level or page size does not fit its place, or skipped address bits are not zero. */
  BAD_LEVEL: -5,
  /** The callback refused a table's address (nested walks). */
  TABLE_TRANSLATION: -6,
} as const;

/** Most entries that any format's walk reads. */
export const MAX_STEPS = 6;

/** The record of one walk; created once, filled again and again. */
export interface WalkTrace {
  /** Output frame, or a code of {@link WALK}. */
  result: number;
  /** Entries read. */
  steps: number;
  /** Of each step: level, 0 = last. */
  readonly level: Int32Array;
  /** Of each step: byte address of the entry, as the table's own pointers give it. */
  readonly entryPa: Float64Array;
  /** Of each step: halves of the word. */
  readonly wordLo: Uint32Array;
  readonly wordHi: Uint32Array;
  /** log2 bytes of the leaf. */
  pageLg2: number;
  /** Permissions of the whole path: bits of `PROT` READ, WRITE, NOEXEC, PRIV. */
  prot: number;
  /** State of the leaf. */
  accessed: boolean;
  dirty: boolean;
}

/** An empty trace. */
export function createWalkTrace(): WalkTrace {
  return {
    result: WALK.NOT_PRESENT,
    steps: 0,
    level: new Int32Array(MAX_STEPS),
    entryPa: new Float64Array(MAX_STEPS),
    wordLo: new Uint32Array(MAX_STEPS),
    wordHi: new Uint32Array(MAX_STEPS),
    pageLg2: 0,
    prot: 0,
    accessed: false,
    dirty: false,
  };
}
