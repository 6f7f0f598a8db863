import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { publishablePackages } from '../scripts/lib/workspace.mjs';
import { type BuiltEntry, exportsProblems } from './checks/exports-map.ts';

async function tsupEntries(path: string): Promise<BuiltEntry[]> {
  const url = pathToFileURL(join(path, 'tsup.config.ts')).href;
  const { default: config } = await import(/* @vite-ignore */ url);
  return [config].flat().flatMap(({ entry, format }) => {
    const esmOnly = !format.includes('cjs');
    return Object.keys(entry).map((name) => ({ name, esmOnly }));
  });
}

test.each(publishablePackages())(
  'exports of $manifest.name match what tsup builds',
  async ({ path, manifest }) => {
    expect(exportsProblems(manifest, await tsupEntries(path))).toEqual([]);
  },
);

const good = {
  name: 'x',
  version: '0.0.0',
  main: './dist/index.cjs',
  module: './dist/index.js',
  types: './dist/index.d.ts',
  files: ['dist', 'src'],
  exports: {
    './package.json': './package.json',
    '.': {
      import: { types: './dist/index.d.ts', default: './dist/index.js' },
      require: { types: './dist/index.d.cts', default: './dist/index.cjs' },
    },
  },
};

const index = { name: 'index' };

test('a right package.json has no problem', () => {
  expect(exportsProblems(good, [index])).toEqual([]);
});

test.each([
  [
    'an entry that is not exported',
    good,
    [index, { name: 'vitest' }],
    'exports["./vitest"] is missing',
  ],
  [
    'CommonJS of an entry that is built as ESM alone',
    good,
    [{ ...index, esmOnly: true }],
    'the build makes {"import":{"types":"./dist/index.d.ts","default":"./dist/index.js"}}',
  ],
  ['an export that is not built', good, [], 'exports["."] has no tsup entry'],
  ['a wrong main', { ...good, main: './x.cjs' }, [index], 'main is ./x.cjs'],
  ['sources left out', { ...good, files: ['dist'] }, [index], 'files lacks "src"'],
  [
    'types behind the default condition',
    { ...good, exports: { ...good.exports, '.': { default: './dist/index.js' } } },
    [index],
    'exports["."] is {"default":"./dist/index.js"}',
  ],
])('%s is reported', (_, manifest, entries, problem) => {
  const found = exportsProblems(manifest, entries);
  expect(found).toHaveLength(1);
  expect(found[0]).toContain(problem);
});
