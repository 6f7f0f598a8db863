// Mapping. Two passes: the first finds occupied entries and counts the tables that are missing, the
// second cannot fail. So an error leaves everything as it was.
import { SCRATCH } from './env';
import {
  GRANULE_LG2, HAS_GROUPS, DYNAMIC_TOP, HIGH_OUTPUT_SPLIT, LEVEL_BITS,
  isLeaf, tableEntry, template, leafEntry, groupStep,
} from './format';
import {
  ENTRIES, GRANULE, TABLE_BYTES, itemLg2, slot, tableOffset, leafSlot, leafTableUnrolled, parentTableUnrolled, rootOf, levelsOf,
  inputFrame, inputRange, isOut, whole, optionsOf, setRootLevel,
} from './walk';
import { top, setTop, oaLimit, pageSizes, order, addTables, maxLevels } from './control-block';
import {
  EADDRINUSE, EINVAL, ENOMEM, ERANGE, addLive, allocate, liveCount, physical, release, reserve,
} from './pool';
import { anyPresent, clear, fillSeries } from './fill';
import { freeTree, isEmptyTree } from './freed';

const PROT_SMALLEST: u32 = 1 << 9;
const NONE: u64 = u64.MAX_VALUE;

// The mapping being planned or written; wasm globals, set once per run.
let delta: u64 = 0; // output frame - input frame
let sizes: u64 = 0; // usable page sizes, bit s = 2^s frames
let attr: u64 = 0;
let opts: u32 = 0;
let control: u32 = 0;
let before: u64 = 0; // frame that an earlier run of the same call maps, or NONE

/** log2 frames of the largest page that fits at `va` and ends by `end`. */
@inline function bestSize(va: u64, end: u64): i32 {
  const fit = min<i64>(ctz<u64>(va | (va + delta)), 63 - clz<u64>(end - va));
  return <i32>(63 - clz<u64>(sizes & (((<u64>2) << fit) - 1)));
}

/** Whether a leaf of this level or a larger one can occur anywhere in the run. */
@inline function largePossible(level: i32): bool {
  const item = itemLg2(level);
  return (sizes >> item) != 0 && (delta & (((<u64>1) << item) - 1)) == 0;
}

/** Tables missing for `[va, end)` below `table` (0: the table itself is missing), or EADDRINUSE. */
function plan(table: u32, level: i32, va: u64, end: u64): i32 {
  if (level == 0) {
    if (table == 0 || liveCount(table) == 0) return 0;
    return anyPresent(slot(table, 0, va), slot(table, 0, end - GRANULE) + 8) ? EADDRINUSE : 0;
  }
  const item = itemLg2(level);
  if (table != 0 && liveCount(table) == 0) table = 0;
  if (table == 0 && level == 1 && !largePossible(1)) {
    const shared = before >> item == va >> item ? 1 : 0;
    return <i32>(((end - 1) >> item) - (va >> item) + 1) - shared;
  }
  let missing = 0;
  do {
    const next = min(((va >> item) + 1) << item, end);
    const entry = table != 0 ? load<u64>(slot(table, level, va)) : 0;
    if (entry != 0 && isLeaf(entry, level)) return EADDRINUSE;
    const child = entry != 0 ? tableOffset(entry) : 0;
    if (bestSize(va, end) >= item) {
      if (child != 0 && !isEmptyTree(child, level - 1)) return EADDRINUSE;
    } else {
      if (child == 0 && before >> item != va >> item) missing++;
      const below = plan(child, level - 1, va, next);
      if (below < 0) return below;
      missing += below;
    }
    va = next;
  } while (va < end);
  return missing;
}

@inline function newTable(): u32 {
  addTables(control, 1);
  return allocate(order(control));
}

/** Makes a finished table visible. Readers of a shared pool must not see it half built. */
@inline function install(at: u32, table: u32, childLevel: i32): void {
  const entry = tableEntry(physical(table), childLevel, opts);
  if (ASC_FEATURE_THREADS) atomic.store<u64>(at, entry);
  else store<u64>(at, entry);
}

/** Writes `n` leaves of `size` starting at `at`. */
@inline function writeLeaves(at: u32, n: u32, level: i32, size: i32, va: u64): void {
  const step: u64 = HAS_GROUPS && size > itemLg2(level) ? groupStep(level) : (<u64>4096) << itemLg2(level);
  const oa = va + delta;
  if (HIGH_OUTPUT_SPLIT && oa >> 36 != (oa + ((<u64>n) << itemLg2(level)) - 1) >> 36) {
    for (let i: u32 = 0; i < n; i++) {
      const at2 = oa + ((<u64>i) << itemLg2(level));
      store<u64>(at + i * 8, leafEntry(attr, at2, level, size, opts));
    }
    return;
  }
  fillSeries(at, n, leafEntry(attr, oa, level, size, opts), step);
}

/** Leaves of one level from `va` on, all in `table`: one run of equal sizes. Returns its end. */
@inline function fillRun(table: u32, level: i32, va: u64, end: u64, size: i32): u64 {
  const item = itemLg2(level);
  const larger = HAS_GROUPS && largePossible(level) && (sizes >> (item + 1)) != 0 && (delta & ((<u64>2 << item) - 1)) == 0;
  const n: u32 = larger ? 1 << (size - item) : <u32>((end - va) >> item);
  const at = slot(table, level, va);
  if (level > 0 && liveCount(table) != 0) {
    for (let p = at; p < at + n * 8; p += 8) {
      const entry = load<u64>(p);
      if (entry == 0) continue;
      store<u64>(p, 0);
      freeTree(control, tableOffset(entry), level - 1);
      addLive(table, -1);
    }
  }
  writeLeaves(at, n, level, size, va);
  addLive(table, n);
  return va + ((<u64>n) << item);
}

function fillLeafTable(table: u32, va: u64, end: u64): void {
  if (HAS_GROUPS) {
    do { va = fillRun(table, 0, va, end, bestSize(va, end)); } while (va < end);
  } else {
    const n = <u32>((end - va) >> GRANULE_LG2);
    writeLeaves(slot(table, 0, va), n, 0, GRANULE_LG2, va);
    addLive(table, n);
  }
}

/** A leaf table that is not in the tree yet: only what the run leaves out needs clearing. */
@inline function buildLeafTable(va: u64, end: u64): u32 {
  const table = newTable();
  clear(table, slot(table, 0, va));
  clear(slot(table, 0, end - GRANULE) + 8, table + TABLE_BYTES);
  fillLeafTable(table, va, end);
  return table;
}

/** Writes `[va, end)` below `table`. The plan has made sure that nothing can fail. */
function fill(table: u32, level: i32, va: u64, end: u64): void {
  if (level == 0) return fillLeafTable(table, va, end);
  const item = itemLg2(level);
  do {
    const size = bestSize(va, end);
    if (size >= item) {
      va = fillRun(table, level, va, end, size);
      continue;
    }
    const next = min(((va >> item) + 1) << item, end);
    const at = slot(table, level, va);
    const entry = load<u64>(at);
    if (entry != 0) fill(tableOffset(entry), level - 1, va, next);
    else if (level == 1) {
      install(at, buildLeafTable(va, next), 0);
      addLive(table, 1);
    } else {
      const child = newTable();
      memory.fill(child, 0, TABLE_BYTES);
      fill(child, level - 1, va, next);
      install(at, child, level - 1);
      addLive(table, 1);
    }
    va = next;
  } while (va < end);
}

/** Adds levels on top until `last` fits. 0 or -12; the caller restores the old top on later errors. */
function grow(block: u32, last: u64): i32 {
  let word = top(block);
  let levels = levelsOf(word);
  let wanted = levels;
  while (wanted < <i32>maxLevels(block) && last >> itemLg2(wanted) != 0) wanted++;
  if (wanted == levels) return 0;
  if (reserve(wanted - levels, 0) != 0) return ENOMEM;
  control = block;
  opts = optionsOf(word);
  for (; levels < wanted; levels++) {
    const root = newTable();
    memory.fill(root, 0, TABLE_BYTES);
    install(root, rootOf(word), levels - 1);
    addLive(root, 1);
    word = root | (word & 0xff8) | (levels + 1);
  }
  setTop(block, word);
  return 0;
}

/** Takes back what `grow` added. */
function shrink(block: u32, old: u32): void {
  let table = rootOf(top(block));
  setTop(block, old);
  while (table != rootOf(old)) {
    const below = tableOffset(load<u64>(table));
    addTables(block, -1);
    release(table, 0);
    table = below;
  }
}

@inline function begin(block: u32, prot: u32): void {
  control = block;
  opts = optionsOf(top(block));
  attr = template(prot, opts);
  sizes = pageSizes(block);
  if (prot & PROT_SMALLEST) sizes &= 0 - sizes;
  before = NONE;
}

/** A page as large as the whole table would need one more level. */
@inline function limitSizes(levels: i32): void {
  sizes &= ((<u64>1) << itemLg2(levels)) - 1;
}

/** Errors of a range as a whole; 0 when it may be planned. */
@inline function checkRange(block: u32, va: u64, oa: u64, count: u64): i32 {
  if (isOut(va)) return ERANGE;
  const limit = oaLimit(block);
  if (oa >= limit || count > limit - oa) return ERANGE;
  const smallest = pageSizes(block);
  if (((va | oa | count) & ((smallest & (0 - smallest)) - 1)) != 0) return EINVAL;
  return 0;
}

/** Grows, plans and reserves for `count` frames at `va`; 0 or -errno with nothing changed. */
function prepare(block: u32, va: u64, count: u64): i32 {
  const old = top(block);
  if (DYNAMIC_TOP && grow(block, va + count - 1) != 0) return ENOMEM;
  const word = top(block);
  const levels = levelsOf(word);
  setRootLevel(levels - 1);
  limitSizes(levels);
  const missing = plan(rootOf(word), levels - 1, va, va + count);
  if (missing >= 0 && reserve(missing, order(block)) == 0) return 0;
  if (DYNAMIC_TOP && word != old) shrink(block, old);
  return missing < 0 ? missing : ENOMEM;
}

/** Maps `frames` frames at `iova` to `oaFrame`. 0 or -errno with nothing changed. */
export function mapRange(block: u32, iova: f64, oaFrame: f64, frames: f64, prot: u32): i32 {
  const first = whole(iova);
  const oa = whole(oaFrame);
  const count = whole(frames);
  if (isOut(first) || isOut(oa) || isOut(count) || count == 0) return EINVAL;
  const va = inputRange(top(block), first, count);
  const error = checkRange(block, va, oa, count);
  if (error != 0) return error;
  begin(block, prot);
  delta = oa - va;
  const quick = mapInOneTable(block, va, va + count);
  if (quick <= 0) return quick;
  const failed = prepare(block, va, count);
  if (failed != 0) return failed;
  const word = top(block);
  fill(rootOf(word), levelsOf(word) - 1, va, va + count);
  return 0;
}

/**
 * A range of smallest pages inside one leaf table whose parent exists: plan and fill in one descent.
 * 0 or -errno, or 1 when the general way must be taken.
 */
function mapInOneTable(block: u32, va: u64, end: u64): i32 {
  const word = top(block);
  const levels = levelsOf(word);
  if (levels < 2 || va >> itemLg2(1) != (end - 1) >> itemLg2(1)) return 1;
  const groups = ((<u64>1) << itemLg2(1)) - (GRANULE << 1); // page sizes of several entries
  if (HAS_GROUPS && (delta & ((GRANULE << 1) - 1)) == 0 && (sizes & groups) != 0) return 1;
  if (DYNAMIC_TOP && va >> itemLg2(levels) != 0) return 1;
  if (bestSize(va, end) >= itemLg2(1)) return 1;
  const parent = parentTableUnrolled(rootOf(word), levels, va);
  if (parent == 0) return 1;
  setRootLevel(levels - 1);
  const at = slot(parent, 1, va);
  const entry = load<u64>(at);
  if (entry == 0) {
    if (reserve(1, order(block)) != 0) return ENOMEM;
    install(at, buildLeafTable(va, end), 0);
    addLive(parent, 1);
    return 0;
  }
  if (isLeaf(entry, 1)) return EADDRINUSE;
  const table = tableOffset(entry);
  if (liveCount(table) != 0 && anyPresent(slot(table, 0, va), slot(table, 0, end - GRANULE) + 8)) return EADDRINUSE;
  fillLeafTable(table, va, end);
  return 0;
}

// Lists. The host puts (output frame, frames) pairs into the scratch area, block by block: first all
// of them for planning, then all of them again for writing.

let planned: u32 = 0;
let oldTop: u32 = 0;

/** Starts a list of `frames` in all at `iova`. Returns the errno of the whole range. */
export function beginRuns(block: u32, iova: f64, frames: f64, prot: u32): i32 {
  const first = whole(iova);
  const count = whole(frames);
  if (isOut(first) || isOut(count) || count == 0) return EINVAL;
  const va = inputRange(top(block), first, count);
  const error = checkRange(block, va, 0, GRANULE);
  if (error != 0) return error;
  if ((count & (GRANULE - 1)) != 0) return EINVAL;
  begin(block, prot);
  planned = 0;
  oldTop = top(block);
  if (DYNAMIC_TOP && grow(block, va + count - 1) != 0) return ENOMEM;
  const levels = levelsOf(top(block));
  setRootLevel(levels - 1);
  limitSizes(levels);
  return 0;
}

/** Takes back the start of a list that fails. */
function abandon(block: u32, error: i32): i32 {
  if (DYNAMIC_TOP && top(block) != oldTop) shrink(block, oldTop);
  return error;
}

/** Plans `n` runs from the scratch area at `iova`; `last` reserves. */
export function planRuns(block: u32, iova: f64, n: u32, last: bool): i32 {
  const word = top(block);
  let va = inputFrame(word, whole(iova));
  for (let i: u32 = 0; i < n; i++) {
    const oa = whole(load<f64>(SCRATCH + i * 16));
    const count = whole(load<f64>(SCRATCH + i * 16, 8));
    if (isOut(oa) || isOut(count) || count == 0) return abandon(block, EINVAL);
    const error = checkRange(block, va, oa, count);
    if (error != 0) return abandon(block, error);
    delta = oa - va;
    const missing = plan(rootOf(word), levelsOf(word) - 1, va, va + count);
    if (missing < 0) return abandon(block, missing);
    planned += missing;
    va += count;
    before = va - 1;
  }
  if (last && reserve(planned, order(block)) != 0) return abandon(block, ENOMEM);
  return 0;
}

/** Writes `n` planned runs from the scratch area at `iova`. */
export function writeRuns(block: u32, iova: f64, n: u32): void {
  const word = top(block);
  let va = inputFrame(word, whole(iova));
  let table: u32 = 0; // leaf table of the run before, and the region it covers
  let region: u64 = NONE;
  for (let i: u32 = 0; i < n; i++) {
    const oa = <u64>(<i64>load<f64>(SCRATCH + i * 16));
    const count = <u64>(<i64>load<f64>(SCRATCH + i * 16, 8));
    delta = oa - va;
    if (count == GRANULE) {
      if (va >> itemLg2(1) != region || table == 0) {
        table = leafTableUnrolled(rootOf(word), levelsOf(word), va);
        region = va >> itemLg2(1);
      }
      if (table != 0) {
        const at = leafSlot(table, levelsOf(word), va);
        store<u64>(at, leafEntry(attr, oa, 0, GRANULE_LG2, opts));
        addLive(table, 1);
      } else fill(rootOf(word), levelsOf(word) - 1, va, va + count);
    } else {
      fill(rootOf(word), levelsOf(word) - 1, va, va + count);
    }
    va += count;
  }
}
