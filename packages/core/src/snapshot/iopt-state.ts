/**
 * How an I/O page table stands in a snapshot: areas, the pages behind them, ranges.
 * @module
 */
import {
  bool,
  int,
  list,
  nat,
  nothing,
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
import { FRAME_RUN } from './memory-state.ts';

/** What pages are pinned from, other than memory of the process. */
export const PINNABLE_REF = oneOf({
  /** Position among the files in memory. */
  memory: struct({ index: u32 }),
  /** A descriptor that cannot be pinned. */
  unpinnable: nothing,
  /** Position among what extensions saved. */
  foreign: struct({ index: u32 }),
});
/** See {@link PINNABLE_REF}. */
export type PinnableRef = Stored<typeof PINNABLE_REF>;

/** Pages of one mapping call, shared by its copies. */
export const PAGES = struct({
  process: u32,
  uid: int,
  mode: u8,
  file: optional(PINNABLE_REF),
  basePage: nat,
  count: nat,
  writable: bool,
  /** A dma-buf that was taken back. */
  revoked: bool,
  references: int,
  pinned: int,
  charged: int,
  /** Users of all pages at once. */
  users: int,
  /** Frames then; one run when they are contiguous. */
  whole: list(struct({ pfn: nat, count: nat })),
  /** Users of parts: from `start` on, `level` of them. */
  partial: optional(
    struct({ cover: list(struct({ start: nat, level: int })), frames: list(FRAME_RUN) }),
  ),
  accesses: list(struct({ first: nat, count: nat, users: int })),
});
/** See {@link PAGES}. */
export type PagesState = Stored<typeof PAGES>;

/** One area; addresses as frame number and low 12 bits, last inclusive. */
const AREA = struct({
  startPfn: nat,
  startLow: u16,
  lastPfn: nat,
  lastLow: u16,
  pages: u32,
  startIndex: nat,
  pageOffset: u16,
  prot: u8,
  preventsAccess: bool,
  accesses: u32,
  locks: u32,
});
/** See {@link AREA}. */
export type AreaState = Stored<typeof AREA>;

const RANGE = struct({ start: u64, last: u64 });

/** Who reserved a range. */
const OWNER = oneOf({ none: nothing, hwpt: struct({ id: u32 }), device: struct({ id: u32 }) });
/** See {@link OWNER}. */
export type ReservedOwner = Stored<typeof OWNER>;

/** An I/O page table; numbers are object ids. */
export const IOPT = struct({
  areas: list(AREA),
  reserved: list(struct({ start: u64, last: u64, label: text, owner: OWNER })),
  allowed: list(RANGE),
  iovaAlignment: u32,
  largePages: bool,
  lastUnmappedBytes: u64,
  domains: list(struct({ hwpt: u32, label: text })),
  accesses: list(u32),
  /** Shadow tables that software nesting derives from this one. */
  shadows: list(u32),
});
/** See {@link IOPT}. */
export type IoptState = Stored<typeof IOPT>;
