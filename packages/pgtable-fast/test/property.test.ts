import fc from 'fast-check';
import { describe, test } from 'vitest';
import { checkSequence, checkSequences, ops } from './differential.ts';
import { VARIANTS } from './formats-under-test.ts';

describe('random operations equal the reference', () => {
  for (const variant of VARIANTS) {
    test(variant.title, () => {
      fc.assert(
        fc.property(ops(variant), (sequence) => checkSequence(variant, sequence)),
        { numRuns: 60 },
      );
    });
  }
});

describe('the scalar and shared builds equal the reference', () => {
  for (const build of ['scalar', 'shared'] as const) {
    for (const variant of VARIANTS.filter((_, i) => i % 3 === 0)) {
      test(`${build}: ${variant.title}`, () => {
        fc.assert(
          fc.property(ops(variant), (sequence) => checkSequence(variant, sequence, build)),
          { numRuns: 15 },
        );
      });
    }
  }
});

describe('tables that share a pool equal their references', () => {
  for (const variant of VARIANTS.filter((_, i) => i % 4 === 1)) {
    test(variant.title, () => {
      fc.assert(
        fc.property(ops(variant), ops(variant), (a, b) => checkSequences(variant, [a, b])),
        { numRuns: 20 },
      );
    });
  }
});
