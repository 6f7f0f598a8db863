import { expect, test } from 'vitest';
import { forbiddenTextProblems } from './checks/forbidden-text.ts';
import { trackedTextFiles } from './checks/repository.ts';

test('nothing forbidden stands in a tracked file', () => {
  const files = trackedTextFiles();
  expect(files.map(({ path }) => path)).toContain('pnpm-lock.yaml');
  expect(forbiddenTextProblems(files)).toEqual([]);
});

// Put together at run time, so that this file passes the check itself.
const path = (name: string) => `see /${name}/notes.md`;

test.each([
  ['docs/a.md', path('work')],
  ['packages/core/src/a.ts', `const out = '/${'tmp'}/x';`],
  ['pnpm-lock.yaml', '  tarball: x'],
  ['pnpm-lock.yaml', '  resolution: https://example.org/x.tgz'],
  ['packages/core/src/a.ts', `// ${'TO'}${'DO'}: finish`],
  ['CONTRIBUTING.md', `${'FIX'}${'ME'}`],
  ['packages/core/src/a.ts', `// a ${'place'}holder`],
  ['scripts/a.mjs', `// good enough for ${'now'}`],
])('in %s, `%s` is reported', (file, text) => {
  const found = forbiddenTextProblems([{ path: file, text: `first line\n${text}\n` }]);
  expect(found).toHaveLength(1);
  expect(found[0]).toContain(`${file}:2: `);
});

test.each([
  ['packages/core/test/data/a.json', path('tmp')],
  ['docs/a.md', 'https://example.org/'],
  ['docs/a.md', 'a network/tmp/x path and packages/*/work/y'],
])('in %s, `%s` is allowed', (file, text) => {
  expect(forbiddenTextProblems([{ path: file, text }])).toEqual([]);
});
