/** What random calls are filled with: values by the names of fields, near what makes sense. */
import {
  type FieldSpec,
  filesOf,
  IOMMU_STRUCTS,
  type IommufdContext,
  type ObjectKind,
  PAGE_BYTES,
  type Process,
  type StructSpec,
  VFIO_IOCTL,
} from '@iommukit/core';
import { MOCK_TYPE } from '@iommukit/driver-testkit';
import { GOLDEN_STRUCTS, type GoldenStruct } from '../../src/golden/structs.ts';
import { EDGES, type Random } from './random.ts';

/** A process's memory, and where it puts structs and data. */
export const MEMORY = 0x1_0000_0000;
export const SCRATCH = 0x2_0000_0000;
export const READ_ONLY = 0x3_0000_0000;
const HOLE = 0x4_0000_0000;
export const MEMORY_PAGES = 24;
export const STRUCT_BYTES = 96;
export const STRUCT_AT = SCRATCH + 0x3000;
export const DATA_AT = SCRATCH + 0x1000;
/** What a call is made on, by how its name starts. */
const FILE_KINDS: readonly (readonly [prefix: string, kind: string])[] = [
  ['VFIO_GROUP', 'vfio group'],
  ['VFIO_DEVICE', 'vfio cdev'],
];
const PROBED_DESCRIPTORS = 24;
const HWPTS: readonly ObjectKind[] = ['HWPT_PAGING', 'HWPT_NESTED'];
/** Kinds of objects that fields name. */
const ID_KINDS: Readonly<Record<string, readonly ObjectKind[]>> = {
  ioas_id: ['IOAS'],
  dst_ioas_id: ['IOAS'],
  src_ioas_id: ['IOAS'],
  dev_id: ['DEVICE'],
  hwpt_id: [...HWPTS, 'VIOMMU'],
  pt_id: [...HWPTS, 'IOAS', 'VIOMMU'],
  viommu_id: ['VIOMMU'],
  fault_id: ['FAULT'],
};
/** Kinds of the `id` of test commands, by how they start; others take a device of the test. */
const TEST_ID_KINDS: readonly (readonly [prefix: string, kinds: readonly ObjectKind[]])[] = [
  ['TEST_ADD_RESERVED', ['IOAS']],
  ['TEST_CREATE_ACCESS', ['IOAS']],
  ['TEST_MOCK_DOMAIN_REPLACE', ['SELFTEST']],
  ['TEST_MOCK_DOMAIN', ['IOAS', 'HWPT_PAGING']],
  ['TEST_MD_CHECK_IOTLB', ['HWPT_NESTED']],
  ['TEST_MD', ['HWPT_PAGING']],
  ['TEST_DIRTY', ['HWPT_PAGING']],
  ['TEST_DEV', ['DEVICE']],
  ['TEST', ['SELFTEST']],
];

const TYPES = [0, 1, ...Object.values(MOCK_TYPE)];
export const IOVAS = [
  0x100_0000n,
  0x100_0800n,
  0x200_0000n,
  0x200_4000n,
  0x5000_0000n,
  0x7fff_f000n,
];

/** ioctl numbers by what a call is counted under. */
export const IOCTLS: readonly (readonly [name: string, spec: StructSpec])[] =
  Object.entries(IOMMU_STRUCTS);

const others = (matches: (name: string) => boolean) =>
  Object.entries(GOLDEN_STRUCTS).filter(([name]) => matches(name));

const indexed = (ioctl: number, size: number): GoldenStruct => ({
  ioctl,
  size,
  min: size,
  fields: { argsz: [0, 4], flags: [4, 4], index: [8, 4] },
});
/** VFIO calls that no recording makes. */
const UNRECORDED: Readonly<Record<string, GoldenStruct>> = {
  VFIO_DEVICE_GET_REGION_INFO: indexed(VFIO_IOCTL.DEVICE_GET_REGION_INFO, 32),
  VFIO_DEVICE_GET_IRQ_INFO: indexed(VFIO_IOCTL.DEVICE_GET_IRQ_INFO, 16),
};

/** Operations of the test ioctl, and VFIO calls with a struct. */
export const TEST_COMMANDS = others((name) => name.startsWith('TEST_'));
export const VFIO_CALLS: readonly (readonly [name: string, struct: GoldenStruct])[] = [
  ...others((name) => name.startsWith('VFIO_') && name !== 'VFIO_IOAS'),
  ...Object.entries(UNRECORDED),
];

const flagsOf = (name: string): readonly number[] => {
  if (name.startsWith('VFIO_IOMMU')) return [0, 1, 2, 3, 3];
  return /_MAP|COPY/.test(name) ? [7, 7, 7, 6, 5] : [0, 0, 0, 1, 2, 4, 8, 9, 11];
};

const testIdKinds = (name: string): readonly ObjectKind[] | undefined =>
  TEST_ID_KINDS.find(([prefix]) => name.startsWith(prefix))?.[1];

/** Fills structs for one program after the other. */
export class CallFiller {
  readonly #random: Random;
  readonly #contexts: readonly IommufdContext[];
  /** The context that a struct is filled for. */
  #context: IommufdContext | undefined;
  /** The call that a struct is filled for. */
  #name = '';
  /** That call gets no vendor data. */
  #noVendorData = false;

  constructor(random: Random, contexts: readonly IommufdContext[]) {
    this.#random = random;
    this.#contexts = contexts;
  }

  randomBytes(): Uint8Array {
    const bytes = new Uint8Array(STRUCT_BYTES);
    if (this.#random.oneIn(16))
      for (let i = 0; i < STRUCT_BYTES; i++) bytes[i] = this.#random.below(256);
    return bytes;
  }

  fromGolden(process: Process, { fields }: GoldenStruct): Uint8Array {
    const bytes = this.randomBytes();
    const view = new DataView(bytes.buffer);
    for (const [name, [at, width, kind]] of Object.entries(fields)) {
      const field = kind ? 'fd' : name;
      if (width === 8) view.setBigUint64(at, this.#wide(field), true);
      else view.setUint32(at, this.#narrow(process, field), true);
    }
    return bytes;
  }

  setField(process: Process, view: DataView, name: string, { at, kind, role }: FieldSpec): void {
    if (role === 'reserved' && !this.#random.oneIn(30)) view.setUint8(at, 0);
    else if (kind === 'u8') view.setUint8(at, this.#random.below(256));
    else if (kind === 'u16') view.setUint16(at, this.#narrow(process, name) & 0xffff, true);
    else if (kind === 'u64') view.setBigUint64(at, this.#wide(name), true);
    else if (kind === 'pointer') view.setBigUint64(at, this.pointer(), true);
    else view.setUint32(at, this.#narrow(process, name), true);
    if (role === 'reserved' && kind === 'u32') view.setUint32(at, 0, true);
  }

  /** A 32-bit field by its name. */
  #narrow(process: Process, name: string): number {
    const random = this.#random;
    if (random.oneIn(40)) return random.u32();
    if (name === 'flags' || name === 'dev_flags') return random.pick(flagsOf(this.#name));
    if (name === 'fd' || name.endsWith('_fd')) return this.#anyFile(process);
    if (name === 'pasid') return random.pick([0, 1, 2, 3, 1024, 0xf_ffff]);
    if (name.endsWith('_type') || name === 'type') return this.#vendorType();
    if (name.endsWith('_len')) return random.pick(this.#noVendorData ? [0] : [0, 4, 8, 12, 24]);
    if (/num|depth|index|op$|option_id|refs|entry|iotlb|cache|grpid|perm/.test(name))
      return random.below(4);
    if (name === 'length' || name === 'limit') return random.pick([12, 0x1000, 0x2000, 0x20_0000]);
    if (/__reserved|size|argsz/.test(name)) return 0;
    return this.#id(process, name);
  }

  /** A 64-bit field by its name. */
  #wide(name: string): bigint {
    const random = this.#random;
    if (random.oneIn(30)) return this.edge();
    if (/iova|addr$/.test(name)) return random.pick(IOVAS);
    if (/va$|vaddr|uptr/.test(name))
      return BigInt(MEMORY + random.below(MEMORY_PAGES) * PAGE_BYTES);
    if (/length|size_/.test(name))
      return BigInt(random.pick([0x800, 0x1000, 0x2000, 0x4000, 0x8000]));
    if (name === 'page_size') return BigInt(random.pick([0x800, 0x1000, 0x2000]));
    return BigInt(random.pick([0, 0, 1, 7, 0x1000]));
  }

  /** For MAP_FILE a file in memory; a context for binding and containers. */
  #anyFile(process: Process): number {
    const kinds = this.#name.includes('MAP_FILE') ? ['memfd', 'dma-buf'] : ['iommufd', 'dma-buf'];
    const fds = kinds.flatMap((kind) => this.#fdsOf(process, kind));
    return fds.length > 0 && !this.#random.oneIn(8) ? this.#random.pick(fds) : this.fd(process);
  }

  #vendorType(): number {
    if (this.#noVendorData) return 0;
    const wanted: Readonly<Record<string, number>> = {
      IOMMU_HWPT_ALLOC: MOCK_TYPE.HWPT_DATA,
      IOMMU_VEVENTQ_ALLOC: MOCK_TYPE.VEVENTQ,
    };
    const type = wanted[this.#name] ?? MOCK_TYPE.VIOMMU;
    return this.#random.oneIn(5) ? this.#random.pick(TYPES) : type;
  }

  edge(): bigint {
    const random = this.#random;
    if (random.oneIn(3)) return (BigInt(random.u32()) << 32n) | BigInt(random.u32());
    return random.pick(EDGES);
  }

  /** Where arrays and vendor data are, mostly. */
  pointer(): bigint {
    return this.#random.oneIn(8) ? this.anyPointer() : BigInt(DATA_AT + this.#random.below(8) * 64);
  }

  anyPointer(): bigint {
    const random = this.#random;
    const page = BigInt(PAGE_BYTES);
    const near = [MEMORY, SCRATCH + 4 * PAGE_BYTES, READ_ONLY, HOLE, 2 ** 47].map(BigInt);
    const at = random.pick([...near, this.edge()]) + BigInt(random.below(24)) - 12n;
    return at < 0n ? page : at & ((1n << 64n) - 1n);
  }

  /** Any descriptor, or a number close to one. */
  fd(process: Process): number {
    return this.#random.below(filesOf(process).nextFd + 3);
  }

  /** A descriptor of the kind a call is for, when there is one, mostly. */
  fdFor(process: Process, name: string): number {
    const kind = FILE_KINDS.find(([prefix]) => name.startsWith(prefix))?.[1] ?? 'iommufd';
    const fds = this.#fdsOf(process, kind);
    const fd =
      fds.length > 0 && !this.#random.oneIn(20) ? this.#random.pick(fds) : this.fd(process);
    this.#context = filesOf(process).get(fd)?.operations.iommufd ?? this.#contexts[0];
    this.#name = name;
    this.#noVendorData = name === 'IOMMU_HWPT_ALLOC' && this.#random.oneIn(2);
    return fd;
  }

  #fdsOf(process: Process, kind: string): number[] {
    const files = filesOf(process);
    return [...Array(PROBED_DESCRIPTORS).keys()].filter(
      (fd) => files.get(fd)?.operations.name === kind,
    );
  }

  /** The number of an object that such a field may name, mostly. */
  #id(process: Process, field: string): number {
    const random = this.#random;
    if (field === 'id' && this.#name.startsWith('TEST_') && this.#name.includes('ACCESS')) {
      const fds = this.#fdsOf(process, 'test access');
      if (fds.length > 0 && this.#name !== 'TEST_CREATE_ACCESS') return random.pick(fds);
    }
    const objects = this.#context?.objects.all() ?? [];
    const kinds = field === 'id' ? testIdKinds(this.#name) : ID_KINDS[field];
    const fitting = objects.filter(({ kind }) => kinds?.includes(kind) ?? true);
    if (fitting.length > 0 && !random.oneIn(12)) return random.pick(fitting).id;
    return objects.length > 0 && !random.oneIn(3) ? random.pick(objects).id : random.below(16);
  }
}
