/**
 * How walkers read entries: one implementation per format.
 * @module
 */

/** What an entry is. Negative codes of `WALK` say what is wrong with it. */
export const ENTRY = { NOT_PRESENT: 0, TABLE: 1, LEAF: 2 } as const;

/** The decoded entry, filled in place. */
export interface DecodedEntry {
  /** Table: its byte address, and the level of its entries. */
  tablePa: number;
  nextLevel: number;
  /** Leaf: its first frame, log2 frames of the whole leaf, state. */
  frame: number;
  sizeLg2: number;
  accessed: boolean;
  dirty: boolean;
  /** Both: what this entry allows, `PROT` READ, WRITE, NOEXEC, PRIV. */
  prot: number;
}

/** An empty record. */
export function createDecodedEntry(): DecodedEntry {
  return {
    tablePa: 0,
    nextLevel: 0,
    frame: 0,
    sizeLg2: 0,
    accessed: false,
    dirty: false,
    prot: 0,
  };
}

/** Decodes one format's entries and knows its geometry. */
export interface EntryDecoder {
  /** log2 of the entries of a table. */
  readonly levelBits: number;
  /** log2 frames of the smallest page. */
  readonly granuleLg2: number;
  /** Decodes the entry at `level`; code of {@link ENTRY}, or a negative `WALK` code. */
  decode(lo: number, hi: number, level: number, out: DecodedEntry): number;
}

/** Frame number in address bits 51:12 of an entry whose other bits are masked away. */
export function frameOf(lo: number, hi: number): number {
  return (hi & 0xfffff) * 0x100000 + (lo >>> 12);
}
