import { readFileSync } from 'node:fs';
import { afterEach, expect, test, vi } from 'vitest';

const read = (name: string) => readFileSync(new URL(name, import.meta.url), 'utf8');

const block = (language: string): string =>
  new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``).exec(read('../README.md'))?.[1] ?? '';

afterEach(() => vi.restoreAllMocks());

test('the example in the README is the file that runs', () => {
  expect(block('ts')).toBe(read('readme-example.ts'));
});

test('the output in the README is what the example prints', async () => {
  const printed: string[] = [];
  vi.spyOn(console, 'log').mockImplementation((...parts) => {
    printed.push(parts.join(' '));
  });
  await import('./readme-example.ts');
  expect(block('text')).toBe(`${printed.join('\n')}\n`);
});
