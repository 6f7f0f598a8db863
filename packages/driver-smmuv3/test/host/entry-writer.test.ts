import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { CD_RULES, STE_RULES } from '../../src/host/entry-rules.ts';
import { writeEntry } from '../../src/host/entry-writer.ts';

interface Hitless {
  readonly kind: 'ste' | 'cd';
  readonly name: string;
  readonly frm: readonly string[];
  readonly to: readonly string[];
  readonly hitless: boolean;
  readonly steps: readonly ('sync' | { readonly word: number; readonly value: string })[];
}

const data = JSON.parse(
  gunzipSync(readFileSync(new URL('../data/smmuv3-vectors.json.gz', import.meta.url))).toString(),
) as { hitless: Hitless[] };

const entryOf = (qwords: readonly string[]): Uint32Array => {
  const words = new Uint32Array(16);
  qwords.forEach((qword, at) => {
    words[2 * at] = Number(BigInt(qword) & 0xffff_ffffn);
    words[2 * at + 1] = Number(BigInt(qword) >> 32n);
  });
  return words;
};

test.each(data.hitless.map((item) => [item.name, item] as const))(
  'SMMUv3 3.21.3: %s, word by word',
  (_, { kind, frm, to, hitless, steps }) => {
    const done: unknown[] = [];
    const words = entryOf(frm);
    const result = writeEntry(
      {
        words,
        store: (word, lo, hi) => {
          words[2 * word] = lo;
          words[2 * word + 1] = hi;
          const value = (BigInt(hi) << 32n) | BigInt(lo);
          done.push({ word, value: `0x${value.toString(16)}` });
        },
        sync: () => done.push('sync'),
      },
      entryOf(to),
      kind === 'ste' ? STE_RULES : CD_RULES,
    );
    expect(done).toEqual(steps);
    expect(result).toBe(hitless);
    expect(words).toEqual(entryOf(to));
  },
);

test('the vectors are there', () => {
  expect(data.hitless).toHaveLength(21);
});
