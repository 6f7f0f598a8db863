import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { vectors } from './vectors.ts';

const HERE = new URL('.', import.meta.url).pathname;
/** Says what the file is; nothing to test. */
const PROSE = ['about', 'model'];

const sources = readdirSync(HERE, { recursive: true })
  .map(String)
  .filter((name) => name.endsWith('.ts') && !name.endsWith('vectors.ts'))
  .map((name) => readFileSync(`${HERE}${name}`).toString())
  .join('\n');

it('every section of the vectors is used by a test', () => {
  const unused = Object.keys(vectors).filter(
    (section) => !PROSE.includes(section) && !new RegExp(`\\b${section}\\b`).test(sources),
  );
  expect(unused).toEqual([]);
});
