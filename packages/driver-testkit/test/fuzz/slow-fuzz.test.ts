/** As fuzz.test.ts, with a million calls, after which every call has succeeded. */
import { VFIO_IOCTL } from '@iommukit/core';
import { expect, it } from 'vitest';
import { IOCTLS, TEST_COMMANDS } from './fields.ts';
import { fuzzPrograms, fuzzRecordings } from './fuzz.ts';

/** A call that nobody serves here: type1's dirty pages. */
const UNSERVED = ['VFIO_IOMMU_DIRTY_PAGES'];

it('a million calls of random programs', () => {
  const { calls, succeeded } = fuzzPrograms(10_000, 2_600);
  expect(calls).toBeGreaterThan(1_000_000);
  const all = [
    ...[...IOCTLS, ...TEST_COMMANDS].map(([name]) => name),
    ...Object.keys(VFIO_IOCTL).map((name) => `VFIO_${name}`),
  ];
  const never = all.filter((name) => !succeeded.has(name) && !UNSERVED.includes(name));
  expect(never).toEqual([]);
}, 1_200_000);

it('thousands of recordings with something changed', () => {
  const { steps, changed } = fuzzRecordings(2, 1_500);
  expect(steps).toBeGreaterThan(120_000);
  expect(changed).toBeGreaterThan(700);
}, 1_200_000);
