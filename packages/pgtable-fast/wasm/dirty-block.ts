// The dirty state of 64 entries at once, 512 bytes. Measured, 1 GiB of 4 KiB pages: 0.13 ns for a clean page,
// which is what reading its entry from the last-level cache takes, 0.3 ns for a dirty one.
import { DIRTY_FLIP, DIRTY_MASK, DIRTY_POS, DIRTY_XOR, GROUP_MASK, cleaned, dirtyBits } from './format';

// Bits that are set in a dirty entry, and bits that are clear in one.
const ONES: u64 = DIRTY_MASK & ~DIRTY_XOR;
const ZEROS: u64 = DIRTY_MASK & DIRTY_XOR;

@inline function or4(p: u32): v128 {
  return v128.or(v128.or(v128.load(p), v128.load(p, 16)), v128.or(v128.load(p, 32), v128.load(p, 48)));
}
@inline function and4(p: u32): v128 {
  return v128.and(v128.and(v128.load(p), v128.load(p, 16)), v128.and(v128.load(p, 32), v128.load(p, 48)));
}

/** Bits that any of the entries has. */
@inline function anyOf64(p: u32): u64 {
  let any = or4(p);
  for (let at = p + 64; at < p + 512; at += 64) any = v128.or(any, or4(at));
  return i64x2.extract_lane(any, 0) | i64x2.extract_lane(any, 1);
}
/** Bits that all of the entries have. */
@inline function allOf64(p: u32): u64 {
  let all = and4(p);
  for (let at = p + 64; at < p + 512; at += 64) all = v128.and(all, and4(at));
  return i64x2.extract_lane(all, 0) & i64x2.extract_lane(all, 1);
}

let seen: u64 = 0; // bits that any of the entries has
let common: u64 = 0; // bits that all of them have

/**
 * Whether certainly none of 64 entries is dirty, because all lack the same part of it. Reads them once if
 * so; the survey that follows otherwise reads from the nearest cache.
 */
@inline export function surveyIsClean(p: u32): bool {
  if (ZEROS == 0) {
    seen = anyOf64(p);
    if ((~seen & ONES) != 0) return true;
    common = allOf64(p);
    return false;
  }
  common = allOf64(p);
  if ((common & ZEROS) != 0) return true;
  seen = anyOf64(p);
  return (~seen & ONES) != 0;
}
@inline export function allDirty(): bool {
  return ((~common & ONES) | (seen & ZEROS)) == 0;
}
/** Whether any belongs to a leaf of several slots. */
@inline export function anyGroup(): bool {
  return (seen & GROUP_MASK) != 0;
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

/** One bit per dirty entry of the 64 at `p`. */
@inline export function dirtyMask64(p: u32): u64 {
  return dirty16(p) | (dirty16(p + 128) << 16) | (dirty16(p + 256) << 32) | (dirty16(p + 384) << 48);
}

/** Cleans 64 entries that are all dirty. */
@inline export function flip64(p: u32): void {
  const flip = i64x2.splat(DIRTY_FLIP);
  for (let at = p; at < p + 512; at += 64) {
    v128.store(at, v128.xor(v128.load(at), flip));
    v128.store(at, v128.xor(v128.load(at, 16), flip), 16);
    v128.store(at, v128.xor(v128.load(at, 32), flip), 32);
    v128.store(at, v128.xor(v128.load(at, 48), flip), 48);
  }
}

/** Cleans those of 64 entries that are dirty. */
@inline export function clean64(p: u32): void {
  for (let at = p; at < p + 512; at += 64) {
    v128.store(at, cleaned(v128.load(at)));
    v128.store(at, cleaned(v128.load(at, 16)), 16);
    v128.store(at, cleaned(v128.load(at, 32)), 32);
    v128.store(at, cleaned(v128.load(at, 48)), 48);
  }
}
