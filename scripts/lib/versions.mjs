import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { publishablePackages, ROOT, readManifest } from './workspace.mjs';

/**
 * The peer range that belongs to a version of the group. Explicit, because changesets answers a
 * minor release of a `workspace:^` peer with a major one of all its dependents.
 *
 * @param {string} version such as `0.2.7`
 * @returns {string} such as `>=0.2.0 <1`
 */
export function peerRange(version) {
  const [major, minor] = version.split('.').map(Number);
  return `>=${major}.${minor}.0 <${Number(major) + 1}`;
}

/**
 * Rewrites the peer ranges between published packages to their present version.
 *
 * @param {string} [root]
 */
export function followVersionInPeers(root = ROOT) {
  const packages = publishablePackages(root);
  const versions = new Map(packages.map(({ manifest }) => [manifest.name, manifest.version]));
  for (const { path } of packages) {
    const manifest = readManifest(path);
    const peers = manifest.peerDependencies ?? {};
    for (const name of Object.keys(peers)) {
      const version = versions.get(name);
      if (version) peers[name] = peerRange(version);
    }
    const text = `${JSON.stringify(manifest, null, 2)}\n`;
    const file = join(path, 'package.json');
    if (text !== readFileSync(file, 'utf8')) writeFileSync(file, text);
  }
}
