/**
 * Replays recorded sequences: `node golden.mjs DIR_OR_FILE...` (after a build).
 *
 * Files: `.json` (one sequence), `.jsonl` (one per line), both also with `.gz`. Other JSON files are
 * passed over. Recordings in a folder `iommufd-NAME` were made on platform NAME; those of other VFIO
 * back ends (`type1-...`) are counted as skipped. The last line is `N sequences, N steps, N different`; exit code 1 when some differ.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

const SHOWN = 20;
const READABLE = /\.jsonl?(\.gz)?$/;

const filesBelow = (path) =>
  statSync(path).isDirectory()
    ? readdirSync(path)
        .sort()
        .flatMap((name) => filesBelow(join(path, name)))
    : READABLE.test(path)
      ? [path]
      : [];

const sequencesIn = (file) => {
  const bytes = readFileSync(file);
  const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString();
  const texts = /\.jsonl/.test(file) ? text.trim().split('\n') : [text];
  return texts.map((one) => JSON.parse(one)).filter((json) => Array.isArray(json?.steps));
};

/** The platform a file was recorded on, by its path; undefined = not iommufd's. */
const platformOf = (file) => {
  const found = /iommufd-(vtd-[a-z0-9-]+)/.exec(file);
  if (found) return found[1];
  if (/type1-/.test(file)) return undefined;
  return /\/noiommu\/|golden-noiommu\./.test(file) ? 'noiommu' : 'mock';
};

const show = (file, { step, call, expected, got }) =>
  `${file} step ${step}: ${call}\n  expected ${expected}\n  got      ${got}`;

/**
 * @param {readonly string[]} paths files and folders
 * @param {(json: unknown, platform: string) => readonly object[]} replaySequence
 * @param {(line: string) => void} print
 * @returns {number} exit code
 */
export const replayAll = (paths, replaySequence, print = console.log) => {
  let sequences = 0;
  let steps = 0;
  let different = 0;
  let skipped = 0;
  for (const file of paths.flatMap(filesBelow)) {
    const platform = platformOf(file);
    if (platform === undefined) {
      skipped += sequencesIn(file).length;
      continue;
    }
    for (const json of sequencesIn(file)) {
      sequences++;
      steps += json.steps.length;
      for (const difference of replaySequence(json, platform)) {
        if (different++ < SHOWN) print(show(`${file} (${json.name})`, difference));
      }
    }
  }
  if (different > SHOWN) print(`... and ${different - SHOWN} more`);
  if (skipped > 0) print(`${skipped} sequences of VFIO's own type1 back end skipped`);
  print(`${sequences} sequences, ${steps} steps, ${different} different`);
  return different > 0 || sequences === 0 ? 1 : 0;
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const paths = process.argv.slice(2);
  if (paths.length === 0) {
    console.error('usage: golden DIR_OR_FILE... (recordings as .json or .jsonl, also .gz)');
    process.exitCode = 2;
  } else {
    const { replaySequence } = await import('@iommukit/driver-testkit');
    process.exitCode = replayAll(paths, replaySequence);
  }
}
