// Input frame to output frame, as iova_to_phys: permissions play no part.
import { DYNAMIC_TOP, MAX_LEVELS } from './format';
import { inputFrame, isOut, itemLg2, levelsOf, lookUp, rootOf } from './walk';
import { SCRATCH } from './env';
import { options, top } from './control-block';

@inline function translateFrame(block: u32, topWord: u32, frame: u64): i64 {
  const va = inputFrame(block, frame);
  const levels = levelsOf(topWord);
  if (isOut(va) || (DYNAMIC_TOP && levels < MAX_LEVELS && va >> itemLg2(levels) != 0)) return -1;
  return lookUp(rootOf(topWord), levels, va, options(block));
}

/** Output frame of `iova`, or -1. */
export function translate(block: u32, iova: f64): f64 {
  return <f64>translateFrame(block, top(block), <u64>(<i64>iova));
}

/** Replaces `count` input frames in the scratch area by their output frames or -1. */
export function translateBatch(block: u32, count: u32): void {
  const word = top(block);
  const end = SCRATCH + count * 8;
  for (let p = SCRATCH; p < end; p += 8) {
    store<f64>(p, <f64>translateFrame(block, word, <u64>(<i64>load<f64>(p))));
  }
}
