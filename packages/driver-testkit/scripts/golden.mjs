/**
 * Replays recorded sequences: `node golden.mjs [OPTION...] PATH...` (after a build). Options:
 * `--relative`, `--platform NAME`, `--migrate=STEPS`.
 *
 * Paths are files or folders. Files: `.json` (one sequence), `.jsonl` (one per line), both also with
 * `.gz`; other files of a folder, and JSON without steps, are passed over. A recording was made on
 * the platform its path names (a folder or file `iommufd-NAME` or `noiommu`), else on the kernel's
 * mock devices, unless `--platform` says otherwise; recordings of VFIO's own type1 back end are
 * counted as skipped. `--relative` compares no numbers of objects. `--migrate=10`: before every tenth
 * step everything is saved, the machine thrown away, and the sequence goes on on a fresh one.
 *
 * The last line is `N sequences, N steps, N different` (steps). Exit status: 0 = all the same,
 * 1 = some differ or there was nothing to replay, 2 = a path, file or option is bad.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';

const SHOWN = 20;
const READABLE = /\.jsonl?(\.gz)?$/;
const PLATFORMS = ['mock', 'noiommu', 'vtd-legacy', 'vtd-scalable-stage1', 'vtd-scalable-stage2'];
const USAGE = `usage: golden [--relative] [--migrate=STEPS] [--platform ${PLATFORMS.join('|')}] FILE_OR_FOLDER...
recordings are .json or .jsonl files, also compressed with .gz`;

/** What is wrong with the command line or a file, for people. */
class BadInput extends Error {}

const statOf = (path) => {
  try {
    return statSync(path);
  } catch (cause) {
    throw new BadInput(`${path}: no such file or folder`, { cause });
  }
};

const filesBelow = (path) =>
  statOf(path).isDirectory()
    ? readdirSync(path)
        .sort()
        .flatMap((name) => filesBelow(join(path, name)))
        .filter((file) => READABLE.test(file))
    : [path];

const textOf = (file) => {
  if (!READABLE.test(file)) {
    throw new BadInput(`${file}: a recording ends in .json or .jsonl, with or without .gz`);
  }
  try {
    const bytes = readFileSync(file);
    return (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString();
  } catch (cause) {
    throw new BadInput(`${file}: cannot be read: ${cause.message}`, { cause });
  }
};

const sequencesIn = (file) => {
  const text = textOf(file);
  const texts = /\.jsonl/.test(file) ? text.trim().split('\n') : [text];
  try {
    return texts.map((one) => JSON.parse(one)).filter((json) => Array.isArray(json?.steps));
  } catch (cause) {
    throw new BadInput(`${file}: not JSON: ${cause.message}`, { cause });
  }
};

/** The platform a file was recorded on, by its path; undefined = not iommufd's. */
const platformOf = (file) => {
  const found = /iommufd-(vtd-[a-z0-9-]+)/.exec(file);
  if (found && PLATFORMS.includes(found[1])) return found[1];
  if (/type1-/.test(file)) return undefined;
  return /[/\\]noiommu[/\\]|golden-noiommu\./.test(file) ? 'noiommu' : 'mock';
};

const show = (where, { step, call, expected, got }) =>
  `${where} step ${step}: ${call}\n  expected ${expected}\n  got      ${got}`;

/** Differences of one sequence; one that cannot be replayed at all is a difference too. */
const differencesOf = (json, platform, options, replaySequence) => {
  try {
    return replaySequence(json, platform, options);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return [{ step: 0, call: 'replay', expected: 'a sequence', got: error.message }];
  }
};

/**
 * @param {readonly string[]} paths files and folders
 * @param {(json: unknown, platform: string, options: object) => readonly object[]} replaySequence
 * @param {{ platform?: string, ids?: string, migrate?: number, print?: (line: string) => void }} options
 * @returns {number} exit code
 */
export const replayAll = (paths, replaySequence, options = {}) => {
  const { platform, ids, migrate = 0, print = console.log } = options;
  const migratesBefore = (step) => migrate > 0 && step % migrate === migrate - 1;
  const count = { sequences: 0, steps: 0, different: 0, skipped: 0 };
  for (const path of paths.flatMap(filesBelow)) {
    const file = resolve(path);
    const recordedOn = platform ?? platformOf(file);
    for (const json of sequencesIn(file)) {
      if (recordedOn === undefined) {
        count.skipped++;
        continue;
      }
      count.sequences++;
      count.steps += json.steps.length;
      const found = differencesOf(json, recordedOn, { ids, migratesBefore }, replaySequence);
      for (const difference of found) {
        if (count.different < SHOWN) print(show(`${path} (${json.name})`, difference));
      }
      count.different += new Set(found.map(({ step }) => step)).size;
    }
  }
  const { sequences, steps, different, skipped } = count;
  if (different > SHOWN) print(`only the first differences are shown`);
  if (skipped > 0) print(`${skipped} sequences of VFIO's own type1 back end skipped`);
  if (sequences === 0 && skipped === 0)
    print(`no recordings in ${paths.map((path) => basename(path)).join(', ')}`);
  print(`${sequences} sequences, ${steps} steps, ${different} different`);
  return different > 0 || sequences === 0 ? 1 : 0;
};

const optionsOf = (args) => {
  try {
    const options = {
      relative: { type: 'boolean' },
      platform: { type: 'string' },
      migrate: { type: 'string' },
    };
    const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
    if (positionals.length === 0) throw new BadInput(USAGE);
    if (values.platform !== undefined && !PLATFORMS.includes(values.platform)) {
      throw new BadInput(`no platform '${values.platform}'\n${USAGE}`);
    }
    const migrate = Number(values.migrate ?? 0);
    if (values.migrate !== undefined && !(Number.isInteger(migrate) && migrate > 0)) {
      throw new BadInput(`--migrate ${values.migrate}: expected a number of steps\n${USAGE}`);
    }
    const ids = values.relative ? 'relative' : 'strict';
    return { paths: positionals, options: { ids, migrate, platform: values.platform } };
  } catch (cause) {
    throw cause instanceof BadInput ? cause : new BadInput(`${cause.message}\n${USAGE}`, { cause });
  }
};

/**
 * @param {readonly string[]} args command line
 * @returns {Promise<number>} exit status
 */
export const main = async (args, load = () => import('@iommukit/driver-testkit')) => {
  try {
    const { paths, options } = optionsOf([...args]);
    const { replaySequence } = await load();
    return replayAll(paths, replaySequence, options);
  } catch (error) {
    if (!(error instanceof BadInput)) throw error;
    console.error(error.message);
    return 2;
  }
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.slice(2));
}
