import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../scripts/lib/workspace.mjs';
import { embedProblems, regionOf } from './checks/embeds.ts';
import { trackedTextFiles } from './checks/repository.ts';

const readTracked = (path: string) =>
  existsSync(join(ROOT, path)) ? readFileSync(join(ROOT, path), 'utf8') : undefined;

test('every snippet in a Markdown file equals the file it shows', () => {
  const pages = trackedTextFiles().filter(({ path }) => path.endsWith('.md'));
  expect(pages.length).toBeGreaterThan(0);
  expect(pages.flatMap((page) => embedProblems(page, readTracked))).toEqual([]);
});

const files: Record<string, string> = {
  'a.ts': 'const a = 1;\n',
  'b.ts': 'function f() {\n  // #region body\n  if (x) {\n    y();\n  }\n  // #endregion\n}\n',
};
const problems = (text: string) =>
  embedProblems({ path: 'README.md', text }, (path) => files[path]);
const snippet = (name: string, body: string) =>
  `<!-- file: ${name} -->\n\n\`\`\`ts\n${body}\`\`\`\n`;

test('equal snippets pass, whole or a region, also several in one page', () => {
  const whole = snippet('a.ts', 'const a = 1;\n');
  const region = snippet('b.ts#body', 'if (x) {\n  y();\n}\n');
  expect(problems(`# Title\n${whole}\ntext\n${region}`)).toEqual([]);
});

test.each([
  ['a changed snippet', snippet('a.ts', 'const a = 2;\n'), 'differs from the file'],
  ['an emptied snippet', snippet('a.ts', ''), 'differs from the file'],
  ['a missing file', snippet('c.ts', 'x\n'), 'no such file'],
  ['a missing region', snippet('b.ts#head', 'x\n'), 'no such region'],
  ['a marker without a block', '<!-- file: a.ts -->\n\ntext\n', 'no fenced block'],
])('%s is reported', (_, text, problem) => {
  const found = problems(text);
  expect(found).toHaveLength(1);
  expect(found[0]).toContain(problem);
});

test('a region that is never closed is no region', () => {
  expect(regionOf('// #region a\nx\n', 'a')).toBeUndefined();
});
