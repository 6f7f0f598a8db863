// Mapping. Two passes: the first finds occupied entries and counts the tables that are missing, the
// second cannot fail. So an error leaves everything as it was.
import { DYNAMIC_TOP, HAS_GROUPS, isLeaf } from './format';
import {
  GRANULE, inputRange, isOut, itemLg2, levelsOf, parentTableUnrolled, rootOf, setRootLevel, slot, tableOffset, whole,
} from './walk';
import { order, top } from './control-block';
import { EADDRINUSE, EINVAL, ENOMEM, addLive, liveCount, reserve } from './pool';
import { anyPresent } from './fill';
import { begin, bestSize, checkRange, delta, limitSizes, setDelta, sizes } from './map-state';
import { plan } from './map-plan';
import { buildLeafTable, fill, fillLeafTable, install } from './map-fill';
import { grow, shrink } from './map-top';

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
  setDelta(oa - va);
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
