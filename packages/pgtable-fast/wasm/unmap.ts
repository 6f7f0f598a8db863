// Unmapping. A leaf that starts in the range leaves as a whole even when it ends behind it; a range
// that starts inside a leaf changes nothing. Tables the range covers completely leave the tree.
import {
  HAS_GROUPS, DYNAMIC_TOP, GRANULE_LG2, LEVEL_BITS, WIDE_ROOT, isLeaf, isTable, groupLg2,
} from './format';
import {
  ENTRIES, GRANULE, LEVEL_MASK, TABLE_BYTES, itemLg2, slot, slotsLg2, tableOffset, parentTableUnrolled, rootOf, levelsOf,
  inputRange, isOut, whole, rootLevel, setRootLevel,
} from './walk';
import { SCRATCH } from './env';
import { top } from './control-block';
import { EINVAL, ERANGE, addLive, liveCount, record } from './pool';
import { clear, clearCounting } from './fill';
import { freeTree } from './freed';

const IN_SCRATCH: i32 = i32.MIN_VALUE;

let control: u32 = 0;
let startedInside: bool = false;

/** Slots of the leaf at `va` that lie before it. */
@inline function slotsBefore(entry: u64, level: i32, va: u64): u32 {
  if (!HAS_GROUPS) return 0;
  return <u32>(va >> itemLg2(level)) & ((1 << slotsLg2(entry, level)) - 1);
}

@inline function unmapLeafTable(table: u32, va: u64, end: u64): u64 {
  const from = slot(table, 0, va);
  let to = slot(table, 0, end - GRANULE) + 8;
  if (HAS_GROUPS) {
    const first = load<u64>(from);
    if (first != 0 && slotsBefore(first, 0, va) != 0) {
      startedInside = true;
      return 0;
    }
    const last = load<u64>(to - 8);
    if (last != 0) to += ((1 << groupLg2(last, 0)) - 1 - slotsBefore(last, 0, end - GRANULE)) << 3;
  }
  let count: u32 = (to - from) >> 3;
  const isRoot = WIDE_ROOT && rootLevel == 0; // it may have more entries than a table
  if (!isRoot && liveCount(table) == ENTRIES) clear(from, to);
  else count = clearCounting(from, to);
  addLive(table, 0 - count);
  return (<u64>count) << GRANULE_LG2;
}

/** Removes the leaf at `va`, all of its slots. */
@inline function unmapLeaf(table: u32, level: i32, at: u32, entry: u64): u64 {
  const slots: u32 = 1 << slotsLg2(entry, level);
  clear(at, at + slots * 8);
  addLive(table, 0 - slots);
  return (<u64>slots) << itemLg2(level);
}

/** Unmaps `[va, end)` below `table`; returns frames, or sets `startedInside`. */
function unmapTree(table: u32, level: i32, va: u64, end: u64): u64 {
  if (level == 0) return unmapLeafTable(table, va, end);
  const item = itemLg2(level);
  const below: u64 = ((<u64>1) << item) - 1;
  let frames: u64 = 0;
  do {
    const next = min((va | below) + 1, end);
    const at = slot(table, level, va);
    const entry = load<u64>(at);
    if (entry == 0) {
      va = next;
    } else if (isLeaf(entry, level)) {
      if ((va & below) != 0 || slotsBefore(entry, level, va) != 0) {
        startedInside = true;
        return 0;
      }
      const size = unmapLeaf(table, level, at, entry);
      frames += size;
      va += size;
    } else {
      const child = tableOffset(entry);
      if ((va & below) == 0 && next - va > below) {
        if (ASC_FEATURE_THREADS) atomic.store<u64>(at, 0);
        else store<u64>(at, 0);
        addLive(table, -1);
        frames += freeTree(control, child, level - 1);
      } else {
        frames += unmapTree(child, level - 1, va, next);
        if (startedInside) return 0;
      }
      va = next;
    }
  } while (va < end);
  return frames;
}

/**
 * A range that lies in two neighbouring leaf tables and leaves part of each, both full: nothing needs
 * counting. `at` is the level-1 entry of the first table, the next entry of the same level-1 table is that of
 * the second. Frames, or 0 when the general way must be taken. Measured: 73 ns instead of 78 for 2 MiB. One
 * fill of 4 KiB where the tables are neighbours in memory too takes 6 ns longer than two of 2 KiB.
 */
@inline function unmapTwo(at: u32, va: u64, end: u64): u64 {
  const last = end - GRANULE;
  if ((va >> itemLg2(1)) + 1 != last >> itemLg2(1)) return 0;
  const left = load<u64>(at);
  const right = load<u64>(at, 8);
  if (!isTable(left, 1) || !isTable(right, 1)) return 0;
  const first = tableOffset(left);
  const second = tableOffset(right);
  const liveFirst = record(first);
  const liveSecond = record(second);
  if ((load<u32>(liveFirst) & load<u32>(liveSecond)) != ENTRIES) return 0;
  const from = slot(first, 0, va);
  const to = slot(second, 0, last) + 8;
  if (from == first || to == second + TABLE_BYTES) return 0; // such a table leaves the tree
  if (HAS_GROUPS && (groupLg2(load<u64>(from), 0) | groupLg2(load<u64>(to - 8), 0)) != 0) return 0;
  store<u32>(liveFirst, (from - first) >> 3);
  store<u32>(liveSecond, ENTRIES - ((to - second) >> 3));
  clear(from, first + TABLE_BYTES);
  clear(second, to);
  return end - va;
}

/**
 * `unmapTree` for a range below one level-1 table that leaves part of it: leaf tables that stay are cleared
 * without a further call. Measured: 5 ns of the 80 that 2 MiB in two leaf tables take.
 */
@inline function unmapNear(parent: u32, va: u64, end: u64): u64 {
  const below: u64 = ((<u64>1) << itemLg2(1)) - 1;
  let frames: u64 = 0;
  do {
    const next = min((va | below) + 1, end);
    const entry = load<u64>(slot(parent, 1, va));
    const isWhole = (va & below) == 0 && next - va > below;
    if (!isTable(entry, 1) || isWhole) {
      // From here on, for as far as it is needed: leaves may reach behind `next`.
      if (entry != 0) return frames + unmapTree(parent, 1, va, end);
    } else {
      frames += unmapLeafTable(tableOffset(entry), va, next);
      if (startedInside) return 0;
    }
    va = next;
  } while (va < end);
  return frames;
}

/**
 * A count for the host: as an int32, which keeps a caller's sum one (measured: 1 ns per call less than a
 * double), or IN_SCRATCH for counts that are none; then it is in the scratch area.
 */
@inline function countToHost(frames: u64): i32 {
  if (frames < 0x8000_0000) return <i32>frames;
  store<f64>(SCRATCH, <f64>(<i64>frames));
  return IN_SCRATCH;
}

/** Unmaps every leaf that starts in the range. Frames unmapped, 0 when it starts inside a leaf, or -errno. */
export function unmapRange(block: u32, iova: f64, frames: f64): i32 {
  const count = whole(frames);
  const first = whole(iova);
  if (isOut(first) || isOut(count)) return EINVAL;
  if (count == 0) return 0;
  const word = top(block);
  const va = inputRange(word, first, count);
  if (isOut(va)) return ERANGE;
  if (((va | count) & (GRANULE - 1)) != 0) return EINVAL;
  const levels = levelsOf(word);
  let end = va + count;
  if (DYNAMIC_TOP) {
    const reach = (<u64>1) << itemLg2(levels);
    if (va >= reach) return 0;
    end = min(end, reach);
  }
  control = block;
  startedInside = false;
  setRootLevel(levels - 1);
  const parent = levels > 2 && va >> itemLg2(2) == (end - 1) >> itemLg2(2) ? parentTableUnrolled(rootOf(word), levels, va) : 0;
  const covered = ((va | end) & (((<u64>1) << itemLg2(2)) - 1)) == 0; // then the parent itself must go
  if (parent != 0 && !covered) {
    const quick = unmapTwo(slot(parent, 1, va), va, end);
    return quick != 0 ? <i32>quick : countToHost(unmapNear(parent, va, end));
  }
  return countToHost(unmapTree(rootOf(word), levels - 1, va, end));
}

const NOT_THE_ROOT: i32 = 99;

/**
 * The same for a host that knows where the level-1 entries of a region are (`regionTable` has told it): a
 * range in two full leaf tables, without a walk. Measured: 66 ns instead of 77 for 2 MiB. Frames, or 0 when
 * `unmapRange` must be called; nothing has changed then.
 */
export function unmapInRegion(entries: u32, first: u32, count: u32): u32 {
  const end = <u64>first + count;
  const region = itemLg2(2);
  if (GRANULE != 1 || <u64>first >> region != (end - 1) >> region) return 0;
  setRootLevel(NOT_THE_ROOT);
  return <u32>unmapTwo(entries + (((first >>> LEVEL_BITS) & LEVEL_MASK) << 3), first, end);
}
