// Single leaves: finding, splitting into smaller ones, merging into larger ones.
import { SCRATCH } from './env';
import {
  DYNAMIC_TOP, GRANULE_LG2, HAS_GROUPS, LEVEL_BITS,
  isLeaf, leafAttr, leafEntry, leafFrame, tableEntry, statusMask, joinStatus, groupStep,
} from './format';
import { ENTRIES, GRANULE, TABLE_BYTES, itemLg2, slot, slotsLg2, tableOffset, rootOf, levelsOf, inputFrame, inputRange, isOut, whole, optionsOf, widthOf, outward, boundary, setRootLevel } from './walk';
import { EINVAL, ENOENT, ENOMEM, ERANGE, addLive, allocate, liveCount, physical, reserve } from './pool';
import { addTables, order, pageSizes, top } from './control-block';
import { freeTree } from './freed';

let control: u32 = 0;
let opts: u32 = 0;
let sizes: u64 = 0;
let foundAt: u32 = 0;
let foundTable: u32 = 0;
let foundLevel: i32 = 0;
let foundStart: u64 = 0;
let foundSize: i32 = 0;

/** Frames that the levels in use can index. */
@inline function reach(word: u32): u64 {
  const limit = (<u64>1) << widthOf(word);
  return DYNAMIC_TOP ? min(limit, (<u64>1) << itemLg2(levelsOf(word))) : limit;
}

function search(table: u32, level: i32, va: u64, end: u64): bool {
  const item = itemLg2(level);
  while (va < end) {
    const at = slot(table, level, va);
    const entry = load<u64>(at);
    const next = min(((va >> item) + 1) << item, end);
    if (entry != 0) {
      if (isLeaf(entry, level)) {
        foundTable = table;
        foundLevel = level;
        foundSize = item + slotsLg2(entry, level);
        foundStart = va >> foundSize << foundSize;
        foundAt = at - (<u32>((va - foundStart) >> item) << 3);
        return true;
      }
      if (search(tableOffset(entry), level - 1, va, next)) return true;
    }
    va = next;
  }
  return false;
}

/** Finds the first leaf that ends behind `va` and starts before `end` (index form). */
@inline function find(block: u32, va: u64, end: u64): bool {
  const word = top(block);
  control = block;
  opts = optionsOf(word);
  setRootLevel(levelsOf(word) - 1);
  return search(rootOf(word), levelsOf(word) - 1, va, min(end, reach(word)));
}

/** First leaf in `[iova, end)`, written to the scratch area as six doubles. 1, or 0 when there is none. */
export function nextLeaf(block: u32, iova: f64, end: f64): i32 {
  const from = whole(iova);
  const to = whole(end);
  if (isOut(from) || isOut(to) || to <= from) return 0;
  const word = top(block);
  if (!find(block, boundary(word, from), boundary(word, to))) return 0;
  const entry = load<u64>(foundAt);
  store<f64>(SCRATCH, <f64>(<i64>outward(word, foundStart)));
  store<f64>(SCRATCH, <f64>(<i64>leafFrame(entry, foundLevel, opts)), 8);
  store<f64>(SCRATCH, <f64>(<i64>((<u64>1) << foundSize)), 16);
  store<f64>(SCRATCH, <f64>foundLevel, 24);
  store<f64>(SCRATCH, <f64>(<u32>entry), 32);
  store<f64>(SCRATCH, <f64>(<u32>(entry >> 32)), 40);
  return 1;
}

/** Level whose entries make pages of 2^size frames. */
@inline function levelOf(size: i32): i32 {
  return (size - GRANULE_LG2) / LEVEL_BITS;
}

/**
 * Puts an entry in the place of a leaf. In shared memory another thread may have marked the leaf since
 * its state was read: what it was is given back, attributes alone, or 0 where nobody could.
 */
@inline function replaceLeaf(at: u32, entry: u64, level: i32): u64 {
  if (ASC_FEATURE_THREADS) return leafAttr(atomic.xchg<u64>(at, entry), level, opts);
  store<u64>(at, entry);
  return 0;
}

/** Joins the state of a leaf into the one that took its place. */
function joinLate(at: u32, state: u64): void {
  while (true) {
    const entry = load<u64>(at);
    const joint = joinStatus(entry, state);
    if (joint == entry || atomic.cmpxchg<u64>(at, entry, joint) == entry) return;
  }
}

/** The same for every leaf below a table. */
function joinLateBelow(table: u32, level: i32, state: u64): void {
  for (let p = table; p < table + TABLE_BYTES; p += 8) {
    const entry = load<u64>(p);
    if (isLeaf(entry, level)) joinLate(p, state);
    else joinLateBelow(tableOffset(entry), level - 1, state);
  }
}

/** Writes leaves of 2^size frames over `slots` slots of one table; `isLive` when leaves are there already. */
function writeSlots(at: u32, slots: u32, level: i32, size: i32, attr: u64, frame: u64, isLive: bool): void {
  const item = itemLg2(level);
  const group: u32 = 1 << (size - item);
  for (let i: u32 = 0; i < slots; i++) {
    const inGroup = i & (group - 1);
    const first = frame + ((<u64>(i - inGroup)) << item);
    // Slots of a group repeat the word (AMD) or count on (Arm): groupStep says which.
    const own = group > 1 && groupStep(level) != 0 ? (<u64>inGroup) << item : 0;
    const entry = leafEntry(attr, first + own, level, size, opts);
    if (!isLive) store<u64>(at + i * 8, entry);
    else {
      const state = replaceLeaf(at + i * 8, entry, level);
      if (ASC_FEATURE_THREADS) joinLate(at + i * 8, state);
    }
  }
}

function buildSplit(level: i32, size: i32, attr: u64, frame: u64): u32 {
  addTables(control, 1);
  const table = allocate(order(control));
  if (levelOf(size) == level) writeSlots(table, ENTRIES, level, size, attr, frame, false);
  else {
    for (let i: u32 = 0; i < ENTRIES; i++) {
      const child = buildSplit(level - 1, size, attr, frame + ((<u64>i) << itemLg2(level)));
      store<u64>(table + i * 8, tableEntry(physical(child), level - 1, opts));
    }
  }
  addLive(table, ENTRIES);
  return table;
}

/** Attributes of a leaf with the state of all its copies. */
function jointAttr(at: u32, slots: u32, level: i32): u64 {
  let attr = leafAttr(load<u64>(at), level, opts);
  for (let i: u32 = 1; i < slots; i++) attr = joinStatus(attr, leafAttr(load<u64>(at + i * 8), level, opts));
  return attr;
}

/** Splits the leaf at `iova` into leaves of 2^size frames. 0 or -errno. */
export function splitLeaf(block: u32, iova: f64, size: i32): i32 {
  const frame0 = whole(iova);
  if (isOut(frame0)) return EINVAL;
  const va = inputFrame(top(block), frame0);
  if (isOut(va)) return ERANGE;
  if ((pageSizes(block) >> size & 1) == 0) return EINVAL;
  if (!find(block, va, va + 1)) return ENOENT;
  if (size >= foundSize) return 0;
  const level = foundLevel;
  const item = itemLg2(level);
  const slots: u32 = 1 << (foundSize - item);
  const target = levelOf(size);
  const frame = leafFrame(load<u64>(foundAt), level, opts);
  const attr = jointAttr(foundAt, slots, level);
  if (target == level) {
    writeSlots(foundAt, slots, level, size, attr, frame, true);
    return 0;
  }
  let tables: u64 = 0;
  for (let l = level; l > target; l--) tables += (<u64>1) << (foundSize - itemLg2(l));
  if (tables > 1 << 20 || reserve(<u32>tables, order(block)) != 0) return ENOMEM;
  for (let i: u32 = 0; i < slots; i++) {
    const child = buildSplit(level - 1, size, attr, frame + ((<u64>i) << item));
    const state = replaceLeaf(foundAt + i * 8, tableEntry(physical(child), level - 1, opts), level);
    if (ASC_FEATURE_THREADS) {
      if (joinStatus(attr, state) != attr) joinLateBelow(child, level - 1, state);
    }
  }
  return 0;
}

/**
 * Joint attributes of `slots` slots if they are leaves of consecutive frames from an aligned one with
 * equal attributes; 0 when they are not.
 */
function mergeable(at: u32, slots: u32, level: i32, size: i32): u64 {
  const entry = load<u64>(at);
  if (entry == 0 || !isLeaf(entry, level)) return 0;
  const frame = slotFrame(at, entry, level);
  if ((frame & (((<u64>1) << size) - 1)) != 0) return 0;
  let attr = leafAttr(entry, level, opts);
  const same = attr & ~statusMask(attr);
  for (let i: u32 = 1; i < slots; i++) {
    const other = load<u64>(at + i * 8);
    if (other == 0 || !isLeaf(other, level)) return 0;
    if (slotFrame(at + i * 8, other, level) != frame + ((<u64>i) << itemLg2(level))) return 0;
    const otherAttr = leafAttr(other, level, opts);
    if ((otherAttr & ~statusMask(otherAttr)) != same) return 0;
    attr = joinStatus(attr, otherAttr);
  }
  return attr;
}

/** First frame that one slot maps, also inside a group. */
@inline function slotFrame(at: u32, entry: u64, level: i32): u64 {
  if (!HAS_GROUPS) return leafFrame(entry, level, opts);
  const index = <u64>((at >> 3) & ((1 << slotsLg2(entry, level)) - 1));
  return leafFrame(entry, level, opts) + (index << itemLg2(level));
}

/** Merges inside one table: groups of slots, larger sizes last. Returns leaves made. */
function mergeGroups(table: u32, level: i32, va: u64, end: u64): u32 {
  let made: u32 = 0;
  const item = itemLg2(level);
  for (let size = item + 1; size < itemLg2(level + 1); size++) {
    if ((sizes >> size & 1) == 0) continue;
    const span: u64 = (<u64>1) << size;
    const slots: u32 = 1 << (size - item);
    for (let at = (va + span - 1) & (0 - span); at + span <= end; at += span) {
      const first = slot(table, level, at);
      const entry = load<u64>(first);
      if (entry == 0 || !isLeaf(entry, level) || item + slotsLg2(entry, level) >= size) continue;
      const attr = mergeable(first, slots, level, size);
      if (attr == 0) continue;
      writeSlots(first, slots, level, size, attr, leafFrame(entry, level, opts), true);
      made++;
    }
  }
  return made;
}

function mergeTree(table: u32, level: i32, va: u64, end: u64): u32 {
  let made: u32 = 0;
  if (level > 0) {
    const item = itemLg2(level);
    let at = va;
    do {
      const next = min(((at >> item) + 1) << item, end);
      const p = slot(table, level, at);
      const entry = load<u64>(p);
      if (entry != 0 && !isLeaf(entry, level)) {
        const child = tableOffset(entry);
        made += mergeTree(child, level - 1, at, next);
        const whole = next - at == (<u64>1) << item && liveCount(child) == ENTRIES;
        const attr = whole && (sizes >> item & 1) != 0 ? mergeable(child, ENTRIES, level - 1, item) : 0;
        if (attr != 0) {
          const frame = leafFrame(load<u64>(child), level - 1, opts);
          const merged = leafEntry(attr, frame, level, item, opts);
          if (ASC_FEATURE_THREADS) {
            atomic.store<u64>(p, merged);
            joinLate(p, jointAttr(child, ENTRIES, level - 1));
          } else store<u64>(p, merged);
          freeTree(control, child, level - 1);
          made++;
        }
      }
      at = next;
    } while (at < end);
  }
  if (HAS_GROUPS) made += mergeGroups(table, level, va, end);
  return made;
}

/** Merges leaves of the range up to 2^maxSize frames. Leaves made, or -errno. */
export function mergeLeaves(block: u32, iova: f64, frames: f64, maxSize: i32): i32 {
  const count = whole(frames);
  const first = whole(iova);
  if (isOut(first) || isOut(count)) return EINVAL;
  if (count == 0) return 0;
  const word = top(block);
  const va = inputRange(word, first, count);
  if (isOut(va)) return ERANGE;
  if (((va | count) & (GRANULE - 1)) != 0) return EINVAL;
  const levels = levelsOf(word);
  control = block;
  opts = optionsOf(word);
  sizes = pageSizes(block) & (((<u64>2) << maxSize) - 1) & (((<u64>1) << itemLg2(levels)) - 1);
  setRootLevel(levels - 1);
  const end = min(va + count, reach(word));
  return va < end ? mergeTree(rootOf(word), levels - 1, va, end) : 0;
}
