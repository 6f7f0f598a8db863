// Mapping by lists. The host puts (output frame, frames) pairs into the scratch area, block by block: first all
// of them for planning, then all of them again for writing.
import { DYNAMIC_TOP, GRANULE_LG2, leafEntry } from './format';
import {
  GRANULE, inputFrame, inputRange, isOut, itemLg2, leafSlot, leafTableUnrolled, levelsOf, rootOf, setRootLevel, whole,
} from './walk';
import { SCRATCH } from './env';
import { order, top } from './control-block';
import { EINVAL, ENOMEM, addLive, reserve } from './pool';
import { attr, begin, checkRange, limitSizes, opts, setBefore, setDelta } from './map-state';
import { plan } from './map-plan';
import { fill } from './map-fill';
import { grow, shrink } from './map-top';

const NONE: u64 = u64.MAX_VALUE;

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
    setDelta(oa - va);
    const missing = plan(rootOf(word), levelsOf(word) - 1, va, va + count);
    if (missing < 0) return abandon(block, missing);
    planned += missing;
    va += count;
    setBefore(va - 1);
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
    setDelta(oa - va);
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
