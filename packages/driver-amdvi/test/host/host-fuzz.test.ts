import { expect, it } from 'vitest';
import { runWorlds, VARIANTS } from './host-fuzz.ts';

it('random host operations and DMA: as mapped, only IommuErrors, a silent sanitizer', () => {
  const each = 500;
  const tally = runWorlds(VARIANTS.length * 2 * each, each);
  expect(tally.reached).toBeGreaterThan(500);
  expect(tally.blocked).toBeGreaterThan(500);
  expect(tally.nested).toBeGreaterThan(30);
  expect(tally.pasid).toBeGreaterThan(50);
  expect(tally.refused).toBeGreaterThan(200);
}, 60_000);
