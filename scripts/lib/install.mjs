import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { environmentWithPnpm, locatePnpm, pinnedPnpm, STATE_DIR } from './pnpm.mjs';
import { elapsed, say, step } from './run.mjs';
import { ROOT, workspacePackages } from './workspace.mjs';

const STAMP = join(STATE_DIR, 'installed');

/**
 * Fingerprint of everything that decides what an install produces.
 *
 * @param {string} [root]
 */
export function installFingerprint(root = ROOT) {
  const files = ['package.json', 'pnpm-lock.yaml', 'pnpm-workspace.yaml'].concat(
    workspacePackages(root).map(({ dir }) => `${dir}/package.json`),
  );
  const hash = createHash('sha256');
  hash.update(`${pinnedPnpm()} ${process.platform} ${process.arch} ${process.versions.modules}\n`);
  for (const file of files) {
    hash
      .update(`${file}\n`)
      .update(readFileSync(join(root, file)))
      .update('\n');
  }
  return hash.digest('hex');
}

function installIsCurrent() {
  return (
    existsSync(join(ROOT, 'node_modules', '.modules.yaml')) &&
    existsSync(STAMP) &&
    readFileSync(STAMP, 'utf8') === installFingerprint()
  );
}

/**
 * Makes `node_modules` match the lock file, unless the last install still does.
 *
 * @returns {Promise<NodeJS.ProcessEnv>} environment for the tools, the pinned pnpm on PATH
 */
export async function ensureInstalled() {
  const pnpm = await locatePnpm();
  if (installIsCurrent()) return environmentWithPnpm(pnpm);
  const since = performance.now();
  say('installing dependencies ...');
  rmSync(STAMP, { force: true });
  const env = environmentWithPnpm(pnpm);
  const install = ['install', '--frozen-lockfile', '--prefer-offline', '--reporter=append-only'];
  await step('install dependencies', [process.execPath, pnpm, ...install], { cwd: ROOT, env });
  mkdirSync(STATE_DIR, { recursive: true });
  writeFileSync(STAMP, installFingerprint());
  say(`dependencies installed (${elapsed(since)})`);
  return environmentWithPnpm(pnpm);
}
