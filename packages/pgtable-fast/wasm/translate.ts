// Input frame to output frame, as iova_to_phys: permissions play no part.
import { SCRATCH } from './env';
import {
  CODED_MASK, DYNAMIC_TOP, GRANULE_LG2, HIGH_OUTPUT_SPLIT, LEAF_TABLE_BITS, LEAF_TABLE_MASK, LEVEL_BITS, MAX_LEVELS,
  OUTPUT_HI_MASK, WIDE_ROOT, WIDTH_BY_LEVELS, isTable, outputFrame,
} from './format';
import {
  LEVEL_MASK, OUT, entryAt, frameFromHost, indexForm, isOut, isSignExtended, itemLg2, levelsOf, optionsOf,
  parentTableUnrolled, rootOf, tableOffset, widthOf,
} from './walk';
import { top } from './control-block';

const NONE: u64 = u64.MAX_VALUE;

/** The top word from what the host passes: the word itself, or the control block of a growing table. */
@inline function wordOf(handle: u32): u32 {
  return DYNAMIC_TOP ? top(handle) : handle;
}

/** Width of the input in bits of a frame number; a constant where `levels` is one. */
@inline function inputWidth(word: u32, levels: i32): u64 {
  return WIDTH_BY_LEVELS ? <u64>min(itemLg2(levels), 52) : widthOf(word);
}

/** Whether leaves hold their output frame in more than one place: Arm descriptors of 52 bits. */
@inline function isSplitOutput(word: u32): bool {
  return HIGH_OUTPUT_SPLIT && (optionsOf(word) & 1) != 0;
}

/** What a lookup that ends at this entry gives. */
@inline function resultOf(entry: u64, level: i32, va: u64, opts: u32): f64 {
  if (entry == 0) return -1;
  return <f64>(<i64>outputFrame(entry, level, va, opts));
}

/** Output frame of an input frame in index form, or -1. Callers with a constant `levels` get a walk of it. */
@inline function lookUp(table: u32, levels: i32, va: u64, opts: u32): f64 {
  let entry: u64;
  if (MAX_LEVELS >= 6 && levels >= 6) {
    entry = entryAt(table, 5, levels, va);
    if (!isTable(entry, 5)) return resultOf(entry, 5, va, opts);
    table = tableOffset(entry);
  }
  if (MAX_LEVELS >= 5 && levels >= 5) {
    entry = entryAt(table, 4, levels, va);
    if (!isTable(entry, 4)) return resultOf(entry, 4, va, opts);
    table = tableOffset(entry);
  }
  if (MAX_LEVELS >= 4 && levels >= 4) {
    entry = entryAt(table, 3, levels, va);
    if (!isTable(entry, 3)) return resultOf(entry, 3, va, opts);
    table = tableOffset(entry);
  }
  if (levels >= 3) {
    entry = entryAt(table, 2, levels, va);
    if (!isTable(entry, 2)) return resultOf(entry, 2, va, opts);
    table = tableOffset(entry);
  }
  if (levels >= 2) {
    entry = entryAt(table, 1, levels, va);
    if (!isTable(entry, 1)) return resultOf(entry, 1, va, opts);
    table = tableOffset(entry);
  }
  return resultOf(entryAt(table, 0, levels, va), 0, va, opts);
}

@inline function translateFrame(word: u32, levels: i32, frame: u64): f64 {
  const width = inputWidth(word, levels);
  // A branch: as a value to compare with OUT the check costs 1 ns.
  if (!isSignExtended(word)) {
    if (frame >> width != 0) return -1;
    return lookUp(rootOf(word), levels, frame, optionsOf(word));
  }
  const va = indexForm(word, width, frame);
  if (isOut(va)) return -1;
  return lookUp(rootOf(word), levels, va, optionsOf(word));
}

/** Output frame of `iova`, or -1. The usual depths have walks of their own. */
export function translate(handle: u32, iova: f64): f64 {
  const frame = frameFromHost(iova);
  const word = wordOf(handle);
  const levels = levelsOf(word);
  if (MAX_LEVELS >= 4 && levels == 4) return translateFrame(word, 4, frame);
  if (levels == 3) return translateFrame(word, 3, frame);
  return translateFrame(word, levels, frame);
}

/** Keeps the level-1 table of the frame before: neighbours in the same GiB (4 KiB granule) start there. */
@inline function translateAll(word: u32, count: u32, opts: u32): void {
  const levels = levelsOf(word);
  // The root of two levels may be wider or narrower than a table: each frame takes the whole walk.
  const hasParent = levels >= 2 && !(WIDE_ROOT && levels == 2);
  const end = SCRATCH + count * 8;
  let region: u64 = NONE;
  let table: u32 = 0;
  for (let p = SCRATCH; p < end; p += 8) {
    const frame = frameFromHost(load<f64>(p));
    if (frame >> itemLg2(2) != region) {
      const va = hasParent ? indexForm(word, inputWidth(word, levels), frame) : OUT;
      const parent = isOut(va) ? 0 : parentTableUnrolled(rootOf(word), levels, va);
      if (parent == 0) {
        store<f64>(p, translateFrame(word, levels, frame));
        continue;
      }
      table = parent;
      region = frame >> itemLg2(2);
    }
    const entry = load<u64>(table + ((<u32>(frame >> itemLg2(1)) & LEVEL_MASK) << 3));
    if (isTable(entry, 1)) {
      const index = <u32>(frame >> GRANULE_LG2) & LEVEL_MASK;
      store<f64>(p, resultOf(load<u64>(tableOffset(entry) + (index << 3)), 0, frame, opts));
    } else {
      store<f64>(p, resultOf(entry, 1, frame, opts));
    }
  }
}

/** Replaces `count` input frames in the scratch area by their output frames or -1. */
export function translateBatch(handle: u32, count: u32): void {
  const word = wordOf(handle);
  const opts = optionsOf(word);
  // Without options a loop that need not look at them.
  if (HIGH_OUTPUT_SPLIT && opts != 0) translateAll(word, count, opts);
  else translateAll(word, count, 0);
}

/**
 * For look-ups that the host does itself: offset of the entries of the level-1 table for the region of
 * 2^18 frames that holds `iova`; 0 when a look-up there must come here.
 */
export function regionTable(block: u32, iova: f64): u32 {
  const word = top(block);
  const levels = levelsOf(word);
  const frame = frameFromHost(iova);
  if (levels < 2 || isSplitOutput(word)) return 0;
  const va = indexForm(word, inputWidth(word, levels), frame);
  if (isOut(va)) return 0;
  // A root of two levels may be several tables in a row.
  if (levels == 2) return rootOf(word) + (<u32>(va >> itemLg2(2)) << (LEVEL_BITS + 3));
  return parentTableUnrolled(rootOf(word), levels, va);
}

/** How the host reads the entries it finds there: four words in the scratch area. */
export function describeLookUp(): void {
  store<u32>(SCRATCH, LEAF_TABLE_MASK);
  store<u32>(SCRATCH, LEAF_TABLE_BITS, 4);
  store<u32>(SCRATCH, CODED_MASK, 8);
  store<u32>(SCRATCH, OUTPUT_HI_MASK, 12);
}
