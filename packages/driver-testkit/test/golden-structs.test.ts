/** The replayer's structs are those of the recordings: numbers, sizes, offsets, widths. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { GOLDEN_STRUCTS } from '../src/golden/structs.ts';

type Recorded = Readonly<
  Record<
    string,
    {
      readonly ioctl: string;
      readonly size?: number;
      readonly min?: number;
      readonly op?: number;
      readonly fields?: Readonly<Record<string, readonly [number, number, string]>>;
    }
  >
>;

const recorded: Recorded = JSON.parse(
  readFileSync(new URL('data/golden-structs.json', import.meta.url), 'utf8'),
);

const DESCRIPTORS = ['fd', 'out_fd'];

describe('structs of recordings', () => {
  it('are all known, and no others', () => {
    expect(Object.keys(GOLDEN_STRUCTS).sort()).toEqual(Object.keys(recorded).sort());
  });

  it.each(Object.entries(recorded))('%s', (name, { ioctl, size = 0, min = 0, op, fields = {} }) => {
    const expected = Object.entries(fields).map(([field, [at, width, kind]]) => [
      field,
      DESCRIPTORS.includes(kind) ? [at, width, kind] : [at, width],
    ]);
    expect(GOLDEN_STRUCTS[name]).toEqual({
      ioctl: Number(ioctl),
      size,
      min,
      ...(op !== undefined && { op }),
      fields: Object.fromEntries(expected),
    });
  });
});
