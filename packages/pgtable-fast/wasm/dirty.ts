// Dirty and accessed state of leaves. Bits go to the scratch area, a leaf counts as a unit.
import {
  DYNAMIC_TOP, GRANULE_LG2, HAS_GROUPS, GROUP_MASK, DIRTY_MASK, DIRTY_XOR, DIRTY_FLIP, DIRTY_POS, ACCESSED_TABLE,
  dirtyBits,
  isLeaf, groupLg2, accessedLeaf, writable, dirtied,
} from './format';
import { ENTRIES, GRANULE, itemLg2, slot, slotsLg2, tableOffset, rootOf, levelsOf, inputRange, inputFrame, isOut, whole, setRootLevel } from './walk';
import { EACCES, EINVAL, ENOENT, ERANGE } from './pool';
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

@inline function dirtyLanes(p: u32): v128 {
  const v = v128.load(p);
  const mask = i64x2.splat(DIRTY_MASK);
  return i64x2.eq(v128.and(DIRTY_XOR != 0 ? v128.xor(v, i64x2.splat(DIRTY_XOR)) : v, mask), mask);
}

/** The dirty bits of four entries, each in the sign of 32 bits. */
@inline function dirty4(p: u32): v128 {
  const a = dirtyBits(v128.load(p));
  const b = dirtyBits(v128.load(p, 16));
  const half = DIRTY_POS < 32
    ? i8x16.shuffle(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
    : i8x16.shuffle(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  return i32x4.shl(half, 31 - (DIRTY_POS & 31));
}

@inline function dirty16(p: u32): u64 {
  const a = i16x8.narrow_i32x4_s(dirty4(p), dirty4(p + 32));
  const b = i16x8.narrow_i32x4_s(dirty4(p + 64), dirty4(p + 96));
  return <u64>(<u32>i8x16.bitmask(i8x16.narrow_i16x8_s(a, b)));
}

@inline function dirtyOr(p: u32): v128 {
  const a = v128.or(dirtyBits(v128.load(p)), dirtyBits(v128.load(p, 16)));
  return v128.or(a, v128.or(dirtyBits(v128.load(p, 32)), dirtyBits(v128.load(p, 48))));
}

/** Whether any of the 64 entries at `p` is dirty. */
@inline function anyDirty64(p: u32): bool {
  let any = i64x2.splat(0);
  for (let i: u32 = 0; i < 512; i += 128) any = v128.or(any, v128.or(dirtyOr(p + i), dirtyOr(p + i + 64)));
  return v128.any_true(v128.and(any, i64x2.splat((<u64>1) << DIRTY_POS)));
}

/** One bit per dirty entry of the 64 at `p`. */
@inline function dirtyMask64(p: u32): u64 {
  return dirty16(p) | (dirty16(p + 128) << 16) | (dirty16(p + 256) << 32) | (dirty16(p + 384) << 48);
}

@inline function clean64(p: u32, mask: u64): void {
  if (ASC_FEATURE_THREADS) {
    for (; mask != 0; mask &= mask - 1) {
      const at = p + (<u32>ctz<u64>(mask) << 3);
      cleanEntry(at, 0);
    }
  } else if (DIRTY_XOR == 0 && DIRTY_FLIP == DIRTY_MASK) {
    const keepBits = i64x2.splat(~DIRTY_FLIP);
    for (let at = p; at < p + 512; at += 64) {
      v128.store(at, v128.and(v128.load(at), keepBits));
      v128.store(at, v128.and(v128.load(at, 16), keepBits), 16);
      v128.store(at, v128.and(v128.load(at, 32), keepBits), 32);
      v128.store(at, v128.and(v128.load(at, 48), keepBits), 48);
    }
  } else {
    const flip = i64x2.splat(DIRTY_FLIP);
    for (let at = p; at < p + 512; at += 32) {
      v128.store(at, v128.xor(v128.load(at), v128.and(dirtyLanes(at), flip)));
      v128.store(at, v128.xor(v128.load(at, 16), v128.and(dirtyLanes(at + 16), flip)), 16);
    }
  }
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

/** Whether any of the 64 entries at `p` belongs to a leaf of several slots. */
@inline function anyGroup64(p: u32): bool {
  if (!HAS_GROUPS) return false;
  let any = i64x2.splat(0);
  for (let at = p; at < p + 512; at += 64) {
    const a = v128.or(v128.load(at), v128.load(at, 16));
    any = v128.or(any, v128.or(a, v128.or(v128.load(at, 32), v128.load(at, 48))));
  }
  return v128.any_true(v128.and(any, i64x2.splat(GROUP_MASK)));
}

function scanLeafTable(table: u32, va: u64, end: u64): void {
  let p = slot(table, 0, va);
  const stop = slot(table, 0, end - GRANULE) + 8;
  if (ASC_FEATURE_SIMD) {
    while (p < stop && stop - p >= 512) {
      if (anyDirty64(p)) {
        const mask = dirtyMask64(p);
        if (mask != 0) {
          if (HAS_GROUPS && anyGroup64(p)) {
            const next = scanEntries(p, p + 512, va);
            va += (<u64>((next - p) >> 3)) << GRANULE_LG2;
            p = next;
            continue;
          } else {
            markMask(va, mask);
            if (!keep) clean64(p, mask);
          }
        }
      }
      p += 512;
      va += 64 << GRANULE_LG2;
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

/**
 * Sets the bits of dirty frames of the range in the scratch bitmap, frame `iova` being bit `bit`, each
 * bit standing for `1 << bitLg2` frames, and cleans the leaves. Dirty frames, or -errno.
 */
export function readAndClearDirty(block: u32, iova: f64, frames: f64, bit: u32, bitLg2: u32, flags: u32): f64 {
  const count = whole(frames);
  const first = whole(iova);
  if (isOut(first) || isOut(count)) return EINVAL;
  if (count == 0) return 0;
  const word = top(block);
  const va = inputRange(word, first, count);
  if (isOut(va)) return ERANGE;
  if (((va | count) & (GRANULE - 1)) != 0) return EINVAL;
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

@inline function update(at: u32, entry: u64, bits: u64): void {
  if (bits == entry) return;
  if (!ASC_FEATURE_THREADS) store<u64>(at, bits);
  else if (bits > entry || (bits & entry) == entry) atomic.or<u64>(at, bits ^ entry);
  else atomic.and<u64>(at, ~(bits ^ entry));
}

/** What hardware does on an access: accessed in every entry used, dirty in the leaf on a write. */
export function setAccessedDirty(block: u32, iova: f64, write: bool): i32 {
  const word = top(block);
  const va = inputFrame(word, whole(iova));
  if (isOut(va)) return ERANGE;
  let level = levelsOf(word) - 1;
  let table = rootOf(word);
  setRootLevel(level);
  if (DYNAMIC_TOP && va >> itemLg2(level + 1) != 0) return ENOENT;
  while (true) {
    const at = slot(table, level, va);
    const entry = load<u64>(at);
    if (entry == 0) return ENOENT;
    if (isLeaf(entry, level)) {
      if (write && !writable(entry)) return EACCES;
      if (ACCESSED_TABLE != 0) markPath(block, va, level);
      update(at, entry, accessedLeaf(entry));
      const accessed = load<u64>(at);
      if (write) update(at, accessed, dirtied(accessed));
      return 0;
    }
    table = tableOffset(entry);
    level--;
  }
}

/** Accessed in the table entries above the leaf at `leafLevel`; only after the access is known to succeed. */
@inline function markPath(block: u32, va: u64, leafLevel: i32): void {
  const word = top(block);
  let table = rootOf(word);
  for (let level = levelsOf(word) - 1; level > leafLevel; level--) {
    const at = slot(table, level, va);
    const entry = load<u64>(at);
    update(at, entry, entry | ACCESSED_TABLE);
    table = tableOffset(entry);
  }
}
