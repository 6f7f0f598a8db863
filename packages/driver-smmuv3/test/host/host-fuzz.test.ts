import { expect, test } from 'vitest';
import { runWorlds, VARIANTS } from './host-fuzz.ts';

test('random host operations and DMA: as mapped, only IommuErrors, a silent sanitizer', () => {
  const each = 250;
  const tally = runWorlds(VARIANTS.length * 2 * each, { each });
  expect(tally.reached).toBeGreaterThan(500);
  expect(tally.blocked).toBeGreaterThan(500);
  expect(tally.pasids).toBeGreaterThan(100);
  expect(tally.refused).toBeGreaterThan(100);
  expect(tally.dirty).toBeGreaterThan(20);
}, 60_000);
