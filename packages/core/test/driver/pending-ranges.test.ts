/** Ranges that wait for their invalidation: nothing that was added is ever left out. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PendingRanges } from '../../src/index.ts';

const held = (ranges: PendingRanges) =>
  Array.from({ length: ranges.count }, (_, at) => [
    ranges.startAt(at),
    ranges.lastAt(at),
    ranges.leafLg2At(at),
  ]);

describe('PendingRanges', () => {
  it.each<readonly [string, readonly (readonly [number, number, number?])[], number[][]]>([
    ['one range', [[5, 9, 12]], [[5, 9, 12]]],
    ['a leaf size nobody knows', [[5, 9]], [[5, 9, 0]]],
    [
      'neighbours with one leaf size',
      [
        [5, 9, 12],
        [10, 11, 12],
      ],
      [[5, 11, 12]],
    ],
    [
      'neighbours with two leaf sizes',
      [
        [0, 511, 21],
        [512, 512, 12],
      ],
      [[0, 512, 0]],
    ],
    [
      'a gap',
      [
        [5, 9, 12],
        [11, 11, 12],
      ],
      [
        [5, 9, 12],
        [11, 11, 12],
      ],
    ],
    [
      'the one before',
      [
        [5, 9, 12],
        [4, 4, 12],
      ],
      [
        [5, 9, 12],
        [4, 4, 12],
      ],
    ],
  ])('%s', (_, added, expected) => {
    const ranges = new PendingRanges();
    expect(ranges.isEmpty).toBe(true);
    for (const [start, last, leafLg2] of added) ranges.add(start, last, leafLg2);
    expect(held(ranges)).toEqual(expected);
    ranges.clear();
    expect([ranges.isEmpty, held(ranges)]).toEqual([true, []]);
  });

  it('the seventeenth range merges the sixteen before it, whatever was held before a clear', () => {
    const ranges = new PendingRanges();
    for (let at = 0; at < 16; at++) ranges.add(0, 2 ** 52 - 1, 12);
    ranges.clear();
    for (let at = 0; at < 16; at++) ranges.add(1000 - 10 * at, 1000 - 10 * at + 2, 12);
    ranges.add(5000, 5001, 21);
    expect(held(ranges)).toEqual([
      [850, 1002, 0],
      [5000, 5001, 21],
    ]);
  });

  it('covers every frame that was added', () => {
    const frames = fc.tuple(fc.nat(2 ** 31), fc.nat(600));
    fc.assert(
      fc.property(fc.array(frames, { minLength: 1, maxLength: 60 }), (added) => {
        const ranges = new PendingRanges();
        for (const [start, length] of added) ranges.add(start, start + length, 12);
        for (const [start, length] of added) {
          const covered = held(ranges).some(
            ([first = 0, last = 0]) => first <= start && start + length <= last,
          );
          if (!covered) return false;
        }
        return true;
      }),
    );
  });
});
