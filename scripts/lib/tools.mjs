import { join } from 'node:path';
import { turbo } from './turbo.mjs';
import { ROOT } from './workspace.mjs';

/** @param {string[]} parts path of a JavaScript command below node_modules */
const node = (...parts) => [process.execPath, join(ROOT, 'node_modules', ...parts)];

const biome = node('@biomejs', 'biome', 'bin', 'biome');

/** Command lines of the repository's tools, by path: what stands on PATH may be another version. */
export const tools = {
  build: turbo('build'),
  generate: turbo('generate'),
  typecheck: turbo('typecheck', 'typecheck:root'),
  lint: [...biome, 'check', '.'],
  format: [...biome, 'check', '--write', '.'],
  biome,
  knip: node('knip', 'bin', 'knip.js'),
  changeset: node('@changesets', 'cli', 'bin.js'),
  publint: node('publint', 'src', 'cli.js'),
  attw: node('@arethetypeswrong', 'cli', 'dist', 'index.js'),
  tsc6: node('typescript', 'bin', 'tsc'),
  tsc7: node('typescript-7', 'bin', 'tsc'),
};
