/** Replays what a real Linux 7.3.4 answered; every errno and output byte must be the same. */
import { describe, expect, test } from 'vitest';
import { type Platform, recordedMachine } from './replay/platform.ts';
import { type ContainerKind, replay } from './replay/replay.ts';
import { sequencesOf } from './replay/sequence.ts';

const FOLDERS: readonly (readonly [ContainerKind, Platform])[] = [
  ['type1', 'vtd-legacy'],
  ['iommufd', 'vtd-legacy'],
  ['iommufd', 'vtd-scalable-stage1'],
  ['iommufd', 'vtd-scalable-stage2'],
];

/** Group and container sequences; `30_*` are about character devices, which this package lacks. */
const isContainer = ({ name }: { readonly name: string }): boolean => !name.startsWith('30_');

for (const [kind, platform] of FOLDERS) {
  describe(`container by ${kind}, ${platform}`, () => {
    test.each(sequencesOf(`${kind}-${platform}`).filter(isContainer))('$name: $doc', (sequence) => {
      expect(replay(sequence, recordedMachine(platform), kind)).toEqual([]);
    });
  });
}
