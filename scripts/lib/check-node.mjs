// Written for the oldest Node that knows ES modules, because its one duty is to speak to it:
// no imports, and nothing newer than ES2015.

/** Oldest Node release that everything here runs on; equals `engines.node` in package.json. */
export const OLDEST_NODE = '20.19.0';

/**
 * Whether `version` (as in `process.versions.node`) is new enough.
 *
 * @param {string} version
 * @param {string} [oldest]
 */
export function isNodeSupported(version, oldest = OLDEST_NODE) {
  const have = version.split('.').map((part) => Number.parseInt(part, 10));
  const want = oldest.split('.').map(Number);
  const at = [0, 1, 2].find((i) => have[i] !== want[i]);
  return at === undefined || Number(have[at]) > Number(want[at]);
}

/** Ends the process with one clear message when this Node is too old. */
export function requireNode() {
  if (isNodeSupported(process.versions.node)) return;
  console.error(
    `iommukit needs Node.js ${OLDEST_NODE} or newer; this is Node.js ${process.versions.node} ` +
      `(${process.execPath}).\nInstall a newer release from https://nodejs.org and run the same ` +
      'command again.',
  );
  process.exit(1);
}
