// Input frame to output frame, as iova_to_phys: permissions play no part.
import { SCRATCH } from './env';
import { DYNAMIC_TOP, MAX_LEVELS } from './format';
import { inputFrame, isOut, itemLg2, levelsOf, lookUp, optionsOf, rootOf } from './walk';
import { top } from './control-block';

@inline function translateFrame(word: u32, frame: u64): i64 {
  const va = inputFrame(word, frame);
  const levels = levelsOf(word);
  if (isOut(va) || (DYNAMIC_TOP && levels < MAX_LEVELS && va >> itemLg2(levels) != 0)) return -1;
  return lookUp(rootOf(word), levels, va, optionsOf(word));
}

/** The top word from what the host passes: the word itself, or the control block of a growing table. */
@inline function wordOf(handle: u32): u32 {
  return DYNAMIC_TOP ? top(handle) : handle;
}

/** Output frame of `iova`, or -1. */
export function translate(handle: u32, iova: f64): f64 {
  return <f64>translateFrame(wordOf(handle), <u64>(<i64>iova));
}

/** Replaces `count` input frames in the scratch area by their output frames or -1. */
export function translateBatch(handle: u32, count: u32): void {
  const word = wordOf(handle);
  const end = SCRATCH + count * 8;
  for (let p = SCRATCH; p < end; p += 8) {
    store<f64>(p, <f64>translateFrame(word, <u64>(<i64>load<f64>(p))));
  }
}
