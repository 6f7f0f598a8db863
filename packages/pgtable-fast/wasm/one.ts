// One granule whose leaf table exists. Everything else goes the general way. The host finds in
// the control block where the last call was, so that it can go on there without a call.
import { SCRATCH } from './env';
import {
  DYNAMIC_TOP, GRANULE_LG2, GROUP_MASK, HAS_GROUPS, LEAF_TABLE_BITS, LEAF_TABLE_MASK, WIDE_ROOT,
  groupLg2, isTable, leafEntry, template,
} from './format';
import {
  GRANULE, LEVEL_MASK, inputFrame, isOut, itemLg2, leafSlot, levelsOf, optionsOf, parentTableUnrolled, rootOf,
  tableOffset, whole,
} from './walk';
import { oaLimit, setLastSlot, top } from './control-block';
import { EADDRINUSE, addLive } from './pool';
import { mapRange } from './map';

/** Leaf table of a frame in index form, 0 when there is none. The host is told which entry points to it. */
@inline function leafTable(block: u32, word: u32, va: u64): u32 {
  const levels = levelsOf(word);
  const inside = !isOut(va) && (va & (GRANULE - 1)) == 0 && (!DYNAMIC_TOP || va >> itemLg2(levels) == 0);
  if (levels < 2) return inside ? rootOf(word) : 0;
  const parent = inside ? parentTableUnrolled(rootOf(word), levels, va) : 0;
  let at: u32 = 0;
  let table: u32 = 0;
  if (parent != 0) {
    let index = <u32>(va >> itemLg2(1));
    if (!WIDE_ROOT || levels > 2) index &= LEVEL_MASK;
    at = parent + (index << 3);
    const entry = load<u64>(at);
    if (isTable(entry, 1)) table = tableOffset(entry);
  }
  if (!ASC_FEATURE_THREADS) setLastSlot(block, at);
  return table;
}

/** Maps one granule. 0 or -errno. */
export function mapOne(block: u32, iova: f64, oaFrame: f64, prot: u32): i32 {
  const oa = whole(oaFrame);
  const word = top(block);
  const va = inputFrame(word, whole(iova));
  const table = leafTable(block, word, va);
  if (table == 0 || oa >= oaLimit(block) || (oa & (GRANULE - 1)) != 0) {
    return mapRange(block, iova, oaFrame, <f64>GRANULE, prot);
  }
  const at = leafSlot(table, levelsOf(word), va);
  if (load<u64>(at) != 0) return EADDRINUSE;
  store<u64>(at, leafEntry(template(prot, optionsOf(word)), oa, 0, GRANULE_LG2, optionsOf(word)));
  addLive(table, 1);
  return 0;
}

/** Unmaps one granule. Frames unmapped, or -1 when `unmapRange` must do it. */
export function unmapOne(block: u32, iova: f64): i32 {
  const word = top(block);
  const va = inputFrame(word, whole(iova));
  const table = leafTable(block, word, va);
  if (table == 0) return -1;
  const at = leafSlot(table, levelsOf(word), va);
  const entry = load<u64>(at);
  if (entry == 0) return 0;
  if (HAS_GROUPS && groupLg2(entry, 0) != 0) return -1;
  store<u64>(at, 0);
  addLive(table, -1);
  return <i32>GRANULE;
}

/**
 * What the host needs to write leaf entries of its own, in the scratch area: a smallest page of
 * permissions `prot` that maps frame 0, the bits that leaves of several slots have, and how to tell an
 * entry that points to a leaf table.
 */
export function describeLeaf(block: u32, prot: u32): void {
  const options = optionsOf(top(block));
  store<u64>(SCRATCH, leafEntry(template(prot, options), 0, 0, GRANULE_LG2, options));
  store<u64>(SCRATCH, GROUP_MASK, 8);
  store<u32>(SCRATCH, LEAF_TABLE_MASK, 16);
  store<u32>(SCRATCH, LEAF_TABLE_BITS, 20);
}
