import { readFileSync } from 'node:fs';
import { format } from 'node:util';
import { expect, test, vi } from 'vitest';

test('the sample prints what the README says it prints', async () => {
  const lines: string[] = [];
  const log = vi.spyOn(console, 'log').mockImplementation((...args) => {
    lines.push(format(...args));
  });
  await import('./main.ts');
  log.mockRestore();
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const [, shown] =
    /<!-- output: examples\/quickstart -->\n+```text\n([\s\S]*?)```/.exec(readme) ?? [];
  expect(lines.join('\n')).toBe(shown?.trimEnd());
});
