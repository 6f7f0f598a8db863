/** Calls on address spaces: maps, copies, options, processes. */
import {
  forkProcess,
  IOAS_MAP,
  installFile,
  memoryFileOperations,
  OPTION,
  OpenFile,
  PAGE_BYTES,
} from '@iommukit/core';
import type { Family } from './sweep.ts';
import { IOVA, MEMORY, SECOND_IOVA, type World } from './world.ts';

const FIXED_RW = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
const RW = IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
const EVERYTHING = (1n << 64n) - 1n;

/** Map pages of the process's memory at an IOVA. */
export const mapAt = (
  { context }: World,
  ioasId: number,
  iova: number,
  pages: number,
  firstPage = 0,
): void => {
  const userVa = MEMORY + firstPage * PAGE_BYTES;
  const length = pages * PAGE_BYTES;
  context.ioasMap({ ioasId, flags: FIXED_RW, userVa, length, iova });
};

/** A new IOAS. */
export const newIoas = ({ context }: World): number => context.ioasAlloc().outIoasId;

/** An IOAS whose mappings two domains hold: that of the device, and one more. */
export const filledIoas = (world: World): { ioasId: number; devId: number; hwptId: number } => {
  const { context, nic } = world;
  const devId = context.bindDevice(nic);
  const ioasId = newIoas(world);
  const { outHwptId: hwptId } = context.hwptAlloc({ devId, ptId: ioasId });
  context.deviceAttach(devId, hwptId);
  context.hwptAlloc({ devId, ptId: ioasId });
  return { ioasId, devId, hwptId };
};

/** A descriptor of a file in memory. */
const memfd = (world: World, pages: number): number => {
  const file = world.process.createFile({ size: pages * PAGE_BYTES });
  return installFile(world.process, 'memfd_create', () => new OpenFile(memoryFileOperations(file)));
};

const mapFile = ({ context }: World, ioasId: number, fd: number, pages: number) =>
  context.ioasMapFile({
    ioasId,
    flags: FIXED_RW,
    fd,
    start: 0,
    length: pages * PAGE_BYTES,
    iova: IOVA,
  });

/** See the module. */
export const ADDRESS_SPACE_FAMILIES: readonly Family[] = [
  {
    name: 'IOMMU_IOAS_ALLOC',
    prepare: (world) => () => newIoas(world),
  },
  {
    name: 'IOMMU_IOAS_ALLOW_IOVAS',
    prepare: (world) => {
      const ioasId = newIoas(world);
      const ranges = [0, 1, 2].map((n) => ({
        start: IOVA + n * 0x10000,
        last: IOVA + n * 0x10000 + 0xfff,
      }));
      return () => world.context.ioasAllowIovas({ ioasId, ranges });
    },
  },
  {
    name: 'IOMMU_IOAS_MAP into two domains',
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      mapAt(world, ioasId, IOVA + 0x8000, 2, 20);
      return () => mapAt(world, ioasId, IOVA, 8);
    },
  },
  {
    name: 'IOMMU_IOAS_MAP at an IOVA of its own choice',
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      return () =>
        world.context.ioasMap({ ioasId, flags: RW, userVa: MEMORY, length: 0x3000 }).iova;
    },
  },
  {
    name: 'IOMMU_IOAS_MAP with small pages only',
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      world.context.option({ optionId: OPTION.HUGE_PAGES, op: 0, objectId: ioasId, val64: 0 });
      return () => mapAt(world, ioasId, IOVA, 8);
    },
  },
  {
    name: 'IOMMU_IOAS_MAP with small pages only, more than one batch of them',
    touchesPages: true,
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      world.context.option({ optionId: OPTION.HUGE_PAGES, op: 0, objectId: ioasId, val64: 0 });
      const length = 520 * PAGE_BYTES;
      const map = { ioasId, flags: FIXED_RW, userVa: world.process.mmap({ length }), length };
      return () => world.context.ioasMap({ ...map, iova: IOVA });
    },
  },
  {
    name: 'IOMMU_IOAS_MAP of pages that no process has touched',
    touchesPages: true,
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      const addr = world.process.mmap({ length: 4 * PAGE_BYTES });
      return () =>
        world.context.ioasMap({
          ioasId,
          flags: FIXED_RW,
          userVa: addr,
          length: 0x4000,
          iova: IOVA,
        });
    },
  },
  {
    name: 'IOMMU_IOAS_MAP without a domain',
    prepare: (world) => {
      const ioasId = newIoas(world);
      return () => mapAt(world, ioasId, IOVA, 8);
    },
  },
  {
    name: 'IOMMU_IOAS_MAP_FILE',
    touchesPages: true,
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      const fd = memfd(world, 8);
      return () => mapFile(world, ioasId, fd, 8);
    },
  },
  {
    name: 'IOMMU_IOAS_COPY of two mappings between two address spaces',
    prepare: (world) => {
      const { ioasId, devId } = filledIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      mapAt(world, ioasId, IOVA + 0x4000, 4, 8);
      const target = newIoas(world);
      world.context.hwptAlloc({ devId, ptId: target });
      const copy = { flags: FIXED_RW, srcIoasId: ioasId, srcIova: IOVA + 0x1000, length: 0x6000 };
      return () => world.context.ioasCopy({ ...copy, dstIoasId: target, dstIova: SECOND_IOVA });
    },
  },
  {
    name: 'IOMMU_IOAS_COPY within an address space without domain',
    prepare: (world) => {
      const ioasId = newIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      const copy = { flags: FIXED_RW, srcIoasId: ioasId, srcIova: IOVA, length: 0x4000 };
      return () => world.context.ioasCopy({ ...copy, dstIoasId: ioasId, dstIova: SECOND_IOVA });
    },
  },
  {
    name: 'IOMMU_IOAS_CHANGE_PROCESS',
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      mapFile(world, ioasId, memfd(world, 4), 4);
      const other = newIoas(world);
      mapFile(world, other, memfd(world, 4), 4);
      return () => world.context.ioasChangeProcess(world.process);
    },
  },
  {
    name: 'IOMMU_IOAS_CHANGE_PROCESS to a child',
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      mapFile(world, ioasId, memfd(world, 4), 4);
      const child = forkProcess(world.process);
      world.others.push(child);
      return () => world.context.ioasChangeProcess(child);
    },
  },
  {
    name: 'IOMMU_IOAS_UNMAP of what two domains and a copy hold',
    allocatesNothing: true,
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      const copy = { flags: FIXED_RW, srcIoasId: ioasId, srcIova: IOVA + 0x1000, length: 0x2000 };
      world.context.ioasCopy({ ...copy, dstIoasId: ioasId, dstIova: SECOND_IOVA });
      return () => world.context.ioasUnmap({ ioasId, iova: IOVA, length: 0x4000 }).length;
    },
  },
  {
    name: 'IOMMU_IOAS_UNMAP of everything',
    allocatesNothing: true,
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      mapAt(world, ioasId, SECOND_IOVA, 4, 8);
      return () => world.context.ioasUnmap({ ioasId, iova: 0, length: EVERYTHING }).length;
    },
  },
  {
    name: 'IOMMU_IOAS_IOVA_RANGES',
    allocatesNothing: true,
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      return () => world.context.ioasIovaRanges({ ioasId });
    },
  },
  {
    name: 'IOMMU_OPTION',
    allocatesNothing: true,
    prepare: (world) => {
      const ioasId = newIoas(world);
      return () =>
        world.context.option({ optionId: OPTION.HUGE_PAGES, op: 0, objectId: ioasId, val64: 0 });
    },
  },
  {
    name: 'IOMMU_VFIO_IOAS',
    allocatesNothing: true,
    prepare: (world) => {
      const ioasId = newIoas(world);
      return () => world.context.vfioIoasOp({ op: 1, ioasId });
    },
  },
  {
    name: 'IOMMU_DESTROY of an address space with mappings',
    allocatesNothing: true,
    prepare: (world) => {
      const { devId, context } = { ...filledIoas(world), context: world.context };
      const ioasId = newIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      const { outHwptId } = context.hwptAlloc({ devId, ptId: ioasId });
      return () => {
        context.destroy({ id: outHwptId });
        context.destroy({ id: ioasId });
      };
    },
  },
  {
    name: 'IOMMU_IOAS_NOIOMMU_GET_PA',
    allocatesNothing: true,
    noiommu: true,
    platform: 'mock',
    prepare: (world) => {
      const { context, nic } = world;
      const devId = context.bindDevice(nic);
      const ioasId = newIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      context.deviceAttach(devId, ioasId);
      return () => context.ioasNoiommuGetPa({ ioasId, iova: IOVA, length: 0x1000 });
    },
  },
];
