// The mapping being planned or written: globals of the module, set once per run.
import { template } from './format';
import { isOut, itemLg2, optionsOf } from './walk';
import { oaLimit, pageSizes, top } from './control-block';
import { EINVAL, ERANGE } from './pool';

const PROT_SMALLEST: u32 = 1 << 9;
const NONE: u64 = u64.MAX_VALUE;

export let delta: u64 = 0; // output frame - input frame
export let sizes: u64 = 0; // usable page sizes, bit s = 2^s frames
export let attr: u64 = 0;
export let opts: u32 = 0;
export let control: u32 = 0;
export let before: u64 = 0; // frame that an earlier run of the same call maps, or NONE

@inline export function setDelta(value: u64): void { delta = value; }
@inline export function setBefore(value: u64): void { before = value; }
/** The table that is worked on. */
@inline export function setTable(block: u32): void {
  control = block;
  opts = optionsOf(top(block));
}

@inline export function begin(block: u32, prot: u32): void {
  setTable(block);
  attr = template(prot, opts);
  sizes = pageSizes(block);
  if (prot & PROT_SMALLEST) sizes &= 0 - sizes;
  before = NONE;
}

/** A page as large as the whole table would need one more level. */
@inline export function limitSizes(levels: i32): void {
  sizes &= ((<u64>1) << itemLg2(levels)) - 1;
}

/** Errors of a range as a whole; 0 when it may be planned. */
@inline export function checkRange(block: u32, va: u64, oa: u64, count: u64): i32 {
  if (isOut(va)) return ERANGE;
  const limit = oaLimit(block);
  if (oa >= limit || count > limit - oa) return ERANGE;
  const smallest = pageSizes(block);
  if (((va | oa | count) & ((smallest & (0 - smallest)) - 1)) != 0) return EINVAL;
  return 0;
}

/** log2 frames of the largest page that fits at `va` and ends by `end`. */
@inline export function bestSize(va: u64, end: u64): i32 {
  const fit = min<i64>(ctz<u64>(va | (va + delta)), 63 - clz<u64>(end - va));
  return <i32>(63 - clz<u64>(sizes & (((<u64>2) << fit) - 1)));
}

/** Whether a leaf of this level or a larger one can occur anywhere in the run. */
@inline export function largePossible(level: i32): bool {
  const item = itemLg2(level);
  return (sizes >> item) != 0 && (delta & (((<u64>1) << item) - 1)) == 0;
}
