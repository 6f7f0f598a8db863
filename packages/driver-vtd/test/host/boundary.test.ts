import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const sourcesOf = (folder: string): [string, string][] => {
  const url = new URL(`../../src/${folder}/`, import.meta.url);
  return readdirSync(url).map((file) => [file, readFileSync(new URL(file, url), 'utf8')]);
};

describe('the two halves meet only in memory and registers', () => {
  it.each([
    ['host', 'hardware'],
    ['hardware', 'host'],
    ['spec', 'host'],
    ['spec', 'hardware'],
  ])('%s/ imports nothing of %s/, not even types', (folder, other) => {
    const sources = sourcesOf(folder);
    expect(sources.length).toBeGreaterThan(5);
    for (const [file, source] of sources) {
      const imports = source.match(/from '[^']+'/g) ?? [];
      expect([file, imports.filter((from) => from.includes(`/${other}/`))]).toEqual([file, []]);
    }
  });
});
