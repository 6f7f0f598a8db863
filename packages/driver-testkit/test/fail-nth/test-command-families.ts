/** IOMMU_TEST_CMD (0x3ba0): mock devices, accesses, dma-bufs. */
import { sysIoctl } from '@iommukit/core';
import { mapAt, newIoas } from './address-space-families.ts';
import type { Family } from './sweep.ts';
import { IOVA, MEMORY, SCRATCH, type World } from './world.ts';

const TEST_CMD = 0x3ba0;
const BYTES = 72;
const OP = {
  ADD_RESERVED: 1,
  MOCK_DOMAIN: 2,
  MD_CHECK_MAP: 3,
  CREATE_ACCESS: 5,
  ACCESS_PAGES: 7,
  ACCESS_RW: 8,
  MOCK_DOMAIN_REPLACE: 10,
  ACCESS_REPLACE_IOAS: 11,
  MOCK_DOMAIN_FLAGS: 12,
  DIRTY: 13,
  PASID_ATTACH: 18,
  PASID_REPLACE: 19,
  PASID_DETACH: 20,
  DMABUF_GET: 22,
} as const;

const DEVICE_WITH_PASIDS = 4;
const STRUCT_AT = SCRATCH + 0x1000;

/** Fields as [offset, bytes, value]; returns the struct after the call, or the negative errno. */
const test = (
  { process, context }: World,
  op: number,
  id: number,
  fields: readonly (readonly [at: number, bytes: 4 | 8, value: number])[] = [],
): Uint32Array | number => {
  const view = new DataView(new ArrayBuffer(BYTES));
  view.setUint32(0, BYTES, true);
  view.setUint32(4, op, true);
  view.setUint32(8, id, true);
  for (const [at, bytes, value] of fields) {
    if (bytes === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
  }
  process.poke(STRUCT_AT, new Uint8Array(view.buffer));
  const result = sysIoctl(process, context.fd, TEST_CMD, STRUCT_AT);
  if (result < 0) return result;
  return new Uint32Array((process.peek(STRUCT_AT, BYTES) as Uint8Array).slice().buffer);
};

/** u32 at a byte offset of an answer. */
const word = (answer: Uint32Array | number, at: number): number => {
  if (typeof answer === 'number') throw new Error(`the preparation failed: ${answer}`);
  return answer[at / 4] as number;
};

/** A mock device that the command makes, attached to a new IOAS with a mapping. */
const mockDevice = (world: World) => {
  const ioasId = newIoas(world);
  mapAt(world, ioasId, IOVA, 4);
  const made = test(world, OP.MOCK_DOMAIN_FLAGS, ioasId, [[28, 4, DEVICE_WITH_PASIDS]]);
  return { ioasId, stdev: word(made, 16), hwptId: word(made, 20), devId: word(made, 24) };
};

const newAccess = (world: World, ioasId: number, flags = 1): number =>
  word(test(world, OP.CREATE_ACCESS, ioasId, [[20, 4, flags]]), 16);

const pinRange = (world: World, fd: number) =>
  test(world, OP.ACCESS_PAGES, fd, [
    [24, 8, IOVA],
    [32, 8, 0x3000],
    [40, 8, MEMORY],
  ]);

const readOrWrite = (world: World, fd: number) =>
  test(world, OP.ACCESS_RW, fd, [
    [16, 8, IOVA],
    [24, 8, 0x2000],
    [32, 8, SCRATCH + 0x2000],
    [40, 4, 4],
  ]);

/** Answer a positive result only: the struct holds ids and descriptors. */
const answered = (answer: Uint32Array | number) =>
  typeof answer === 'number' ? answer : [...answer];

/** See the module. The unit of mock devices comes up with the first of them. */
export const TEST_COMMAND_FAMILIES: readonly Family[] = [
  {
    name: 'TEST MOCK_DOMAIN',
    platform: 'mock',
    prepare: (world) => {
      const ioasId = newIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      return () => answered(test(world, OP.MOCK_DOMAIN, ioasId));
    },
  },
  {
    name: 'TEST MOCK_DOMAIN_REPLACE',
    platform: 'mock',
    prepare: (world) => {
      const { stdev } = mockDevice(world);
      const other = newIoas(world);
      return () => answered(test(world, OP.MOCK_DOMAIN_REPLACE, stdev, [[16, 4, other]]));
    },
  },
  {
    name: 'TEST PASID_ATTACH',
    platform: 'mock',
    prepare: (world) => {
      const { stdev, devId, ioasId } = mockDevice(world);
      const { outHwptId } = world.context.hwptAlloc({ devId, ptId: ioasId, flags: 8 });
      test(world, OP.MOCK_DOMAIN_REPLACE, stdev, [[16, 4, outHwptId]]);
      const fields = [
        [16, 4, 3],
        [20, 4, outHwptId],
      ] as const;
      return () => answered(test(world, OP.PASID_ATTACH, stdev, fields));
    },
  },
  {
    name: 'TEST PASID_REPLACE',
    platform: 'mock',
    prepare: (world) => {
      const { stdev, devId, ioasId } = mockDevice(world);
      const hwpts = [0, 1].map(
        () => world.context.hwptAlloc({ devId, ptId: ioasId, flags: 8 }).outHwptId,
      );
      test(world, OP.MOCK_DOMAIN_REPLACE, stdev, [[16, 4, hwpts[0] as number]]);
      test(world, OP.PASID_ATTACH, stdev, [
        [16, 4, 3],
        [20, 4, hwpts[0] as number],
      ]);
      const fields = [
        [16, 4, 3],
        [20, 4, hwpts[1] as number],
      ] as const;
      return () => answered(test(world, OP.PASID_REPLACE, stdev, fields));
    },
  },
  {
    name: 'TEST CREATE_ACCESS',
    prepare: (world) => {
      const ioasId = newIoas(world);
      return () => answered(test(world, OP.CREATE_ACCESS, ioasId, [[20, 4, 1]]));
    },
  },
  {
    name: 'TEST ACCESS_REPLACE_IOAS',
    prepare: (world) => {
      const fd = newAccess(world, newIoas(world));
      const other = newIoas(world);
      return () => answered(test(world, OP.ACCESS_REPLACE_IOAS, fd, [[16, 4, other]]));
    },
  },
  {
    name: 'TEST ACCESS_PAGES',
    prepare: (world) => {
      const ioasId = newIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      const fd = newAccess(world, ioasId);
      return () => answered(pinRange(world, fd));
    },
  },
  {
    name: 'TEST ACCESS_RW',
    prepare: (world) => {
      const ioasId = newIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      const fd = newAccess(world, ioasId, 0);
      return () => answered(readOrWrite(world, fd));
    },
  },
  {
    name: 'TEST ADD_RESERVED',
    prepare: (world) => {
      const ioasId = newIoas(world);
      const fields = [
        [16, 8, IOVA],
        [24, 8, 0x1000],
      ] as const;
      return () => answered(test(world, OP.ADD_RESERVED, ioasId, fields));
    },
  },
  {
    name: 'TEST DIRTY',
    platform: 'mock',
    prepare: (world) => {
      const { context, nic } = world;
      const devId = context.bindDevice(nic);
      const ioasId = newIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      const { outHwptId: hwptId } = context.hwptAlloc({ devId, ptId: ioasId, flags: 2 });
      context.hwptSetDirtyTracking({ hwptId, flags: 1 });
      world.process.poke(SCRATCH, Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0));
      const fields = [
        [24, 8, IOVA],
        [32, 8, 0x4000],
        [40, 8, 4096],
        [48, 8, SCRATCH],
      ] as const;
      return () => answered(test(world, OP.DIRTY, hwptId, fields));
    },
  },
  {
    name: 'TEST DMABUF_GET',
    touchesPages: true,
    prepare: (world) => () => answered(test(world, OP.DMABUF_GET, 0, [[16, 4, 0x3000]])),
  },
  {
    name: 'IOMMU_IOAS_MAP_FILE of a dma-buf',
    prepare: (world) => {
      const { context, nic } = world;
      const fd = 4;
      test(world, OP.DMABUF_GET, 0, [[16, 4, 0x3000]]);
      const devId = context.bindDevice(nic);
      const ioasId = newIoas(world);
      context.hwptAlloc({ devId, ptId: ioasId });
      const map = { ioasId, flags: 7, fd, start: 0, length: 0x3000, iova: IOVA };
      return () => context.ioasMapFile(map);
    },
  },
  {
    name: 'TEST PASID_DETACH and MD_CHECK_MAP',
    platform: 'mock',
    allocatesNothing: true,
    prepare: (world) => {
      const { stdev, devId, ioasId } = mockDevice(world);
      const { outHwptId } = world.context.hwptAlloc({ devId, ptId: ioasId, flags: 8 });
      test(world, OP.MOCK_DOMAIN_REPLACE, stdev, [[16, 4, outHwptId]]);
      test(world, OP.PASID_ATTACH, stdev, [
        [16, 4, 3],
        [20, 4, outHwptId],
      ]);
      const checks = [
        [16, 8, IOVA],
        [24, 8, 0x4000],
        [32, 8, MEMORY],
      ] as const;
      return () => {
        const detached = test(world, OP.PASID_DETACH, stdev, [[16, 4, 3]]);
        return typeof detached === 'number'
          ? detached
          : answered(test(world, OP.MD_CHECK_MAP, outHwptId, checks));
      };
    },
  },
];
