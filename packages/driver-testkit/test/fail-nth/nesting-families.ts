/** Calls on nested page tables, vIOMMUs, their devices and queues, and fault queues. */
import { HWPT_ALLOC, sysRead, sysWrite } from '@iommukit/core';
import { MOCK_TYPE } from '@iommukit/driver-testkit';
import { mapAt, newIoas } from './address-space-families.ts';
import type { Family } from './sweep.ts';
import { IOVA, SCRATCH, type World } from './world.ts';

const PGFAULT_BYTES = 40;
const VIRT_ID = 7;
const SLOTS = 4;

/** A nest parent over an IOAS with a mapping, and a device to use it with. */
const nestParent = (world: World) => {
  const { context, nic } = world;
  const devId = context.bindDevice(nic);
  const ioasId = newIoas(world);
  mapAt(world, ioasId, IOVA, 4);
  const flags = HWPT_ALLOC.NEST_PARENT;
  const { outHwptId: parentId } = context.hwptAlloc({ devId, ptId: ioasId, flags });
  return { devId, ioasId, parentId };
};

/** A nested HWPT over `ptId`, a nest parent or a vIOMMU. */
const nestedOver = ({ context, platform }: World, devId: number, ptId: number, faultId = 0) => {
  const { dataType, data } = platform.nested;
  const flags = faultId === 0 ? 0 : HWPT_ALLOC.FAULT_ID_VALID;
  return context.hwptAlloc({ devId, ptId, dataType, data: data(), flags, faultId });
};

const newViommu = (world: World) => {
  const made = nestParent(world);
  const { devId, parentId: hwptId } = made;
  const { outViommuId: viommuId } = world.context.viommuAlloc({
    type: MOCK_TYPE.VIOMMU,
    devId,
    hwptId,
  });
  return { ...made, viommuId };
};

const hwQueue = ({ context }: World, viommuId: number, index: number) =>
  context.hwQueueAlloc({
    viommuId,
    type: MOCK_TYPE.HW_QUEUE,
    index,
    nestingParentIova: IOVA,
    length: 0x1000,
  });

/** Let the device ask for a page. */
export const requestPage = ({ machine, nic }: World, prgi: number): void => {
  const request = { rid: nic.rid, pasid: -1, addressPfn: 5, prgi, last: true };
  const rights = { read: true, write: false, exec: false, priv: false };
  machine.unitOf(nic)?.agent.pageRequest?.({ ...request, ...rights });
};

/** A device attached through a nested HWPT with a fault queue. */
export const withFaultQueue = (world: World) => {
  const { context } = world;
  const { devId, parentId } = nestParent(world);
  const { outFaultId: faultId, outFaultFd: fd } = context.faultQueueAlloc();
  const { outHwptId } = nestedOver(world, devId, parentId, faultId);
  context.deviceAttach(devId, outHwptId);
  return { fd, queue: context.find('read', faultId, 'FAULT') };
};

/** The same, with one page request in the queue. */
const withFault = (world: World) => {
  const made = withFaultQueue(world);
  requestPage(world, 3);
  return made;
};

/** An event queue of a vIOMMU. */
export const withVeventq = (world: World, veventqDepth: number) => {
  const { viommuId } = newViommu(world);
  const queue = { viommuId, type: MOCK_TYPE.VEVENTQ, veventqDepth };
  const { outVeventqFd: fd, outVeventqId } = world.context.veventqAlloc(queue);
  return { fd, veventq: world.context.find('report', outVeventqId, 'VEVENTQ') };
};

/** See the module. */
export const NESTING_FAMILIES: readonly Family[] = [
  {
    name: 'IOMMU_HWPT_ALLOC nested over a parent',
    prepare: (world) => {
      const { devId, parentId } = nestParent(world);
      return () => nestedOver(world, devId, parentId);
    },
  },
  {
    name: 'attach to a nested HWPT with a fault queue',
    keepsDriverFrames: true,
    prepare: (world) => {
      const { devId, parentId } = nestParent(world);
      const { outFaultId } = world.context.faultQueueAlloc();
      const { outHwptId } = nestedOver(world, devId, parentId, outFaultId);
      return () => world.context.deviceAttach(devId, outHwptId);
    },
  },
  {
    name: 'replace by a nested HWPT',
    prepare: (world) => {
      const { devId, parentId } = nestParent(world);
      world.context.deviceAttach(devId, parentId);
      const { outHwptId } = nestedOver(world, devId, parentId);
      return () => world.context.deviceReplace(devId, outHwptId);
    },
  },
  {
    name: 'IOMMU_FAULT_QUEUE_ALLOC',
    prepare: (world) => () => {
      const { outFaultId, outFaultFd } = world.context.faultQueueAlloc();
      return [outFaultId, outFaultFd];
    },
  },
  {
    name: 'read a fault queue',
    prepare: (world) => {
      const { queue } = withFault(world);
      return () => queue.readFaults().map(({ cookie, grpid }) => [cookie, grpid]);
    },
  },
  {
    name: 'read(2) of a fault queue',
    prepare: (world) => {
      const { fd } = withFault(world);
      return () => sysRead(world.process, fd, SCRATCH, PGFAULT_BYTES);
    },
  },
  {
    name: 'write(2) of an answer to a fault queue',
    allocatesNothing: true,
    prepare: (world) => {
      const { fd } = withFault(world);
      sysRead(world.process, fd, SCRATCH, PGFAULT_BYTES);
      world.process.poke(SCRATCH, new Uint8Array(Uint32Array.of(1, 0).buffer));
      return () => sysWrite(world.process, fd, SCRATCH, 8);
    },
  },
  {
    name: 'IOMMU_HWPT_INVALIDATE of a nested HWPT',
    // An SMMUv3 copies all commands at once.
    allocatesNothing: ['mock', 'vtd'],
    prepare: (world) => {
      const { devId, parentId } = nestParent(world);
      const { outHwptId: hwptId } = nestedOver(world, devId, parentId);
      world.context.deviceAttach(devId, hwptId);
      const { dataType, entryLen, data } = world.platform.invalidation;
      return () =>
        world.context.hwptInvalidate({ hwptId, dataType, entryLen, entryNum: 2, data: data() });
    },
  },
  {
    name: 'IOMMU_VIOMMU_ALLOC with a region to map',
    platform: 'mock',
    prepare: (world) => {
      const { devId, parentId: hwptId } = nestParent(world);
      return () => {
        const data = new Uint8Array(24);
        const made = world.context.viommuAlloc({ type: MOCK_TYPE.VIOMMU, devId, hwptId, data });
        return { made, data };
      };
    },
  },
  {
    name: 'IOMMU_VDEVICE_ALLOC',
    platform: 'mock',
    prepare: (world) => {
      const { devId, viommuId } = newViommu(world);
      return () => world.context.vdeviceAlloc({ viommuId, devId, virtId: VIRT_ID });
    },
  },
  {
    name: 'IOMMU_HWPT_ALLOC nested over a vIOMMU',
    platform: 'mock',
    prepare: (world) => {
      const { devId, viommuId } = newViommu(world);
      world.context.vdeviceAlloc({ viommuId, devId, virtId: VIRT_ID });
      return () => nestedOver(world, devId, viommuId);
    },
  },
  {
    name: 'IOMMU_HWPT_INVALIDATE of a vIOMMU',
    platform: 'mock',
    prepare: (world) => {
      const { devId, viommuId } = newViommu(world);
      world.context.vdeviceAlloc({ viommuId, devId, virtId: VIRT_ID });
      const data = new Uint8Array(Uint32Array.of(0, VIRT_ID, 1, 0, VIRT_ID, SLOTS - 1).buffer);
      const dataType = MOCK_TYPE.VIOMMU_INVALIDATE;
      const entries = { dataType, entryLen: 12, entryNum: 2, data };
      return () => world.context.hwptInvalidate({ hwptId: viommuId, ...entries });
    },
  },
  {
    name: 'IOMMU_VEVENTQ_ALLOC',
    platform: 'mock',
    prepare: (world) => {
      const { viommuId } = newViommu(world);
      const queue = { viommuId, type: MOCK_TYPE.VEVENTQ, veventqDepth: 4 };
      return () => {
        const { outVeventqId, outVeventqFd } = world.context.veventqAlloc(queue);
        return [outVeventqId, outVeventqFd];
      };
    },
  },
  {
    name: 'read(2) of the mark of lost events',
    platform: 'mock',
    prepare: (world) => {
      const { fd, veventq } = withVeventq(world, 1);
      veventq.report(Uint8Array.of(1, 2, 3, 4));
      veventq.report(Uint8Array.of(5, 6, 7, 8));
      sysRead(world.process, fd, SCRATCH, 12);
      return () => sysRead(world.process, fd, SCRATCH, 8);
    },
  },
  {
    name: 'IOMMU_HW_QUEUE_ALLOC',
    platform: 'mock',
    prepare: (world) => {
      const { viommuId } = newViommu(world);
      return () => hwQueue(world, viommuId, 0);
    },
  },
  {
    name: 'IOMMU_HW_QUEUE_ALLOC of a queue that depends on another',
    platform: 'mock',
    prepare: (world) => {
      const { viommuId } = newViommu(world);
      hwQueue(world, viommuId, 0);
      return () => hwQueue(world, viommuId, 1);
    },
  },
  {
    name: 'IOMMU_DESTROY of a queue, a vDEVICE, a nested HWPT and a vIOMMU',
    platform: 'mock',
    allocatesNothing: true,
    prepare: (world) => {
      const { devId, viommuId } = newViommu(world);
      const { context } = world;
      const { outVdeviceId } = context.vdeviceAlloc({ viommuId, devId, virtId: VIRT_ID });
      const { outHwptId } = nestedOver(world, devId, viommuId);
      const { outHwQueueId } = hwQueue(world, viommuId, 0);
      return () => {
        for (const id of [outHwQueueId, outHwptId, outVdeviceId, viommuId]) context.destroy({ id });
      };
    },
  },
];
