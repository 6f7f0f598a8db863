import { readFileSync } from 'node:fs';
import { afterEach, expect, test, vi } from 'vitest';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const example = readFileSync(new URL('readme-example.ts', import.meta.url), 'utf8');

function block(language: string): string {
  const found = new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``).exec(readme);
  return found?.[1] ?? '';
}

afterEach(() => vi.restoreAllMocks());

test('the example in the README is the file that runs', () => {
  expect(block('ts')).toBe(example);
});

test('the output in the README is what the example prints', async () => {
  const printed: string[] = [];
  vi.spyOn(console, 'log').mockImplementation((...parts) => {
    printed.push(parts.join(' '));
  });
  await import('./readme-example.ts');
  expect(block('text')).toBe(`${printed.join('\n')}\n`);
});
