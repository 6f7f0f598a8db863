// Runs of entries in one table: arithmetic series, zeros, emptiness. Measured: 128-bit stores are the
// widest that WebAssembly has and reach 90 % of what the machine stores with them.

/** Stores `n` entries `first`, `first + step`, ... at `p`. */
export function fillSeries(p: u32, n: u32, first: u64, step: u64): void {
  let entry = first;
  if (ASC_FEATURE_SIMD) {
    if (n >= 8) {
      if (p & 8) {
        store<u64>(p, entry);
        entry += step;
        p += 8;
        n--;
      }
      let v = i64x2.replace_lane(i64x2.splat(entry), 1, entry + step);
      const two = i64x2.splat(step << 1);
      const four = i64x2.splat(step << 2);
      const six = i64x2.add(two, four);
      const eight = i64x2.splat(step << 3);
      const end = p + ((n & ~7) << 3);
      while (p < end) {
        v128.store(p, v);
        v128.store(p, i64x2.add(v, two), 16);
        v128.store(p, i64x2.add(v, four), 32);
        v128.store(p, i64x2.add(v, six), 48);
        v = i64x2.add(v, eight);
        p += 64;
      }
      entry += step * <u64>(n & ~7);
      n &= 7;
    }
  } else {
    const end = p + ((n & ~3) << 3);
    while (p < end) {
      store<u64>(p, entry);
      store<u64>(p, entry + step, 8);
      store<u64>(p, entry + (step << 1), 16);
      store<u64>(p, entry + step * 3, 24);
      entry += step << 2;
      p += 32;
    }
    n &= 3;
  }
  for (; n > 0; n--) {
    store<u64>(p, entry);
    entry += step;
    p += 8;
  }
}

/** Clears bytes `[from, to)`, both 8-byte aligned. */
@inline export function clear(from: u32, to: u32): void {
  if (to - from >= 64) memory.fill(from, 0, to - from);
  else for (; from < to; from += 8) store<u64>(from, 0);
}

/** Whether any entry in bytes `[from, to)` is present. */
export function anyPresent(from: u32, to: u32): bool {
  if (ASC_FEATURE_SIMD) {
    while (to - from >= 64) {
      const a = v128.or(v128.load(from), v128.load(from, 16));
      const b = v128.or(v128.load(from, 32), v128.load(from, 48));
      if (v128.any_true(v128.or(a, b))) return true;
      from += 64;
    }
  } else {
    while (to - from >= 32) {
      if ((load<u64>(from) | load<u64>(from, 8) | load<u64>(from, 16) | load<u64>(from, 24)) != 0) return true;
      from += 32;
    }
  }
  for (; from < to; from += 8) if (load<u64>(from) != 0) return true;
  return false;
}

/**
 * Whether the entries certainly are all present: they have a bit in common. At least 256 bytes. One load
 * and one AND for two entries, where counting takes three operations.
 */
@inline function allPresent(from: u32, to: u32): bool {
  let common = v128.load(from);
  while (to - from >= 128) {
    const a = v128.and(v128.and(v128.load(from), v128.load(from, 16)), v128.and(v128.load(from, 32), v128.load(from, 48)));
    const b = v128.and(v128.and(v128.load(from, 64), v128.load(from, 80)), v128.and(v128.load(from, 96), v128.load(from, 112)));
    common = v128.and(common, v128.and(a, b));
    from += 128;
  }
  for (; from < to; from += 8) common = v128.and(common, v128.load64_splat(from));
  return i64x2.all_true(common);
}

/** Clears the entries in bytes `[from, to)` and returns how many were present. */
export function clearCounting(from: u32, to: u32): u32 {
  let count: u32 = 0;
  if (ASC_FEATURE_SIMD) {
    if (to - from >= 512 && allPresent(from, to)) {
      memory.fill(from, 0, to - from);
      return (to - from) >> 3;
    }
    if ((from & 8) != 0 && from < to) {
      count += <u32>(load<u64>(from) != 0);
      store<u64>(from, 0);
      from += 8;
    }
    let present = i64x2.splat(0);
    const zero = i64x2.splat(0);
    while (to - from >= 128) {
      let a = i64x2.add(i64x2.ne(v128.load(from), zero), i64x2.ne(v128.load(from, 16), zero));
      let b = i64x2.add(i64x2.ne(v128.load(from, 32), zero), i64x2.ne(v128.load(from, 48), zero));
      v128.store(from, zero);
      v128.store(from, zero, 16);
      v128.store(from, zero, 32);
      v128.store(from, zero, 48);
      present = i64x2.add(present, i64x2.add(a, b));
      a = i64x2.add(i64x2.ne(v128.load(from, 64), zero), i64x2.ne(v128.load(from, 80), zero));
      b = i64x2.add(i64x2.ne(v128.load(from, 96), zero), i64x2.ne(v128.load(from, 112), zero));
      v128.store(from, zero, 64);
      v128.store(from, zero, 80);
      v128.store(from, zero, 96);
      v128.store(from, zero, 112);
      present = i64x2.add(present, i64x2.add(a, b));
      from += 128;
    }
    count -= <u32>(i64x2.extract_lane(present, 0) + i64x2.extract_lane(present, 1));
  }
  for (; from < to; from += 8) {
    count += <u32>(load<u64>(from) != 0);
    store<u64>(from, 0);
  }
  return count;
}
