/**
 * Every allocation of every call fails once, in turn: the call answers ENOMEM, leaves everything as
 * it was, and works when it is made again. Calls for which Linux needs no memory work without any.
 *
 * @linux tools/testing/selftests/iommu/iommufd_fail_nth.c
 */
import { IOMMU_STRUCTS } from '@iommukit/core';
import type { MockUnit } from '@iommukit/driver-testkit';
import { describe, expect, it } from 'vitest';
import { ACCESS_FAMILIES } from './access-families.ts';
import { ADDRESS_SPACE_FAMILIES } from './address-space-families.ts';
import { DEVICE_FAMILIES } from './device-families.ts';
import { NESTING_FAMILIES, requestPage, withFaultQueue, withVeventq } from './nesting-families.ts';
import { checkWithoutMemory, type Family, sweepAllocations, sweepTablePool } from './sweep.ts';
import { TEST_COMMAND_FAMILIES } from './test-command-families.ts';
import { VFIO_FAMILIES } from './vfio-families.ts';
import { createWorld, PLATFORMS, type Platform } from './world.ts';

const FAMILIES: readonly Family[] = [
  ...ADDRESS_SPACE_FAMILIES,
  ...DEVICE_FAMILIES,
  ...ACCESS_FAMILIES,
  ...NESTING_FAMILIES,
  ...VFIO_FAMILIES,
  ...TEST_COMMAND_FAMILIES,
];

/** Families that make page tables, or pages of them. */
const TABLE_BUILDING = [
  'IOMMU_IOAS_MAP with small pages only',
  'IOMMU_IOAS_MAP_FILE',
  'IOMMU_IOAS_COPY of two mappings between two address spaces',
  'attach to an address space, which makes a HWPT',
  'replace by another address space, which makes a HWPT',
  'IOMMU_HWPT_ALLOC over an address space: its first domain',
  'IOMMU_HWPT_ALLOC over an address space: its second domain, with small pages',
  'IOMMU_HWPT_ALLOC with dirty tracking, as a nest parent where that goes',
  'VFIO_DEVICE_ATTACH_IOMMUFD_PT to an address space',
  'VFIO_DEVICE_ATTACH_IOMMUFD_PT in place of another address space',
  'VFIO_GROUP_GET_DEVICE_FD, which binds and attaches',
  'VFIO_IOMMU_MAP_DMA',
];

for (const platform of PLATFORMS) {
  const families = FAMILIES.filter(
    (family) => (family.platform ?? platform.name) === platform.name,
  );
  const isFrugal = ({ allocatesNothing = [] }: Family): boolean =>
    allocatesNothing === true || allocatesNothing.includes(platform.name);
  const allocating = families.filter((family) => !isFrugal(family));
  const frugal = families.filter(isFrugal);

  describe(`each allocation fails once, on ${platform.name}`, () => {
    for (const family of allocating) {
      it(family.name, () => {
        expect(sweepAllocations(family, platform).length).toBeGreaterThan(0);
      });
    }
  });

  describe(`no allocation succeeds, and none is needed, on ${platform.name}`, () => {
    for (const family of frugal) it(family.name, () => checkWithoutMemory(family, platform));
  });
}

describe.each(['vtd', 'smmuv3'])('the pool of page tables runs out page by page, on %s', (on) => {
  const platform = PLATFORMS.find(({ name }) => name === on) as Platform;
  for (const name of TABLE_BUILDING) {
    const family = FAMILIES.find((known) => known.name === name) as Family;
    it(name, () => {
      expect(sweepTablePool(family, platform)).toBeGreaterThan(0);
    });
  }
});

describe('what has no caller to tell', () => {
  it('a page request without memory for it is answered INVALID', () => {
    const world = createWorld(PLATFORMS[0] as Platform);
    const { machine, nic } = world;
    const { queue } = withFaultQueue(world);
    machine.memory.shouldFail = () => true;
    requestPage(world, 9);
    machine.memory.shouldFail = undefined;
    expect(queue.readFaults()).toEqual([]);
    const { responses } = (world.unit as MockUnit).stateOf(nic);
    expect(responses).toEqual([{ grpid: 9, pasid: -1, code: 1 }]);
  });

  it('an event without memory for it becomes the mark of lost ones', () => {
    const world = createWorld(PLATFORMS[0] as Platform);
    const { veventq } = withVeventq(world, 4);
    world.machine.memory.shouldFail = () => true;
    veventq.report(Uint8Array.of(1, 2, 3, 4));
    world.machine.memory.shouldFail = undefined;
    veventq.report(Uint8Array.of(5, 6, 7, 8));
    const events = veventq.readEvents().map(({ flags, sequence }) => [flags, sequence]);
    expect(events).toEqual([[0, 1]]);
  });
});

it('every ioctl has a family', () => {
  const missing = Object.keys(IOMMU_STRUCTS).filter(
    (name) => !FAMILIES.some((family) => family.name.startsWith(name)),
  );
  expect(missing).toEqual([]);
});
