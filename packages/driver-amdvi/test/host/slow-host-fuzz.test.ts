import { expect, it } from 'vitest';
import { runWorlds } from './host-fuzz.ts';

const OPERATIONS = 500_000;

it('half a million random host operations and requests: as mapped, a silent sanitizer', () => {
  const tally = runWorlds(OPERATIONS, 2000, 1000);
  expect(tally.operations).toBeGreaterThanOrEqual(OPERATIONS);
  expect(tally.reached).toBeGreaterThan(OPERATIONS / 10);
  expect(tally.nested).toBeGreaterThan(OPERATIONS / 200);
  expect(tally.pasid).toBeGreaterThan(OPERATIONS / 100);
}, 1_800_000);
