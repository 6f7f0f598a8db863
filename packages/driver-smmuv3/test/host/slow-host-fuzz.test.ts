import { expect, test } from 'vitest';
import { runWorlds } from './host-fuzz.ts';

const OPERATIONS = 1_000_000;

test('a million random host operations and requests: as mapped, a silent sanitizer', () => {
  const tally = runWorlds(OPERATIONS, { each: 2000, firstSeed: 1000, sanitizeEvery: 10 });
  expect(tally.operations).toBeGreaterThanOrEqual(OPERATIONS);
  expect(tally.reached).toBeGreaterThan(OPERATIONS / 10);
  expect(tally.pasids).toBeGreaterThan(OPERATIONS / 50);
  expect(tally.dirty).toBeGreaterThan(OPERATIONS / 100);
}, 1_800_000);
