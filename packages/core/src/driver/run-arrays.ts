/**
 * Runs of frames as drivers get and give them: pairs (first frame, count) in a `Float64Array`.
 * @module
 */

const E2BIG = -7;

/** Frames in the first `runCount` runs. @hot */
export const framesInRuns = (runs: Float64Array, runCount: number): number => {
  let frames = 0;
  for (let at = 0; at < runCount; at++) frames += runs[at * 2 + 1] as number;
  return frames;
};

/**
 * What {@link PagingDomain.readRuns} returns for what a table found: runs that cover `count` frames,
 * those of frame -1 being holes, which are taken out.
 *
 * @param runCount runs in `runs`, or a negative errno
 * @returns runs left, or a negative errno (-7 E2BIG when `runs` had no room for all `count` frames)
 */
export const runsOfMapped = (runs: Float64Array, runCount: number, count: number): number => {
  if (runCount < 0) return runCount;
  return framesInRuns(runs, runCount) < count ? E2BIG : dropHoles(runs, runCount);
};

const dropHoles = (runs: Float64Array, runCount: number): number => {
  let kept = 0;
  for (let at = 0; at < runCount; at++) {
    if ((runs[at * 2] as number) < 0) continue;
    runs[kept * 2] = runs[at * 2] as number;
    runs[kept * 2 + 1] = runs[at * 2 + 1] as number;
    kept++;
  }
  return kept;
};
