import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

const src = new URL('../src/', import.meta.url);
const files = readdirSync(src).map((name) => {
  const text = readFileSync(new URL(name, src), 'utf8');
  return { name, text, code: text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '') };
});

describe('sources', () => {
  test.each(files)(
    '$name has no BigInt.asUintN, asIntN or 64-bit arrays and imports only its own files',
    ({ code }) => {
      expect(code).not.toMatch(/asUintN|asIntN|BigUint64Array|BigInt64Array|BigUint64|BigInt64/);
      const imports = [...code.matchAll(/from '([^']+)'/g)].map((match) => match[1]);
      for (const path of imports) expect(path).toMatch(/^\.\/[a-z0-9-]+\.ts$/);
    },
  );

  test.each(files.filter(({ name }) => name !== 'u64.ts'))(
    '$name converts between bigint and u32 halves only through u64.ts',
    ({ code }) => expect(code).not.toMatch(/0xffffffffn|0xffff_ffffn|\b32n\b|\bNumber\(/),
  );

  test.each(files)('$name stays below 300 lines', ({ text }) => {
    expect(text.split('\n').length).toBeLessThan(300);
  });
});
