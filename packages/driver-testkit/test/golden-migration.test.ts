/**
 * The recordings again, but on the way everything is saved, the machine thrown away and the rest
 * played on a fresh one: every errno and byte must still be the recorded one, and saving again must
 * give the same bytes. A sample; `slow-golden-migration.test.ts` has all.
 */
import { replaySequence } from '@iommukit/driver-testkit';
import { describe, expect, it } from 'vitest';
import { goldenSequences } from './golden-data.ts';
import { FOLDERS } from './golden-folders.ts';

const EVERY = 16;

/** A number that looks random and is always the same. */
const hash = (text: string): number =>
  [...text].reduce((value, char) => (value * 31 + char.charCodeAt(0)) % 65_521, 7);

for (const [folder, platform] of FOLDERS) {
  describe(`recordings with a migration, ${folder}`, () => {
    const sample = goldenSequences(folder).filter((_sequence, index) => index % EVERY === 0);
    it.each(sample)('$name', (sequence) => {
      const { length } = sequence.steps;
      const at = [hash(sequence.name) % length, length - 2];
      const migratesBefore = (step: number) => at.includes(step);
      expect(replaySequence(sequence, platform, { migratesBefore })).toEqual([]);
    });
  });
}
