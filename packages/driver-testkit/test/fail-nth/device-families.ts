/** Calls on devices, page tables and PASIDs. */
import { HWPT_ALLOC, OPTION, openIommufd, PAGE_BYTES } from '@iommukit/core';
import { mapAt, newIoas } from './address-space-families.ts';
import type { Family } from './sweep.ts';
import { IOVA, SECOND_IOVA, type World } from './world.ts';

const PASID_HWPT = HWPT_ALLOC.PASID;

/** A bound device, and an IOAS with two mappings. */
const boundAndMapped = (world: World): { devId: number; ioasId: number } => {
  const devId = world.context.bindDevice(world.nic);
  const ioasId = newIoas(world);
  mapAt(world, ioasId, IOVA, 4);
  mapAt(world, ioasId, IOVA + 0x8000, 4, 8);
  return { devId, ioasId };
};

/** A PASID-compatible HWPT over an IOAS. */
const pasidHwpt = ({ context }: World, devId: number, ptId: number): number =>
  context.hwptAlloc({ devId, ptId, flags: PASID_HWPT }).outHwptId;

/** See the module. */
export const DEVICE_FAMILIES: readonly Family[] = [
  {
    name: 'open /dev/iommu',
    prepare: (world) => () => openIommufd(world.process, world.machine).fd,
  },
  {
    name: 'bind the first device of a group',
    prepare: (world) => () => world.context.bindDevice(world.nic),
  },
  {
    name: 'bind the second device of a group',
    prepare: (world) => {
      const { machine, unit, context } = world;
      const endpoints = ['00:06.0', '00:06.1'].map((rid) =>
        machine.addEndpoint({ rid, group: 'shared' }),
      );
      for (const endpoint of endpoints) machine.attachToUnit(unit, endpoint);
      world.endpoints.push(...endpoints);
      const [first, second] = endpoints as [typeof world.nic, typeof world.nic];
      context.bindDevice(first);
      return () => context.bindDevice(second);
    },
  },
  {
    name: 'attach to an address space, which makes a HWPT',
    keepsDriverFrames: true,
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      return () => world.context.deviceAttach(devId, ioasId);
    },
  },
  {
    name: 'attach to a HWPT',
    keepsDriverFrames: true,
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      const { outHwptId } = world.context.hwptAlloc({ devId, ptId: ioasId });
      return () => world.context.deviceAttach(devId, outHwptId);
    },
  },
  {
    name: 'attach the second device of a group',
    keepsDriverFrames: true,
    prepare: (world) => {
      const { machine, unit, context } = world;
      const endpoints = ['00:06.0', '00:06.1'].map((rid) =>
        machine.addEndpoint({ rid, group: 'shared' }),
      );
      for (const endpoint of endpoints) machine.attachToUnit(unit, endpoint);
      world.endpoints.push(...endpoints);
      const [first, second] = endpoints.map((endpoint) => context.bindDevice(endpoint));
      const ioasId = newIoas(world);
      context.deviceAttach(first as number, ioasId);
      return () => context.deviceAttach(second as number, ioasId);
    },
  },
  {
    name: 'attach to a HWPT with a fault queue',
    keepsDriverFrames: true,
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      const { outFaultId: faultId } = world.context.faultQueueAlloc();
      const flags = HWPT_ALLOC.FAULT_ID_VALID;
      const { outHwptId } = world.context.hwptAlloc({ devId, ptId: ioasId, flags, faultId });
      return () => world.context.deviceAttach(devId, outHwptId);
    },
  },
  {
    name: 'attach a PASID',
    keepsDriverFrames: true,
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      const hwptId = pasidHwpt(world, devId, ioasId);
      return () => world.context.deviceAttach(devId, hwptId, 3);
    },
  },
  {
    name: 'attach a PASID of another PASID table',
    keepsDriverFrames: true,
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      const hwptId = pasidHwpt(world, devId, ioasId);
      world.context.deviceAttach(devId, hwptId, 3);
      return () => world.context.deviceAttach(devId, hwptId, 200);
    },
  },
  {
    name: 'replace by another address space, which makes a HWPT',
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      world.context.deviceAttach(devId, ioasId);
      const other = newIoas(world);
      mapAt(world, other, SECOND_IOVA, 4, 16);
      return () => world.context.deviceReplace(devId, other);
    },
  },
  {
    name: 'replace by a HWPT of the same address space',
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      world.context.deviceAttach(devId, ioasId);
      const { outHwptId } = world.context.hwptAlloc({ devId, ptId: ioasId });
      return () => world.context.deviceReplace(devId, outHwptId);
    },
  },
  {
    name: 'replace the HWPT of a PASID',
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      world.context.deviceAttach(devId, pasidHwpt(world, devId, ioasId), 3);
      const other = newIoas(world);
      mapAt(world, other, SECOND_IOVA, 4, 16);
      const hwptId = pasidHwpt(world, devId, other);
      return () => world.context.deviceReplace(devId, hwptId, 3);
    },
  },
  {
    name: 'detach the RID and a PASID',
    allocatesNothing: true,
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      const hwptId = pasidHwpt(world, devId, ioasId);
      world.context.deviceAttach(devId, hwptId);
      world.context.deviceAttach(devId, hwptId, 3);
      return () => {
        world.context.deviceDetach(devId, 3);
        world.context.deviceDetach(devId);
      };
    },
  },
  {
    name: 'unbind an attached device',
    allocatesNothing: true,
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      world.context.deviceAttach(devId, ioasId);
      return () => world.context.unbindDevice(devId);
    },
  },
  {
    name: 'IOMMU_HWPT_ALLOC over an address space: its first domain',
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      return () => world.context.hwptAlloc({ devId, ptId: ioasId });
    },
  },
  {
    name: 'IOMMU_HWPT_ALLOC over an address space: its second domain, with small pages',
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      world.context.option({ optionId: OPTION.HUGE_PAGES, op: 0, objectId: ioasId, val64: 0 });
      world.context.hwptAlloc({ devId, ptId: ioasId });
      return () => world.context.hwptAlloc({ devId, ptId: ioasId });
    },
  },
  {
    name: 'IOMMU_HWPT_ALLOC with dirty tracking, as a nest parent where that goes',
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      const flags = world.platform.dirtyFlags;
      return () => world.context.hwptAlloc({ devId, ptId: ioasId, flags });
    },
  },
  {
    name: 'IOMMU_HWPT_ALLOC with a fault queue',
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      const { outFaultId: faultId } = world.context.faultQueueAlloc();
      const flags = HWPT_ALLOC.FAULT_ID_VALID;
      return () => world.context.hwptAlloc({ devId, ptId: ioasId, flags, faultId });
    },
  },
  {
    name: 'IOMMU_GET_HW_INFO',
    prepare: (world) => {
      const devId = world.context.bindDevice(world.nic);
      return () => world.context.getHwInfo({ devId });
    },
  },
  {
    name: 'IOMMU_HWPT_SET_DIRTY_TRACKING',
    allocatesNothing: true,
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      const flags = HWPT_ALLOC.DIRTY_TRACKING;
      const { outHwptId: hwptId } = world.context.hwptAlloc({ devId, ptId: ioasId, flags });
      world.context.deviceAttach(devId, hwptId);
      return () => world.context.hwptSetDirtyTracking({ hwptId, flags: 1 });
    },
  },
  {
    name: 'IOMMU_HWPT_GET_DIRTY_BITMAP',
    prepare: (world) => {
      const { devId, ioasId } = boundAndMapped(world);
      const flags = HWPT_ALLOC.DIRTY_TRACKING;
      const { outHwptId: hwptId } = world.context.hwptAlloc({ devId, ptId: ioasId, flags });
      world.context.deviceAttach(devId, hwptId);
      world.context.hwptSetDirtyTracking({ hwptId, flags: 1 });
      world.nic.dmaWrite(IOVA + 0x1000, Uint8Array.of(1));
      const range = { iova: IOVA, length: 0x4000, pageSize: PAGE_BYTES };
      return () => {
        const data = new Uint8Array(8);
        world.context.hwptGetDirtyBitmap({ hwptId, ...range, data });
        return data;
      };
    },
  },
];
