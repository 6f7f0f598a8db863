// Read-back of output frames as (frame, frames) runs; a hole is a run of frame -1.
import { DYNAMIC_TOP, GRANULE_LG2, HAS_GROUPS, RUN_MASK, HIGH_OUTPUT_SPLIT, isLeaf, leafFrame } from './format';
import { GRANULE, itemLg2, slot, slotsLg2, tableOffset, rootOf, levelsOf, inputRange, isOut, whole, toHost, optionsOf, setRootLevel } from './walk';
import { EINVAL, ERANGE } from './pool';
import { SCRATCH } from './env';
import { top } from './control-block';

const HOLE: u64 = u64.MAX_VALUE;
/** Behind a multiple of so many frames an entry is not its predecessor plus a constant. */
const SERIES_FRAMES: u64 = HIGH_OUTPUT_SPLIT ? 1 << 36 : 1 << 40;

let opts: u32 = 0;
let runFrame: u64 = 0;
let runLength: u64 = 0;
let out: u32 = 0;
let outEnd: u32 = 0;
let full: bool = false;

function flush(): void {
  if (runLength == 0) return;
  if (out >= outEnd) {
    full = true;
    return;
  }
  store<f64>(out, toHost(runFrame));
  store<f64>(out, <f64>(<i64>runLength), 8);
  out += 16;
}

@inline function emit(frame: u64, length: u64): void {
  const follows = frame == HOLE ? runFrame == HOLE : runFrame != HOLE && runFrame + runLength == frame;
  if (follows && runLength != 0) {
    runLength += length;
  } else {
    flush();
    runFrame = frame;
    runLength = length;
  }
}

/** Entries from `p` on that continue the series `entry`, `entry + step`, ... */
@inline function seriesLength(p: u32, end: u32, entry: u64, step: u64): u32 {
  const first = p;
  let expected = entry + step;
  p += 8;
  while (p < end && ((load<u64>(p) ^ expected) & RUN_MASK) == 0) {
    p += 8;
    expected += step;
    if (ASC_FEATURE_SIMD && p - first == 64) {
      const mask = i64x2.splat(RUN_MASK);
      const two = i64x2.splat(step << 1);
      const eight = i64x2.splat(step << 3);
      let e0 = i64x2.replace_lane(i64x2.splat(expected), 1, expected + step);
      while (end - p >= 64 && p < end) {
        const e1 = i64x2.add(e0, two);
        const e2 = i64x2.add(e1, two);
        const a = v128.or(v128.xor(v128.load(p), e0), v128.xor(v128.load(p, 16), e1));
        const b = v128.or(v128.xor(v128.load(p, 32), e2), v128.xor(v128.load(p, 48), i64x2.add(e2, two)));
        if (v128.any_true(v128.and(v128.or(a, b), mask))) break;
        e0 = i64x2.add(e0, eight);
        p += 64;
      }
      expected = i64x2.extract_lane(e0, 0);
    }
  }
  return (p - first) >> 3;
}

function readLeafTable(table: u32, va: u64, end: u64): void {
  let p = slot(table, 0, va);
  const stop = slot(table, 0, end - GRANULE) + 8;
  while (p < stop && !full) {
    const entry = load<u64>(p);
    if (entry == 0) {
      const from = p;
      while (p < stop && load<u64>(p) == 0) p += 8;
      emit(HOLE, <u64>((p - from) >> 3) << GRANULE_LG2);
      continue;
    }
    const slots = slotsLg2(entry, 0);
    if (slots == 0) {
      const frame = leafFrame(entry, 0, opts);
      const series = seriesLength(p, stop, entry, <u64>4096 << GRANULE_LG2);
      const n = <u32>min<u64>(series, (SERIES_FRAMES - (frame & (SERIES_FRAMES - 1))) >> GRANULE_LG2);
      emit(frame, (<u64>n) << GRANULE_LG2);
      p += n << 3;
    } else {
      const index = (p >> 3) & ((1 << slots) - 1);
      const n = min<u32>((1 << slots) - index, (stop - p) >> 3);
      emit(leafFrame(entry, 0, opts) | ((<u64>index) << GRANULE_LG2), (<u64>n) << GRANULE_LG2);
      p += n << 3;
    }
  }
}

function readTree(table: u32, level: i32, va: u64, end: u64): void {
  if (level == 0) return readLeafTable(table, va, end);
  const item = itemLg2(level);
  do {
    const next = min(((va >> item) + 1) << item, end);
    const entry = load<u64>(slot(table, level, va));
    if (entry == 0) emit(HOLE, next - va);
    else if (isLeaf(entry, level)) {
      const inside = va & (((<u64>1) << (item + slotsLg2(entry, level))) - 1);
      emit(leafFrame(entry, level, opts) | inside, next - va);
    } else readTree(tableOffset(entry), level - 1, va, next);
    va = next;
  } while (va < end && !full);
}

/** Writes at most `capacity` runs of the range to the scratch area. Number of runs, or -errno. */
export function readRuns(block: u32, iova: f64, frames: f64, capacity: u32): i32 {
  const count = whole(frames);
  const first = whole(iova);
  if (isOut(first) || isOut(count)) return EINVAL;
  if (count == 0) return 0;
  const word = top(block);
  const va = inputRange(word, first, count);
  if (isOut(va)) return ERANGE;
  if (((va | count) & (GRANULE - 1)) != 0) return EINVAL;
  opts = optionsOf(word);
  runLength = 0;
  runFrame = 0;
  out = SCRATCH;
  outEnd = SCRATCH + capacity * 16;
  full = false;
  const levels = levelsOf(word);
  setRootLevel(levels - 1);
  let end = va + count;
  let inside = end;
  if (DYNAMIC_TOP) inside = min(end, (<u64>1) << itemLg2(levels));
  if (va < inside) readTree(rootOf(word), levels - 1, va, inside);
  if (DYNAMIC_TOP && inside < end && !full) emit(HOLE, end - max(inside, va));
  if (!full) flush();
  return (out - SCRATCH) >> 4;
}
