import type { HostMemory, UnitHost } from '@iommukit/core';
import type { Capabilities } from './capabilities.ts';
import type { DeviceState } from './device-state.ts';
import type { DeviceTable } from './device-table.ts';
import type { DomainIdAllocator } from './domain-id-allocator.ts';
import type { Invalidate } from './invalidate.ts';
import type { RegisterFile } from './register-file.ts';

/** What every file of the host half needs to know of one unit that is up. */
export interface UnitContext {
  /** Distinguishes the units of a machine in cache tags. */
  readonly index: number;
  readonly name: string;
  readonly host: UnitHost;
  readonly registers: RegisterFile;
  readonly caps: Capabilities;
  readonly memory: HostMemory;
  readonly invalidate: Invalidate;
  readonly table: DeviceTable;
  readonly domainIds: DomainIdAllocator;
  /** Devices in charge, by RID. */
  readonly devices: Map<number, DeviceState>;
}
