/**
 * Raw calls that look like calls: structs from random small ids, flags and addresses, so that they
 * get far enough to do something.
 */
import {
  createMachine,
  createProcess,
  IOMMU_STRUCTS,
  MAP_FLAG,
  openIommufd,
  type StructSpec,
  sysIoctl,
  VM_PROT,
} from '@iommukit/core';
import { iommuTest, MOCK_TYPE } from '@iommukit/driver-testkit';
import fc from 'fast-check';

const MEMORY = 0x1_0000_0000;
export const SCRATCH = 0x2_0000_0000;
const BUFFER = 0x2_0000_8000;

const TYPES = [0, 1, MOCK_TYPE.HWPT_DATA, MOCK_TYPE.VIOMMU, MOCK_TYPE.VEVENTQ, MOCK_TYPE.HW_INFO];
const WIDE = [
  0n,
  1n,
  0x800n,
  0x1000n,
  0x4000n,
  0x100_0000n,
  0x200_0000n,
  0x200_4000n,
  BigInt(MEMORY),
  BigInt(SCRATCH),
  0x3000_0000_0000n,
  (1n << 64n) - 1n,
];

const word = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 12 }) },
  { weight: 2, arbitrary: fc.constantFrom(...TYPES) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff_ffff }) },
);

/** 72 bytes: words that look like ids, flags and types, and 64-bit values where structs have them. */
const anything = fc
  .tuple(
    fc.array(word, { minLength: 18, maxLength: 18 }),
    fc.array(fc.option(fc.constantFrom(...WIDE)), { minLength: 9, maxLength: 9 }),
  )
  .map(([words, wides]) => {
    const bytes = new Uint8Array(72);
    const view = new DataView(bytes.buffer);
    words.forEach((value, index) => {
      view.setUint32(4 * index, value, true);
    });
    wides.forEach((value, index) => {
      if (value !== null && index > 0) view.setBigUint64(8 * index, value, true);
    });
    return bytes;
  });

/** Ids of what `start` made, by the fields that name such objects. */
const LIKELY_IDS: Readonly<Record<string, number>> = {
  ioas_id: 1,
  dst_ioas_id: 1,
  src_ioas_id: 1,
  dev_id: 3,
  pt_id: 5,
  hwpt_id: 5,
  viommu_id: 6,
  fault_id: 7,
};

/** A struct whose reserved fields are zero and whose pointers are good, most of the time. */
const plausible = (spec: StructSpec): fc.Arbitrary<Uint8Array> =>
  fc.tuple(anything, fc.integer({ min: 0, max: 9 })).map(([bytes, luck]) => {
    if (luck === 0) return bytes;
    const view = new DataView(bytes.buffer);
    for (const [name, { at, kind, role }] of Object.entries(spec.fields)) {
      if (role === 'reserved') bytes.fill(0, at, at + 4);
      else if (kind === 'pointer') view.setBigUint64(at, BigInt(SCRATCH), true);
      else if (luck > 3 && name in LIKELY_IDS) view.setUint32(at, LIKELY_IDS[name] ?? 0, true);
      else if (name === 'flags') view.setUint32(at, view.getUint32(at, true) & 7, true);
      else if (name === 'data_len') view.setUint32(at, luck < 5 ? 0 : 8, true);
      else if (name === 'data_type' && luck < 5) view.setUint32(at, 0, true);
    }
    return bytes;
  });

const specs: readonly StructSpec[] = Object.values(IOMMU_STRUCTS);
/** A struct and the bytes to call with. */
export const call = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .constantFrom(...specs)
      .chain((spec) => fc.tuple(fc.constant(spec), plausible(spec))),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.integer({ min: 0, max: 24 }), anything)
      .map(([op, bytes]): [StructSpec, Uint8Array] => {
        new DataView(bytes.buffer).setUint32(4, op, true);
        return [{ ioctl: 0x3ba0, size: 72, min: 68, fields: {} }, bytes];
      }),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.integer({ min: 0x3b64, max: 0x3b78 }), anything)
      .map(([ioctl, bytes]): [StructSpec, Uint8Array] => [
        { ioctl, size: 32, min: 0, fields: {} },
        bytes,
      ]),
  },
);

/** A machine, a process with memory and an iommufd. */
export const start = () => {
  const machine = createMachine({ ramBytes: 2 ** 22 });
  const free = machine.memory.freePageCount;
  const process = createProcess(machine);
  const anonymous = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  const prot = VM_PROT.READ | VM_PROT.WRITE;
  process.mmap({ addr: MEMORY, length: 0x10000, prot, flags: anonymous });
  process.mmap({ addr: SCRATCH, length: 0x10000, prot, flags: anonymous });
  const context = openIommufd(process, machine, { extensions: [iommuTest()] });
  return { machine, free, process, context };
};

/** What {@link start} makes. */
export type RawBench = ReturnType<typeof start>;

/** One raw call. */
export const invoke = (bench: RawBench, spec: StructSpec, bytes: Uint8Array): number => {
  new DataView(bytes.buffer).setUint32(0, spec.size, true);
  bench.process.poke(BUFFER, bytes);
  return sysIoctl(bench.process, bench.context.fd, spec.ioctl, BUFFER);
};

/** An IOAS (1), a mock device (2, 3, 4), a nest parent (5), a vIOMMU (6) and a fault queue (7). */
export const populate = (bench: RawBench): void => {
  const { context } = bench;
  const { outIoasId: ptId } = context.ioasAlloc();
  const device = new Uint8Array(72);
  const view = new DataView(device.buffer);
  view.setUint32(4, 12, true);
  view.setUint32(8, ptId, true);
  view.setUint32(28, 4, true);
  invoke(bench, { ioctl: 0x3ba0, size: 72, min: 68, fields: {} }, device);
  const hwptId = context.hwptAlloc({ devId: 3, ptId, flags: 11 }).outHwptId;
  context.viommuAlloc({ type: MOCK_TYPE.VIOMMU, devId: 3, hwptId });
  context.faultQueueAlloc();
};
