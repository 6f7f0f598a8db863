/** Replays what a real Linux 7.3.4 answered; every errno and output byte must be the same. */
import { replaySequence } from '@iommukit/driver-testkit';
import { describe, expect, it } from 'vitest';
import { goldenSequences } from './golden-data.ts';

for (const folder of ['systematic', 'random'] as const) {
  describe(`recordings of Linux 7.3.4, ${folder}`, () => {
    it.each(goldenSequences(folder))('$name: $doc', (sequence) => {
      expect(replaySequence(sequence)).toEqual([]);
    });
  });
}
