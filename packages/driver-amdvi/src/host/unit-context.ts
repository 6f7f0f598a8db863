import type { UnitDevice, UnitHost } from '@iommukit/core';
import type { Capabilities } from './capabilities.ts';
import type { DeviceTable } from './device-table.ts';
import type { AttachableDomain } from './domain.ts';
import type { DomainIdAllocator } from './domain-id-allocator.ts';
import type { Invalidate } from './invalidate.ts';

/** One device in the charge of a unit. */
export interface DeviceState {
  readonly device: UnitDevice;
  readonly rid: number;
  /** What translates its requests; undefined = it is blocked. */
  domain: AttachableDomain | undefined;
}

/** What every file of the host half needs to know of one unit that is up. */
export interface UnitContext {
  readonly name: string;
  readonly host: UnitHost;
  readonly caps: Capabilities;
  readonly invalidate: Invalidate;
  readonly table: DeviceTable;
  readonly domainIds: DomainIdAllocator;
  /** Devices in charge, by RID. */
  readonly devices: Map<number, DeviceState>;
}
