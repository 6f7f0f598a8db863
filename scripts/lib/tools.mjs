import { join } from 'node:path';
import { turbo } from './turbo.mjs';
import { ROOT } from './workspace.mjs';

/** @param {string[]} parts */
const installed = (...parts) => join(ROOT, 'node_modules', ...parts);

/**
 * Command lines of the repository's tools, by path.
 *
 * @type {Record<string, string[]>}
 */
export const tools = {
  build: turbo('build'),
  generate: turbo('generate'),
  typecheck: turbo('typecheck', 'typecheck:root'),
  lint: [process.execPath, installed('@biomejs', 'biome', 'bin', 'biome'), 'check', '.'],
  format: [
    process.execPath,
    installed('@biomejs', 'biome', 'bin', 'biome'),
    'check',
    '--write',
    '.',
  ],
  knip: [process.execPath, installed('knip', 'bin', 'knip.js')],
};
