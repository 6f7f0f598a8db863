// Geometry shared by all operations, and the walk to a leaf. `format` is the format's own file: the
// build links one engine per format, so that everything below folds to constants.
import { LEVEL_BITS, GRANULE_LG2, MAX_LEVELS, HAS_GROUPS, WIDE_ROOT, SIGN_EXTENDED, isLeaf, tableLo, leafFrame, groupLg2 } from './format';
import { offsetOf } from './pool';
import { top, options, rootEntries, vaLimit } from './control-block';

export const LEVEL_MASK: u32 = (1 << LEVEL_BITS) - 1;
export const TABLE_BYTES: u32 = 8 << LEVEL_BITS;
export const GRANULE: u64 = 1 << GRANULE_LG2;
export const ENTRIES: u32 = 1 << LEVEL_BITS;

/** log2 of the frames that one entry of `level` covers; level 0 is the leaf level. */
@inline export function itemLg2(level: i32): i32 {
  return GRANULE_LG2 + LEVEL_BITS * level;
}

/** Level of the root of the table that the current operation works on; only wide roots need it. */
export let rootLevel: i32 = 0;
@inline export function setRootLevel(level: i32): void {
  if (WIDE_ROOT) rootLevel = level;
}

/** Address of the entry for `va` in a table of `level`. */
@inline export function slot(table: u32, level: i32, va: u64): u32 {
  let index = <u32>(va >> itemLg2(level));
  if (!WIDE_ROOT || level != rootLevel) index &= LEVEL_MASK;
  return table + (index << 3);
}

@inline export function tableOffset(entry: u64): u32 {
  return offsetOf(tableLo(entry));
}

/** Slots that a leaf covers, as log2. */
@inline export function slotsLg2(entry: u64, level: i32): i32 {
  return HAS_GROUPS ? groupLg2(entry, level) : 0;
}

const OPTION_SIGN_EXTEND: u32 = 1;
const OUT: u64 = u64.MAX_VALUE;

/**
 * The index form of an input frame: itself, or for sign-extended tables the low bits of a canonical
 * frame. OUT when the frame is outside the table's input range.
 */
@inline export function inputFrame(block: u32, frame: u64): u64 {
  const limit = vaLimit(block);
  if (SIGN_EXTENDED && (options(block) & OPTION_SIGN_EXTEND) != 0) {
    const half = limit >> 1;
    const shifted = (frame + half) & 0x000f_ffff_ffff_ffff; // [-half, half) to [0, limit)
    return frame < (1 << 52) && shifted < limit ? frame & (limit - 1) : OUT;
  }
  return frame < limit ? frame : OUT;
}

/** Index form of the first frame of `[frame, frame + count)`; OUT when any of it is outside. */
@inline export function inputRange(block: u32, frame: u64, count: u64): u64 {
  const limit = vaLimit(block);
  const first = inputFrame(block, frame);
  if (first == OUT) return OUT;
  if (SIGN_EXTENDED && (options(block) & OPTION_SIGN_EXTEND) != 0) {
    const half = limit >> 1; // a range must lie in one half
    const room = first < half ? half - first : limit - first;
    return count <= room ? first : OUT;
  }
  return count <= limit - first ? first : OUT;
}

@inline export function isOut(frame: u64): bool {
  return frame == OUT;
}

/** One step down for the unrolled walks: entry of `va` at `level`, root indices unmasked. */
@inline function entryAt(table: u32, level: i32, levels: i32, va: u64): u64 {
  let index = <u32>(va >> itemLg2(level));
  if (level < levels - 1) index &= LEVEL_MASK;
  return load<u64>(table + (index << 3));
}

@inline function frameIn(entry: u64, level: i32, va: u64, opts: u32): i64 {
  const size = itemLg2(level) + slotsLg2(entry, level);
  return leafFrame(entry, level, opts) | (va & (((<u64>1) << size) - 1));
}

/** Output frame of an input frame in index form, or -1. */
@inline export function lookUp(table: u32, levels: i32, va: u64, opts: u32): i64 {
  let entry: u64;
  if (MAX_LEVELS >= 6 && levels >= 6) {
    entry = entryAt(table, 5, levels, va);
    if (entry == 0) return -1;
    if (isLeaf(entry, 5)) return frameIn(entry, 5, va, opts);
    table = tableOffset(entry);
  }
  if (MAX_LEVELS >= 5 && levels >= 5) {
    entry = entryAt(table, 4, levels, va);
    if (entry == 0) return -1;
    if (isLeaf(entry, 4)) return frameIn(entry, 4, va, opts);
    table = tableOffset(entry);
  }
  if (MAX_LEVELS >= 4 && levels >= 4) {
    entry = entryAt(table, 3, levels, va);
    if (entry == 0) return -1;
    if (isLeaf(entry, 3)) return frameIn(entry, 3, va, opts);
    table = tableOffset(entry);
  }
  if (levels >= 3) {
    entry = entryAt(table, 2, levels, va);
    if (entry == 0) return -1;
    if (isLeaf(entry, 2)) return frameIn(entry, 2, va, opts);
    table = tableOffset(entry);
  }
  if (levels >= 2) {
    entry = entryAt(table, 1, levels, va);
    if (entry == 0) return -1;
    if (isLeaf(entry, 1)) return frameIn(entry, 1, va, opts);
    table = tableOffset(entry);
  }
  entry = entryAt(table, 0, levels, va);
  if (entry == 0) return -1;
  return frameIn(entry, 0, va, opts);
}

/** Level-0 table for a single-entry operation, levels unrolled; 0 when there is none. */
@inline export function leafTableUnrolled(table: u32, levels: i32, va: u64): u32 {
  let entry: u64;
  if (MAX_LEVELS >= 6 && levels >= 6) {
    entry = entryAt(table, 5, levels, va);
    if (entry == 0) return 0;
    table = tableOffset(entry);
  }
  if (MAX_LEVELS >= 5 && levels >= 5) {
    entry = entryAt(table, 4, levels, va);
    if (entry == 0 || isLeaf(entry, 4)) return 0;
    table = tableOffset(entry);
  }
  if (MAX_LEVELS >= 4 && levels >= 4) {
    entry = entryAt(table, 3, levels, va);
    if (entry == 0 || isLeaf(entry, 3)) return 0;
    table = tableOffset(entry);
  }
  if (levels >= 3) {
    entry = entryAt(table, 2, levels, va);
    if (entry == 0 || isLeaf(entry, 2)) return 0;
    table = tableOffset(entry);
  }
  if (levels >= 2) {
    entry = entryAt(table, 1, levels, va);
    if (entry == 0 || isLeaf(entry, 1)) return 0;
    table = tableOffset(entry);
  }
  return table;
}

/** Address of the entry for `va` in the level-0 table that the walks above found. */
@inline export function leafSlot(table: u32, levels: i32, va: u64): u32 {
  let index = <u32>(va >> GRANULE_LG2);
  if (!WIDE_ROOT || levels > 1) index &= LEVEL_MASK;
  return table + (index << 3);
}

@inline export function rootOf(topWord: u32): u32 { return topWord & 0xfffff000; }
@inline export function levelsOf(topWord: u32): i32 { return <i32>(topWord & 15); }

/** Whether a number from the host is a whole frame number or count. */
@inline export function isWhole(x: f64): bool {
  return <f64>(<i64>x) == x && x >= 0;
}
