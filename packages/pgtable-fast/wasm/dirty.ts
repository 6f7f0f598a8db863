// Dirty state of leaves. Bits go to the scratch area, a leaf counts as a unit.
import { DYNAMIC_TOP, GRANULE_LG2, HAS_GROUPS, DIRTY_MASK, DIRTY_XOR, DIRTY_FLIP, groupLg2, isLeaf } from './format';
import {
  GRANULE, inputRange, isOut, itemLg2, levelsOf, rootOf, setRootLevel, slot, slotsLg2, tableOffset, whole,
} from './walk';
import { allDirty, anyGroup, clean64, dirtyMask64, flip64, surveyIsClean } from './dirty-block';
import { EINVAL, ERANGE } from './pool';
import { SCRATCH } from './env';
import { top } from './control-block';

const NO_CLEAR: u32 = 1;
const MORE: u32 = 2; // another call follows for the frames behind this range

let keep: bool = false;
let more: bool = false;
let shift: u32 = 0; // log2 frames per bit
let firstFrame: u64 = 0;
let firstBit: u64 = 0;
let lastFrame: u64 = 0; // exclusive
let found: u64 = 0;

/** Sets bits `[bit, bit + n)` of the bitmap. */
function setBits(bit: u64, n: u64): void {
  let b = <u32>bit;
  const end = <u32>(bit + n);
  while (b < end && (b & 7) != 0) {
    store<u8>(SCRATCH + (b >> 3), load<u8>(SCRATCH + (b >> 3)) | (<u8>1 << <u8>(b & 7)));
    b++;
  }
  const bytes = (end - b) >> 3;
  if (b < end && bytes != 0) {
    memory.fill(SCRATCH + (b >> 3), 0xff, bytes);
    b += bytes << 3;
  }
  for (; b < end; b++) store<u8>(SCRATCH + (b >> 3), load<u8>(SCRATCH + (b >> 3)) | (<u8>1 << <u8>(b & 7)));
}

/** Marks frames `[frame, frame + n)`, clipped to the range asked for. */
function mark(frame: u64, n: u64): void {
  const from = max(frame, firstFrame);
  const to = min(frame + n, lastFrame);
  if (from >= to) return;
  found += to - from;
  const bit = firstBit + ((from - firstFrame) >> shift);
  setBits(bit, firstBit + ((to - 1 - firstFrame) >> shift) + 1 - bit);
}

/** Marks up to 64 granules from `frame` on, one per bit of `mask`. */
@inline function markMask(frame: u64, mask: u64): void {
  if (GRANULE_LG2 == 0 && shift == 0) {
    const bit = <u32>(firstBit + (frame - firstFrame));
    const at = SCRATCH + (bit >> 3);
    const low = bit & 7;
    store<u64>(at, load<u64>(at) | (mask << low));
    if (low != 0) store<u8>(at + 8, load<u8>(at + 8) | <u8>(mask >> (64 - low)));
    found += popcnt<u64>(mask);
  } else {
    for (let rest = mask; rest != 0; ) {
      const from = ctz<u64>(rest);
      const ones = ctz<u64>(~(rest >> from));
      mark(frame + (from << GRANULE_LG2), ones << GRANULE_LG2);
      if (from + ones >= 64) return;
      rest = rest >> (from + ones) << (from + ones);
    }
  }
}

@inline function isDirty(entry: u64): bool {
  return ((entry ^ DIRTY_XOR) & DIRTY_MASK) == DIRTY_MASK;
}

@inline function cleanEntry(p: u32, entry: u64): void {
  if (ASC_FEATURE_THREADS) atomic.xor<u64>(p, DIRTY_FLIP);
  else store<u64>(p, entry ^ DIRTY_FLIP);
}

/** Marks and cleans one leaf, all copies of it. `first` is its first slot, `frame` its first frame. */
function takeLeaf(first: u32, slots: u32, frame: u64, frames: u64): void {
  let dirty = false;
  const later = keep || (more && frame + frames > lastFrame); // its other bits come with the next call
  for (let p = first; p < first + slots * 8; p += 8) {
    const entry = load<u64>(p);
    if (!isDirty(entry)) continue;
    dirty = true;
    if (!later) cleanEntry(p, entry);
  }
  if (dirty) mark(frame, frames);
}

/** Entries of a leaf table one by one; returns the address behind the last leaf. */
function scanEntries(p: u32, end: u32, va: u64): u32 {
  while (p < end) {
    const entry = load<u64>(p);
    const group = HAS_GROUPS && entry != 0 ? groupLg2(entry, 0) : 0;
    if (HAS_GROUPS && group != 0) {
      const index = (p >> 3) & ((1 << group) - 1);
      const slots: u32 = 1 << group;
      takeLeaf(p - index * 8, slots, va - ((<u64>index) << GRANULE_LG2), (<u64>slots) << GRANULE_LG2);
      p += (slots - index) << 3;
      va += (<u64>(slots - index)) << GRANULE_LG2;
      continue;
    }
    if (isDirty(entry)) {
      mark(va, GRANULE);
      if (!keep) cleanEntry(p, entry);
    }
    p += 8;
    va += GRANULE;
  }
  return p;
}

/**
 * 64 entries of a leaf table; returns the address behind the last leaf. A survey of what they have in
 * common decides almost always: tables are clean, or dirty, as a whole.
 */
@inline function scanBlock(p: u32, va: u64): u32 {
  if (surveyIsClean(p)) return p + 512;
  if (HAS_GROUPS && anyGroup()) return scanEntries(p, p + 512, va);
  const all = allDirty();
  const mask = all ? ~(<u64>0) : dirtyMask64(p);
  if (mask == 0) return p + 512;
  markMask(va, mask);
  if (keep) return p + 512;
  if (ASC_FEATURE_THREADS) {
    for (let rest = mask; rest != 0; rest &= rest - 1) cleanEntry(p + (<u32>ctz<u64>(rest) << 3), 0);
  } else if (all) flip64(p);
  else clean64(p);
  return p + 512;
}

function scanLeafTable(table: u32, va: u64, end: u64): void {
  let p = slot(table, 0, va);
  const stop = slot(table, 0, end - GRANULE) + 8;
  if (ASC_FEATURE_SIMD) {
    while (p < stop && stop - p >= 512) {
      const next = scanBlock(p, va);
      va += (<u64>((next - p) >> 3)) << GRANULE_LG2;
      p = next;
    }
  }
  if (p < stop) scanEntries(p, stop, va);
}

function scanTree(table: u32, level: i32, va: u64, end: u64): void {
  if (level == 0) return scanLeafTable(table, va, end);
  const item = itemLg2(level);
  do {
    let next = min(((va >> item) + 1) << item, end);
    const at = slot(table, level, va);
    const entry = load<u64>(at);
    if (entry != 0) {
      if (isLeaf(entry, level)) {
        const lg2 = slotsLg2(entry, level);
        const size = item + lg2;
        const start = va >> size << size;
        const index = <u32>((va - start) >> item);
        takeLeaf(at - index * 8, 1 << lg2, start, (<u64>1) << size);
        next = min(start + ((<u64>1) << size), end);
      } else scanTree(tableOffset(entry), level - 1, va, next);
    }
    va = next;
  } while (va < end);
}

/** The errno of a range, or 0. For a host that reads the range in several calls: none of them must fail. */
export function checkDirtyRange(block: u32, iova: f64, frames: f64): i32 {
  const count = whole(frames);
  const first = whole(iova);
  if (isOut(first) || isOut(count)) return EINVAL;
  if (count != 0 && isOut(inputRange(top(block), first, count))) return ERANGE;
  return ((first | count) & (GRANULE - 1)) != 0 ? EINVAL : 0;
}

/**
 * Sets the bits of dirty frames of the range in the scratch bitmap, frame `iova` being bit `bit`, each
 * bit standing for `1 << bitLg2` frames, and cleans the leaves. Dirty frames, or -errno.
 */
export function readAndClearDirty(block: u32, iova: f64, frames: f64, bit: u32, bitLg2: u32, flags: u32): f64 {
  const error = checkDirtyRange(block, iova, frames);
  if (error != 0) return error;
  const count = whole(frames);
  if (count == 0) return 0;
  const word = top(block);
  const va = inputRange(word, whole(iova), count);
  keep = (flags & NO_CLEAR) != 0;
  more = (flags & MORE) != 0;
  shift = bitLg2;
  firstFrame = va;
  firstBit = bit;
  found = 0;
  const levels = levelsOf(word);
  setRootLevel(levels - 1);
  let end = va + count;
  if (DYNAMIC_TOP) end = min(end, (<u64>1) << itemLg2(levels));
  lastFrame = end;
  if (va < end) scanTree(rootOf(word), levels - 1, va, end);
  return <f64>(<i64>found);
}
