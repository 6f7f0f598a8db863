/** Runs programs and mutated recordings, and judges them. */
import type { GoldenPlatform, GoldenSequence } from '@iommukit/driver-testkit';
import { expect } from 'vitest';
import { goldenSequences } from '../golden-data.ts';
import { runProgram } from './program.ts';
import { Random } from './random.ts';
import { mutate, replayAndLook } from './recordings.ts';

/** Calls of one program. */
const CALLS_PER_PROGRAM = 250;

/**
 * Run programs, each twice: nothing is left, and the second run answers as the first.
 *
 * @returns calls made, and how often each succeeded
 */
export const fuzzPrograms = (firstSeed: number, programs: number) => {
  const succeeded = new Map<string, number>();
  let calls = 0;
  for (let seed = firstSeed; seed < firstSeed + programs; seed++) {
    const trace = runProgram(seed, CALLS_PER_PROGRAM);
    const again = runProgram(seed, CALLS_PER_PROGRAM);
    if (String(trace.results) !== String(again.results)) {
      expect([seed, again.results]).toEqual([seed, trace.results]);
    }
    calls += trace.results.length + again.results.length;
    for (const [name, count] of trace.succeeded) {
      succeeded.set(name, (succeeded.get(name) ?? 0) + count);
    }
  }
  return { calls, succeeded };
};

const FOLDERS: readonly (readonly [folder: string, platform: GoldenPlatform])[] = [
  ['systematic', 'mock'],
  ['random', 'mock'],
  ['iommufd-vtd-scalable-stage1', 'vtd-scalable-stage1'],
  ['noiommu', 'noiommu'],
];

/**
 * Replay mutated recordings, each twice.
 *
 * @returns steps replayed, and how many recordings answered other than recorded
 */
export const fuzzRecordings = (seed: number, count: number) => {
  const random = new Random(seed);
  const all = FOLDERS.flatMap(([folder, platform]) =>
    goldenSequences(folder).map((sequence): [GoldenSequence, GoldenPlatform] => [
      sequence,
      platform,
    ]),
  );
  let steps = 0;
  let changed = 0;
  for (let i = 0; i < count; i++) {
    const [sequence, platform] = random.pick(all);
    const mutated = mutate(sequence, random);
    const first = replayAndLook(mutated, platform);
    const again = replayAndLook(mutated, platform);
    expect([i, sequence.name, first.left]).toEqual([i, sequence.name, []]);
    if (JSON.stringify(again) !== JSON.stringify(first)) expect([i, again]).toEqual([i, first]);
    steps += 2 * mutated.steps.length;
    if (first.differences.length > 0) changed++;
  }
  return { steps, changed };
};
