/**
 * How a unit stands in a snapshot of its machine. Physical addresses are bytes; RAM behind them is
 * carried by core.
 */
import { snapshotCodec } from '@iommukit/core';

const {
  blob,
  bool,
  f64,
  f64s,
  i32s,
  int,
  list,
  nat,
  optional,
  struct,
  text,
  u16,
  u32,
  u32s,
  u64,
  u8,
} = snapshotCodec;

const PAGING = struct({
  number: u32,
  firstStage: bool,
  geometry: struct({ levels: u8, iovaBits: u8, pageSizesLg2: list(u8) }),
  nestParent: bool,
  pasidCompatible: bool,
  dirtyCapable: bool,
  nestParentWritableOnly: bool,
  dirtyTracking: bool,
  forcesSnooping: bool,
  /** Its table in the pool. */
  shard: u32,
  block: u32,
});

const NESTED = struct({
  number: u32,
  parent: u32,
  pasidCompatible: bool,
  tables: struct({
    rootGpa: u64,
    addrWidthBits: u32,
    levels: u8,
    supervisorRequests: bool,
    writeProtect: bool,
    extendedAccessed: bool,
  }),
});

/** An attachment; without `domain` it is the identity domain. */
const ATTACHMENT = struct({ pasid: u32, domain: optional(u32), did: u32, words: u32s });

const DEVICE = struct({
  rid: u16,
  contextPa: nat,
  directoryPa: nat,
  pasidTables: list(struct({ index: u32, pa: nat })),
  pageRequestUsers: u32,
  attachments: list(ATTACHMENT),
});

const FAULT = struct({ pasid: int, grpid: u32, perm: u32, addressPfn: nat, last: bool });

const OPEN_GROUPS = struct({
  rid: u16,
  groups: list(struct({ key: text, bad: bool, faults: list(FAULT) })),
});

const HOST = struct({
  pages: list(struct({ base: nat, count: nat })),
  rootPa: nat,
  contextTables: list(struct({ key: u32, pa: nat })),
  queue: struct({ ringPa: nat, statusPa: nat, tail: u32, sequence: u32 }),
  pageRequestQueuePa: optional(nat),
  openGroups: list(OPEN_GROUPS),
  dids: blob,
  paging: list(PAGING),
  nested: list(NESTED),
  devices: list(DEVICE),
  pool: list(struct({ size: nat, bytes: blob, freeBlocks: list(u32) })),
});

const TLB_ARRAY = struct({ numbers: list(f64s), words: list(i32s), nextWay: blob, live: nat });

const PERMISSION_ENTRY = struct({
  source: int,
  level: u8,
  tag: nat,
  did: u32,
  words: list(u32),
});

const HARDWARE = struct({
  registers: u32s,
  caches: struct({
    context: struct({
      placeOf: u32s,
      count: u32,
      info: i32s,
      did: i32s,
      ridPasid: i32s,
      pointer: f64s,
    }),
    pasid: struct({
      key: f64s,
      nextWay: blob,
      info: i32s,
      did: i32s,
      ssRoot: f64s,
      fsRoot: f64s,
      hptRoot: f64s,
      hptTag: i32s,
    }),
    iotlb: list(TLB_ARRAY),
    hostPermission: list(PERMISSION_ENTRY),
  }),
  /** Whatever software wrote, all 64 bits of it. */
  rootTable: f64,
  ttm: u8,
  ssirwe: bool,
  nextFaultIndex: u32,
  timedOutSid: int,
  interruptTable: struct({ base: f64, entries: u32, extended: bool }),
  interruptEntries: list(struct({ index: u32, words: list(u32) })),
  pasids: list(u32),
});

/** Host half and hardware. */
export const UNIT_STATE = struct({ host: HOST, hardware: HARDWARE });

/** See {@link UNIT_STATE}. */
export type UnitState = snapshotCodec.Stored<typeof UNIT_STATE>;
/** The host half of it. */
export type HostState = UnitState['host'];
/** The hardware of it. */
export type HardwareState = UnitState['hardware'];
