import { join } from 'node:path';
import { elapsed, say, step } from './run.mjs';
import { ROOT } from './workspace.mjs';

/**
 * The turbo command line, by path: what stands on PATH may be another version.
 *
 * @param {string[]} args
 */
export const turbo = (...args) => [
  process.execPath,
  join(ROOT, 'node_modules', 'turbo', 'bin', 'turbo'),
  'run',
  ...args,
];

/**
 * Runs a turbo task quietly: one line per package that really has to be worked on.
 *
 * @param {string} task `build`, `generate`, ...
 * @param {string} verb for the lines: `building`, ...
 * @param {NodeJS.ProcessEnv} env from `ensureInstalled`
 * @param {string[]} [filters] package names; all packages when empty
 */
export async function turboStep(task, verb, env, filters = []) {
  const since = performance.now();
  let worked = 0;
  const onLine = (/** @type {string} */ line) => {
    const miss = /^(\S+):(\S+): cache (?:miss|bypass)/.exec(line);
    if (!miss) return;
    worked += 1;
    say(`${miss[2] === 'generate' ? 'generating' : verb} ${miss[1]} ...`);
  };
  const args = [task, '--output-logs=new-only', ...filters.map((name) => `--filter=${name}`)];
  await step(`${task} the packages`, turbo(...args), { cwd: ROOT, env, onLine });
  if (worked > 0) say(`${task} done (${elapsed(since)})`);
}
