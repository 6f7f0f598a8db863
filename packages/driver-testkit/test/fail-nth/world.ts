/** The computers that allocations fail on: a device behind the mock, VT-d or SMMUv3. */
import { encode } from '@iommukit/bits';
import {
  createMachine,
  createProcess,
  type Endpoint,
  errnoName,
  HWPT_ALLOC,
  HWPT_DATA,
  type IommuDriver,
  type IommufdContext,
  type IommuUnit,
  isIommuError,
  MAP_FLAG,
  type Machine,
  openIommufd,
  PAGE_BYTES,
  type Process,
  VM_PROT,
} from '@iommukit/core';
import {
  COMMAND,
  encodeHwptArmSmmuv3,
  encodeViommuArmSmmuv3Invalidate,
  STE,
  STE_CONFIG,
  smmuv3,
  TLBI,
} from '@iommukit/driver-smmuv3';
import { iommuTest, MOCK_TYPE, mockDriver } from '@iommukit/driver-testkit';
import { encodeHwptVtdS1, vtd } from '@iommukit/driver-vtd';

/** First byte of the process's memory: 64 pages, all present. */
export const MEMORY = 0x1_0000_0000;
/** Room for structs and answers. */
export const SCRATCH = 0x2_0000_0000;
/** Where families map: IOVAs that every domain here can have. */
export const IOVA = 0x200_0000;
export const SECOND_IOVA = 0x500_0000;

const RAM_BYTES = 2 ** 22;
const MEMORY_PAGES = 64;
const SCRATCH_PAGES = 4;
const PASID_BITS = 8;
/** The smallest page-table pool. */
const SMALLEST_POOL_BYTES = 2 ** 21;

/** A driver, and what only its author knows of its vendor data. */
export interface Platform {
  readonly name: 'mock' | 'vtd' | 'smmuv3';
  createDriver(): IommuDriver;
  /** Vendor type and data of a nested HWPT. */
  readonly nested: { readonly dataType: number; data(): Uint8Array };
  /** Two invalidations of such a HWPT. */
  readonly invalidation: {
    readonly dataType: number;
    readonly entryLen: number;
    data(): Uint8Array;
  };
  /** Flags of a HWPT that tracks dirty pages. */
  readonly dirtyFlags: number;
}

const { DIRTY_TRACKING, NEST_PARENT } = HWPT_ALLOC;

const TLBI_ALL = encode(TLBI, { OPCODE: COMMAND.TLBI_NH_ALL });

/** The drivers. */
export const PLATFORMS: readonly Platform[] = [
  {
    name: 'mock',
    createDriver: mockDriver,
    nested: {
      dataType: MOCK_TYPE.HWPT_DATA,
      data: () => new Uint8Array(Uint32Array.of(0, 0).buffer),
    },
    invalidation: {
      dataType: MOCK_TYPE.INVALIDATE,
      entryLen: 8,
      data: () => new Uint8Array(2 * 8),
    },
    dirtyFlags: DIRTY_TRACKING | NEST_PARENT,
  },
  {
    name: 'vtd',
    createDriver: () => vtd({ maxTableBytes: SMALLEST_POOL_BYTES }),
    nested: {
      dataType: HWPT_DATA.VTD_S1,
      data: () => encodeHwptVtdS1({ pgtblAddr: 0x1000, addrWidth: 48 }),
    },
    invalidation: { dataType: 0, entryLen: 24, data: () => new Uint8Array(2 * 24) },
    dirtyFlags: DIRTY_TRACKING | NEST_PARENT,
  },
  {
    name: 'smmuv3',
    createDriver: () => smmuv3({ maxTableBytes: SMALLEST_POOL_BYTES, canWbs: true }),
    nested: {
      dataType: HWPT_DATA.ARM_SMMUV3,
      data: () => encodeHwptArmSmmuv3(encode(STE, { V: 1, CONFIG: STE_CONFIG.BYPASS })),
    },
    invalidation: {
      dataType: 1,
      entryLen: 16,
      data: () => encodeViommuArmSmmuv3Invalidate([TLBI_ALL, TLBI_ALL]),
    },
    dirtyFlags: DIRTY_TRACKING,
  },
];

/** A machine with one device, a process and a context in which it is bound. */
export interface World {
  readonly platform: Platform;
  readonly machine: Machine;
  readonly unit: IommuUnit;
  readonly nic: Endpoint;
  readonly process: Process;
  readonly context: IommufdContext;
  /** Further processes of a family; they end before `process`. */
  readonly others: Process[];
  /** Further devices of a family, behind the same unit. */
  readonly endpoints: Endpoint[];
  /** What a family does before the process ends, last first. */
  readonly atEnd: (() => void)[];
  /** Free frames before there was a device or a process. */
  readonly freeFrames: number;
}

const anonymous = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;

/** Map memory into a process and touch each page, so that pinning takes no frames. */
const mapPresent = (process: Process, addr: number, pages: number): void => {
  const prot = VM_PROT.READ | VM_PROT.WRITE;
  process.mmap({ addr, length: pages * PAGE_BYTES, prot, flags: anonymous });
  for (let page = 0; page < pages; page++) {
    process.poke(addr + page * PAGE_BYTES, Uint8Array.of(page + 1));
  }
};

const emptyLists = () => ({ others: [], endpoints: [], atEnd: [] });

/** What a unit keeps once it has had a device on a bus (VT-d: the context table of the bus). */
const warmUp = (machine: Machine, unit: IommuUnit): void => {
  const endpoint = machine.addEndpoint({ rid: '00:05.0' });
  machine.attachToUnit(unit, endpoint);
  machine.removeEndpoint(endpoint);
};

/** Bring a computer up. Nothing fails yet. */
export const createWorld = (platform: Platform, options: { noiommu?: boolean } = {}): World => {
  const machine = createMachine({ ramBytes: RAM_BYTES });
  const unit = machine.addUnit(platform.createDriver(), []);
  warmUp(machine, unit);
  const freeFrames = machine.memory.freePageCount;
  const nic = machine.addEndpoint({
    rid: '00:04.0',
    name: 'nic',
    pasidBits: PASID_BITS,
    ats: true,
    pri: true,
  });
  if (!options.noiommu) machine.attachToUnit(unit, nic);
  // Without CAP_IPC_LOCK, so that pinned pages are charged.
  const process = createProcess(machine, {
    capabilities: new Set(['CAP_SYS_RESOURCE', 'CAP_SYS_RAWIO']),
  });
  mapPresent(process, MEMORY, MEMORY_PAGES);
  mapPresent(process, SCRATCH, SCRATCH_PAGES);
  const context = openIommufd(process, machine, { extensions: [iommuTest()], ...options });
  return { platform, machine, unit, nic, process, context, freeFrames, ...emptyLists() };
};

/** How a call ended. */
export interface Outcome {
  /** `'ok'` or an errno name. */
  readonly code: string;
  /** What it returned; its bytes and addresses must not depend on what failed before. */
  readonly value?: unknown;
}

/** Run a call that throws a refusal or returns a negative errno. */
export const attempt = (call: () => unknown): Outcome => {
  try {
    const value = call();
    return typeof value === 'number' && value < 0
      ? { code: errnoName(value) }
      : { code: 'ok', value };
  } catch (error) {
    if (isIommuError(error)) return { code: error.code };
    throw error;
  }
};
