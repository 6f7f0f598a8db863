import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';

const read = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8');
const readme = read('../README.md');

/** The README's code blocks of a language, in order. */
const blocks = (language: string): string[] =>
  [...readme.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, 'g'))].map(
    ([, text = '']) => text,
  );

afterEach(() => vi.restoreAllMocks());

describe.each([
  [0, './readme-example.ts'],
  [1, './readme-nesting.ts'],
])('example %i of the README', (index, path) => {
  test('is the file that runs', () => {
    expect(blocks('ts')[index]).toBe(read(path));
  });

  test('prints what the README shows', async () => {
    const printed: string[] = [];
    vi.spyOn(console, 'log').mockImplementation((...parts) => {
      printed.push(parts.join(' '));
    });
    await import(path);
    expect(blocks('text')[index]).toBe(`${printed.join('\n')}\n`);
  });
});
