import type { UnitDevice, UnitHost } from '@iommukit/core';
import type { Capabilities } from './capabilities.ts';
import type { AttachableDomain } from './domain.ts';
import type { Invalidate } from './invalidate.ts';
import type { StreamTable } from './stream-table.ts';
import type { VmidAllocator } from './vmid-allocator.ts';

/** One device in the charge of a unit. */
export interface DeviceState {
  readonly device: UnitDevice;
  /** StreamID. */
  readonly sid: number;
  /** What translates its requests; undefined = they abort. */
  domain: AttachableDomain | undefined;
}

/** What every file of the host half needs to know of one unit that is up. */
export interface UnitContext {
  readonly name: string;
  readonly host: UnitHost;
  readonly caps: Capabilities;
  readonly invalidate: Invalidate;
  readonly table: StreamTable;
  readonly vmids: VmidAllocator;
  /** Devices in charge, by StreamID. */
  readonly devices: Map<number, DeviceState>;
}
