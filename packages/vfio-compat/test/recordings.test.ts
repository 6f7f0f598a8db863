/** Replays what a real Linux 7.3.4 answered; every errno and output byte must be the same. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type Platform, recordedMachine } from './replay/platform.ts';
import { type ContainerKind, replay } from './replay/replay.ts';
import { type Sequence, sequencesOf } from './replay/sequence.ts';

const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

/** Containers that iommufd provides are core's; here they judge the group in front of them. */
const FOLDERS: readonly (readonly [ContainerKind, Platform, RegExp])[] = [
  ['type1', 'vtd-legacy', /^/],
  ['iommufd', 'vtd-legacy', /^4/],
  ['iommufd', 'vtd-scalable-stage1', /^4/],
];

for (const [kind, platform, names] of FOLDERS) {
  const sequences = sequencesOf(`${kind}-${platform}`).filter(({ name }) => names.test(name));
  describe(`container by ${kind}, ${platform}`, () => {
    test.each(sequences)('$name: $doc', (sequence) => {
      expect(replay(sequence, recordedMachine(platform), kind)).toEqual([]);
    });

    test('the README says how many', () => {
      const steps = sequences.reduce((sum, sequence) => sum + sequence.steps.length, 0);
      const row = README.split('\n').find((line) => line.startsWith(`| \`${kind}-${platform}\``));
      expect(row).toContain(`| ${sequences.length} | ${steps} |`);
    });
  });
}

describe('the replayer notices', () => {
  const [base] = sequencesOf('type1-vtd-legacy').filter(({ name }) => name === '40_container_map');
  const changed = (index: number, change: object): Sequence => {
    const { steps, ...rest } = base as Sequence;
    return {
      ...rest,
      steps: steps.map((step, at) => (at === index ? { ...step, ...change } : step)),
    };
  };

  test.each([
    ['another errno', 9, { err: 'EFAULT' }],
    ['an error instead of success', 12, { ret: -1, err: 'EINVAL' }],
    ['a field that did not change', 12, { out: { size_: '0x2000' } }],
    ['another count of locked memory', 25, { vmlck: 28 }],
    ['pinned memory', 25, { vmpin: 4 }],
  ])('%s', (_title, index, change) => {
    const differences = replay(changed(index, change), recordedMachine('vtd-legacy'), 'type1');
    expect(differences.map((line) => Number(line.split(':')[0]))).toEqual([index]);
  });
});
