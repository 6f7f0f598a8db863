import type { HostMemory, UnitHost } from '@iommukit/core';
import type { Capabilities } from './capabilities.ts';
import type { DeviceState } from './device-state.ts';
import type { Invalidate } from './invalidate.ts';
import type { StreamTable } from './stream-table.ts';
import type { TagAllocator } from './tag-allocator.ts';

/** What every file of the host half needs to know of one unit that is up. */
export interface UnitContext {
  readonly name: string;
  readonly host: UnitHost;
  readonly caps: Capabilities;
  /** Firmware says that DMA through the unit snoops whatever the attributes (IORT, CANWBS). */
  readonly canWbs: boolean;
  readonly memory: HostMemory;
  readonly invalidate: Invalidate;
  readonly table: StreamTable;
  /** Tags of stage-1 tables, and of stage-2 tables. */
  readonly asids: TagAllocator;
  readonly vmids: TagAllocator;
  /** Devices in charge, by StreamID. */
  readonly devices: Map<number, DeviceState>;
}
