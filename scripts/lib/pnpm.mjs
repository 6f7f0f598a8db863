import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { toolEnvironment } from './environment.mjs';
import { say, step } from './run.mjs';
import { ROOT, readManifest } from './workspace.mjs';

/** Where the scripts keep what they know about this checkout; removed with node_modules. */
export const STATE_DIR = join(ROOT, 'node_modules', '.iommukit');

const REMEMBERED = join(STATE_DIR, 'pnpm-entry');

/** The pnpm version that `packageManager` in package.json pins. */
export function pinnedPnpm() {
  const pinned = readManifest(ROOT).packageManager ?? '';
  const match = /^pnpm@(\d+\.\d+\.\d+)/.exec(pinned);
  if (!match) throw new Error(`package.json: packageManager must be pnpm@x.y.z, found "${pinned}"`);
  return /** @type {string} */ (match[1]);
}

/**
 * The JavaScript entry file of pnpm `version` on a search path, read from the package's own
 * package.json: asking a `pnpm` for its version may start corepack or a download.
 *
 * @param {string} version
 * @param {string} searchPath as in the PATH variable
 * @returns {string | undefined}
 */
export function findPnpm(version, searchPath) {
  for (const dir of searchPath.split(delimiter).filter(Boolean)) {
    const entry =
      pnpmEntry(resolvedParent(join(dir, 'pnpm')), version) ??
      pnpmEntry(join(dir, 'node_modules', 'pnpm'), version) ??
      pnpmEntry(join(dir, '..', 'pnpm'), version);
    if (entry) return entry;
  }
  return undefined;
}

/**
 * `<package>/bin/pnpm.cjs`, reached through the link `pnpm`, gives `<package>`.
 *
 * @param {string} link
 */
function resolvedParent(link) {
  try {
    return dirname(dirname(realpathSync(link)));
  } catch {
    return link;
  }
}

/**
 * @param {string} dir the pnpm package's directory, perhaps
 * @param {string} version
 */
function pnpmEntry(dir, version) {
  if (!existsSync(join(dir, 'package.json'))) return undefined;
  const manifest = readManifest(dir);
  const entry = join(dir, 'bin', 'pnpm.cjs');
  return manifest.name === 'pnpm' && manifest.version === version && existsSync(entry)
    ? entry
    : undefined;
}

/**
 * Entry file of the pinned pnpm: one on PATH, the one used last time, or one that npx fetches.
 *
 * @returns {Promise<string>}
 */
export async function locatePnpm() {
  const version = pinnedPnpm();
  const found = findPnpm(version, process.env.PATH ?? '') ?? rememberedPnpm(version);
  if (found) return found;
  say(`getting pnpm ${version} through npx ...`);
  const script = fileURLToPath(new URL('print-pnpm.mjs', import.meta.url));
  const wrapped = ['--yes', '--prefer-offline', `--package=pnpm@${version}`, '--', 'node', script];
  const printed = await step(`get pnpm ${version} through npx`, [...npx(), ...wrapped], {
    // Outside the workspace: npm would first read the whole tree of the package it stands in.
    cwd: tmpdir(),
    env: toolEnvironment(),
  });
  return printed.trim();
}

/** @param {string} version */
function rememberedPnpm(version) {
  if (!existsSync(REMEMBERED)) return undefined;
  return pnpmEntry(dirname(dirname(readFileSync(REMEMBERED, 'utf8'))), version);
}

/** The npx that belongs to the npm which runs us, so that no shell is needed on any system. */
function npx() {
  const npm = process.env.npm_execpath ?? '';
  if (basename(npm) === 'npm-cli.js') return [process.execPath, npm, 'exec'];
  const bundled = join(dirname(process.execPath), 'node_modules', 'npm', 'bin', 'npx-cli.js');
  return existsSync(bundled) ? [process.execPath, bundled] : ['npx'];
}

/**
 * Environment in which `pnpm` is the pinned one. A shim of ours, not pnpm's own directory, goes on
 * PATH: that directory may hold another `node` too.
 *
 * @param {string} entry from {@link locatePnpm}
 * @returns {NodeJS.ProcessEnv}
 */
export function environmentWithPnpm(entry) {
  const bin = join(STATE_DIR, 'bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(REMEMBERED, entry);
  writeFileSync(join(bin, 'pnpm'), `#!/bin/sh\nexec "${process.execPath}" "${entry}" "$@"\n`);
  writeFileSync(join(bin, 'pnpm.cmd'), `@"${process.execPath}" "${entry}" %*\r\n`);
  chmodSync(join(bin, 'pnpm'), 0o755);
  const env = toolEnvironment();
  const name = Object.keys(env).find((key) => key.toUpperCase() === 'PATH') ?? 'PATH';
  return { ...env, [name]: `${bin}${delimiter}${env[name] ?? ''}` };
}
