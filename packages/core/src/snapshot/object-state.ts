/**
 * How the objects of an iommufd stand in a snapshot. Numbers are object ids where nothing else is
 * said.
 * @module
 */
import {
  blob,
  bool,
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
  u64,
} from './codec.ts';
import { IOPT } from './iopt-state.ts';

/** Vendor data of a call; `bytes` is absent when the driver never read them. */
const VENDOR_DATA = struct({ type: u32, length: u32, bytes: optional(blob) });

/** What a driver was given to make a domain or a vIOMMU. */
const ORIGIN = struct({
  /** The device of the call. */
  device: struct({ name: text, rid: u16, pasidBits: u8, ats: bool, pri: bool }),
  flags: u32,
  data: optional(VENDOR_DATA),
});
/** See {@link ORIGIN}. */
export type OriginState = Stored<typeof ORIGIN>;

/** A page request as core got it; `pasid` -1 = none. */
const PAGE_FAULT = struct({
  pasid: int,
  grpid: u32,
  perm: u32,
  addressPfn: nat,
  address: optional(u64),
  last: bool,
});
/** See {@link PAGE_FAULT}. */
export type PageFaultState = Stored<typeof PAGE_FAULT>;

/** A complete group; `handlePasid` names the attachment it came through. */
const FAULT_GROUP = struct({
  device: u32,
  pasid: int,
  grpid: u32,
  handlePasid: u32,
  faults: list(PAGE_FAULT),
});
/** See {@link FAULT_GROUP}. */
export type FaultGroupState = Stored<typeof FAULT_GROUP>;

/** A mapping of a child in software nesting. */
const CHILD = struct({ start: u64, last: u64, parentStart: u64, parentLast: u64, prot: u8 });

const IOAS = struct({
  id: u32,
  users: u32,
  /** Position in `COHERENCY_POLICIES`. */
  coherency: u8,
  iopt: IOPT,
  hwpts: list(u32),
  shadow: optional(struct({ parent: u32, children: list(CHILD) })),
});

const HWPT_PAGING = struct({
  id: u32,
  users: u32,
  ioas: u32,
  /** Position of its unit; -1 = the stand-in for devices without IOMMU. */
  unit: int,
  nestParent: bool,
  pasidCompat: bool,
  autoDomain: bool,
  enforceCacheCoherency: bool,
  dirtyTracking: bool,
  fault: optional(u32),
  origin: ORIGIN,
});

const HWPT_NESTED = struct({
  id: u32,
  users: u32,
  parent: u32,
  viommu: optional(u32),
  unit: int,
  pasidCompat: bool,
  fault: optional(u32),
  origin: ORIGIN,
});

const DEVICE = struct({
  id: u32,
  users: u32,
  rid: u16,
  /** Attachments that take page requests. */
  faultUsers: u32,
  partial: list(struct({ pasid: int, grpid: u32, faults: list(PAGE_FAULT) })),
});

const ACCESS = struct({
  id: u32,
  users: u32,
  needsPin: bool,
  internal: bool,
  ioas: optional(u32),
  unpinFrom: optional(u32),
});

const FAULT = struct({
  id: u32,
  users: u32,
  waiting: list(FAULT_GROUP),
  /** By cookie - 1. */
  delivered: list(optional(FAULT_GROUP)),
});

const VIOMMU = struct({
  id: u32,
  users: u32,
  type: u32,
  unit: int,
  hwpt: u32,
  origin: ORIGIN,
});

const VDEVICE = struct({ id: u32, users: u32, viommu: u32, device: u32, virtId: u64 });

const VEVENTQ = struct({
  id: u32,
  users: u32,
  viommu: u32,
  type: u32,
  depth: u32,
  sequence: u32,
  events: list(struct({ flags: u32, sequence: u32, data: blob })),
});

const HW_QUEUE = struct({
  id: u32,
  users: u32,
  viommu: u32,
  index: u32,
  access: u32,
  type: u32,
  iova: u64,
  lengthBytes: nat,
  baseHpa: nat,
  /** The pinned pages, bytes. */
  start: u64,
  pinnedBytes: u64,
});

/** Position among what extensions saved. */
const FOREIGN = struct({ id: u32, users: u32, index: u32 });

/** Any object. */
export const OBJECT = oneOf({
  IOAS,
  HWPT_PAGING,
  HWPT_NESTED,
  DEVICE,
  ACCESS,
  FAULT,
  VIOMMU,
  VDEVICE,
  VEVENTQ,
  HW_QUEUE,
  FOREIGN,
});
/** See {@link OBJECT}. */
export type ObjectState = Stored<typeof OBJECT>;
/** The state of objects of one kind. */
export type StateOf<Kind extends ObjectState['kind']> = Extract<ObjectState, { kind: Kind }>;
