/**
 * Programs that call anything with anything, and recordings with something changed: nothing throws,
 * every answer is a success or an errno of Linux, the same program gets the same answers again, and
 * when all processes have ended no object, pin, charge, frame or device is left.
 */
import { IOMMU_STRUCTS } from '@iommukit/core';
import { expect, it } from 'vitest';
import { fuzzPrograms, fuzzRecordings } from './fuzz.ts';

/** Only a program with CAP_SYS_RAWIO and a device without IOMMU gets there. */
const RARE = ['IOMMU_IOAS_NOIOMMU_GET_PA'];

it('random programs', () => {
  const { calls, succeeded } = fuzzPrograms(0, 120);
  expect(calls).toBeGreaterThan(50_000);
  const never = Object.keys(IOMMU_STRUCTS).filter((name) => !succeeded.has(name));
  expect(never.filter((name) => !RARE.includes(name))).toEqual([]);
}, 60_000);

it('recordings with a byte, a field, a descriptor or the order of steps changed', () => {
  const { changed } = fuzzRecordings(1, 25);
  expect(changed).toBeGreaterThan(8);
}, 60_000);
