/** Recorded sequences that lie beside the tests, one JSON text per line, compressed. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { type GoldenSequence, parseSequence } from '@iommukit/driver-testkit';

/** The sequences of one folder of recordings. */
export const goldenSequences = (folder: string): GoldenSequence[] => {
  const packed = readFileSync(new URL(`data/golden-${folder}.jsonl.gz`, import.meta.url));
  return gunzipSync(packed)
    .toString()
    .trim()
    .split('\n')
    .map((line) => parseSequence(JSON.parse(line)));
};
