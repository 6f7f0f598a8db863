/**
 * How a whole scenario stands in a snapshot: bus, memory, units, processes, files, contexts.
 * @module
 */
import {
  blob,
  bool,
  f64,
  int,
  list,
  nat,
  oneOf,
  optional,
  type Stored,
  struct,
  text,
  u8,
  u16,
  u32,
} from './codec.ts';
import { HELD } from './held-state.ts';
import { PAGES } from './iopt-state.ts';
import { FRAME_RUN, MEMORY, MEMORY_FILE } from './memory-state.ts';
import { OBJECT } from './object-state.ts';

/** A device on the bus, with its TLB and the page requests that wait for an answer. */
const ENDPOINT = struct({
  rid: u16,
  name: text,
  pasidBits: u8,
  ats: bool,
  pri: bool,
  noSnoop: bool,
  deviceTlbEntries: nat,
  /** Positions of its unit (-1 = none) and group. */
  unit: int,
  group: u32,
  hwInfo: optional(struct({ type: u32, data: blob })),
  /** How it answers invalidation requests. */
  invalidationAnswer: u8,
  waiting: list(u16),
  nextPrgi: u16,
  tlb: list(
    struct({
      pasid: int,
      entries: list(struct({ page: nat, pfn: nat, read: bool, write: bool, global: bool })),
    }),
  ),
  stats: struct({ hits: nat, misses: nat, invalidated: nat }),
});
/** See {@link ENDPOINT}. */
export type EndpointState = Stored<typeof ENDPOINT>;

/** The bus. */
export const BUS = struct({
  groups: list(struct({ id: u32, key: text, rids: list(u16) })),
  nextGroupId: u32,
  endpoints: list(ENDPOINT),
  /** First interrupt address that nobody has. */
  nextMessageAddress: nat,
});
/** See {@link BUS}. */
export type BusState = Stored<typeof BUS>;

/** A unit: what it is, and its own bytes where it has them. */
const UNIT = struct({
  name: text,
  driver: text,
  hwInfoType: u32,
  caps: struct({
    pageSizesLg2: list(u8),
    iovaBits: u8,
    oaBits: u8,
    pasidBits: u8,
    enforcesCacheCoherency: bool,
    cacheCoherent: bool,
    guestStage: u8,
    ats: bool,
    pri: bool,
    stall: bool,
  }),
  state: optional(blob),
  /** Frames of its host half, where the unit is to be rebuilt. */
  hostPages: list(struct({ base: nat, count: nat })),
});
/** See {@link UNIT}. */
export type UnitState = Stored<typeof UNIT>;

/** A file in memory that somebody refers to. */
const FILE_REF = oneOf({
  /** Position among the files in memory. */
  memory: struct({ index: u32 }),
  /** What a vIOMMU offers for mmap, by file offset. */
  region: struct({ context: u32, offset: nat }),
});
/** See {@link FILE_REF}. */
export type FileRef = Stored<typeof FILE_REF>;

const PROCESS = struct({
  uid: int,
  capabilities: list(text),
  rlimitMemlockBytes: f64,
  pinnedPages: int,
  lockedPages: int,
  alive: bool,
  vmas: list(
    struct({
      start: nat,
      end: nat,
      prot: u32,
      shared: bool,
      hugetlb: bool,
      file: optional(FILE_REF),
      filePage: nat,
    }),
  ),
  frames: list(FRAME_RUN),
  /** Descriptors: number and position of the open file. */
  files: list(struct({ fd: u32, file: u32 })),
});
/** See {@link PROCESS}. */
export type ProcessState = Stored<typeof PROCESS>;

/** What an open file does. `device` and `group` are positions among VFIO devices and bus groups. */
const OPERATIONS = oneOf({
  iommufd: struct({ context: u32 }),
  queue: struct({ context: u32, id: u32 }),
  memfd: struct({ file: u32 }),
  vfioCdev: struct({ device: u32, isBound: bool }),
  vfioGroup: struct({ group: u32, context: optional(u32) }),
  vfioDevice: struct({ device: u32 }),
  foreign: struct({ index: u32 }),
});
/** See {@link OPERATIONS}. */
export type OperationsState = Stored<typeof OPERATIONS>;

const OPEN_FILE = struct({ references: int, operations: OPERATIONS });

/** A device under VFIO that somebody has open. */
const VFIO_DEVICE = struct({
  rid: u16,
  opens: u32,
  bound: optional(struct({ context: u32, id: u32 })),
  isCdevBound: bool,
  pasids: list(u32),
});
/** See {@link VFIO_DEVICE}. */
export type VfioDeviceState = Stored<typeof VFIO_DEVICE>;

/** Devices of one group and what they are attached to, by PASID. */
const GROUP = struct({
  /** Position among the bus's groups. */
  group: u32,
  attachments: list(struct({ pasid: u32, hwpt: u32, devices: list(u32) })),
});
/** See {@link GROUP}. */
export type GroupState = Stored<typeof GROUP>;

/** What a vIOMMU offers for mmap. */
const MMAP_REGION = struct({
  offset: nat,
  length: nat,
  viommu: u32,
  writableMappings: int,
  file: MEMORY_FILE,
});
/** See {@link MMAP_REGION}. */
export type MmapRegionState = Stored<typeof MMAP_REGION>;

const CONTEXT = struct({
  process: u32,
  fd: u32,
  file: u32,
  extensions: list(text),
  noiommu: bool,
  accountPerProcess: bool,
  vfioIoas: optional(u32),
  boundHere: list(u32),
  /** Ids of vDEVICEs whose device went first. */
  tombstones: list(u32),
  objects: list(OBJECT),
  pages: list(PAGES),
  groups: list(GROUP),
  mmapRegions: list(MMAP_REGION),
});
/** See {@link CONTEXT}. */
export type ContextState = Stored<typeof CONTEXT>;

/** Everything. */
export const SCENARIO = struct({
  bus: BUS,
  units: list(UNIT),
  memory: MEMORY,
  processes: list(PROCESS),
  memoryFiles: list(MEMORY_FILE),
  openFiles: list(OPEN_FILE),
  vfioDevices: list(VFIO_DEVICE),
  contexts: list(CONTEXT),
  held: list(HELD),
  /** What extensions saved: name of the extension and its bytes. */
  foreign: list(struct({ extension: text, bytes: blob })),
});
/** See {@link SCENARIO}. */
export type ScenarioState = Stored<typeof SCENARIO>;
