/** Every recording with a migration before every twentieth step. */
import { replaySequence } from '@iommukit/driver-testkit';
import { describe, expect, it } from 'vitest';
import { goldenSequences } from './golden-data.ts';
import { FOLDERS } from './golden-folders.ts';

const EVERY = 20;
const TIMEOUT_MS = 600_000;

for (const [folder, platform] of FOLDERS) {
  describe(`recordings with many migrations, ${folder}`, () => {
    it.each(goldenSequences(folder))(
      '$name',
      (sequence) => {
        const migratesBefore = (step: number) => step % EVERY === EVERY - 1;
        expect(replaySequence(sequence, platform, { migratesBefore })).toEqual([]);
      },
      TIMEOUT_MS,
    );
  });
}
