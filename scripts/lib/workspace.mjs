import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Repository root, an absolute path without a trailing separator. */
export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** @typedef {Record<string, string>} Ranges */
/**
 * @typedef {object} Manifest the parts of a package.json that the scripts and checks read
 * @property {string} name
 * @property {string} version
 * @property {boolean} [private]
 * @property {string} [packageManager]
 * @property {Record<string, string>} [engines]
 * @property {Record<string, string>} [scripts]
 * @property {Record<string, unknown>} [exports]
 * @property {string} [main]
 * @property {string} [module]
 * @property {string} [types]
 * @property {string[]} [files]
 * @property {Ranges} [dependencies]
 * @property {Ranges} [devDependencies]
 * @property {Ranges} [peerDependencies]
 * @property {Ranges} [optionalDependencies]
 * @property {Record<string, { optional?: boolean }>} [peerDependenciesMeta]
 */

/**
 * @param {string} dir absolute directory holding a package.json
 * @returns {Manifest}
 */
export function readManifest(dir) {
  return JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'));
}

/**
 * Every workspace package, as listed in pnpm-workspace.yaml (`packages/*`, `examples`,
 * `tooling/*`), sorted by directory.
 *
 * @param {string} [root]
 * @returns {{ dir: string, path: string, manifest: Manifest }[]} `dir` relative to the root
 */
export function workspacePackages(root = ROOT) {
  const dirs = workspaceGlobs(root).flatMap((glob) => {
    if (!glob.endsWith('/*')) return [glob];
    const parent = glob.slice(0, -2);
    if (!existsSync(join(root, parent))) return [];
    return readdirSync(join(root, parent))
      .sort()
      .map((name) => `${parent}/${name}`);
  });
  return dirs
    .filter((dir) => existsSync(join(root, dir, 'package.json')))
    .map((dir) => ({ dir, path: join(root, dir), manifest: readManifest(join(root, dir)) }));
}

/** @param {string} [root] */
export function publishablePackages(root = ROOT) {
  return workspacePackages(root).filter(({ manifest }) => !manifest.private);
}

/** @param {string} root */
function workspaceGlobs(root) {
  return yamlBlock(readFileSync(join(root, 'pnpm-workspace.yaml'), 'utf8'), 'packages').map(
    (line) => line.replace(/^-\s*/, '').replace(/^["']|["']$/g, ''),
  );
}

/**
 * The indented lines below a top-level key of a flat YAML file, trimmed, comments dropped. Enough
 * for pnpm-workspace.yaml, which must be readable before anything is installed.
 *
 * @param {string} text
 * @param {string} key
 */
export function yamlBlock(text, key) {
  const lines = text.split('\n');
  const start = lines.indexOf(`${key}:`);
  if (start < 0) return [];
  const block = [];
  for (const line of lines.slice(start + 1)) {
    if (/^\S/.test(line) && !line.startsWith('#')) break;
    const trimmed = line.trim();
    if (trimmed && !trimmed.startsWith('#')) block.push(trimmed);
  }
  return block;
}
