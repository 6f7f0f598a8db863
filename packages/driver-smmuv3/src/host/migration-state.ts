/**
 * How the host half stands in a snapshot of its machine. Physical addresses are bytes; RAM behind them
 * is carried by core.
 */
import { type PageFault, snapshotCodec } from '@iommukit/core';
import type { CdTablePlace } from './cd-table.ts';
import type { PageFaultsState } from './page-faults.ts';
import type { PageRequestQueueState } from './page-request-queue.ts';
import type { StreamTablePlace } from './stream-table.ts';

const { blob, bool, int, list, nat, optional, struct, text, u8, u32, u32s, u64 } = snapshotCodec;

const PAGING = struct({
  number: u32,
  stage: u8,
  smallPagesOnly: bool,
  dirtyTracking: bool,
  forcedWriteBack: bool,
  nestParent: bool,
  pasidCompatible: bool,
  /** Its owner reads dirty bits at the moment. */
  tracking: bool,
  forcesSnooping: bool,
  /** ASID or VMID. */
  tag: u32,
  /** Its table in the pool. */
  shard: u32,
  block: u32,
});

const VIOMMU = struct({ number: u32, parent: u32, vmid: u32 });

/** A nested domain; without `viommu` it is one of its own. */
const NESTED = struct({
  number: u32,
  viommu: optional(u32),
  parent: u32,
  vmid: u32,
  vste: u32s,
});

const CD_TABLE: snapshotCodec.Codec<CdTablePlace> = struct({
  pa: nat,
  leaves: list(struct({ index: u32, pa: nat })),
});

const DEVICE = struct({
  sid: u32,
  cdTable: optional(CD_TABLE),
  atsEnabled: bool,
  /** What requests without SubstreamID use: nothing, bypass, or a domain. */
  attached: bool,
  domain: optional(u32),
  pasids: list(struct({ ssid: u32, domain: u32 })),
});

const FAULT_FIELDS = struct({
  pasid: int,
  grpid: u32,
  perm: u32,
  addressPfn: nat,
  address: optional(u64),
  last: bool,
});

/** An address that is not there is no property. */
const FAULT: snapshotCodec.Codec<PageFault> = {
  minBytes: FAULT_FIELDS.minBytes,
  write: (out, fault) => FAULT_FIELDS.write(out, { ...fault, address: fault.address }),
  read: (from) => {
    const { address, ...fault } = FAULT_FIELDS.read(from);
    return address === undefined ? fault : { ...fault, address };
  },
};

const PAGE_REQUESTS: snapshotCodec.Codec<PageRequestQueueState> = struct({
  queuePa: nat,
  open: list(
    struct({
      sid: u32,
      groups: list(struct({ key: text, bad: bool, faults: list(FAULT) })),
    }),
  ),
});

const PAGE_FAULTS: snapshotCodec.Codec<PageFaultsState> = struct({
  open: list(struct({ sid: u32, waiting: list(struct({ key: text, kinds: list(u8) })) })),
});

const STREAM_TABLE: snapshotCodec.Codec<StreamTablePlace> = struct({
  basePa: nat,
  leaves: list(struct({ bus: u32, pa: nat })),
});

/** The host half. */
export const HOST_STATE = struct({
  pages: list(struct({ base: nat, count: nat })),
  table: STREAM_TABLE,
  commands: struct({ ringPa: nat, prod: u32 }),
  eventQueuePa: nat,
  pageRequests: optional(PAGE_REQUESTS),
  pageFaults: PAGE_FAULTS,
  asids: blob,
  vmids: blob,
  paging: list(PAGING),
  viommus: list(VIOMMU),
  nested: list(NESTED),
  devices: list(DEVICE),
  pool: list(struct({ size: nat, bytes: blob, freeBlocks: list(u32) })),
});

/** See {@link HOST_STATE}. */
export type HostState = snapshotCodec.Stored<typeof HOST_STATE>;
