import type { HostMemory, UnitHost } from '@iommukit/core';
import type { Capabilities } from './capabilities.ts';
import type { DeviceState } from './device-state.ts';
import type { DidAllocator } from './did-allocator.ts';
import type { DomainRegistry } from './domain-registry.ts';
import type { Invalidate } from './invalidate.ts';
import type { RegisterFile } from './register-file.ts';
import type { GlobalCommands } from './registers.ts';

/** What every file of the host half needs to know of one unit that is up. */
export interface UnitContext {
  /** Distinguishes the units of a process in cache tags. */
  readonly index: number;
  readonly name: string;
  readonly host: UnitHost;
  readonly registers: RegisterFile;
  readonly caps: Capabilities;
  readonly commands: GlobalCommands;
  readonly invalidate: Invalidate;
  readonly memory: HostMemory;
  readonly dids: DidAllocator;
  readonly domains: DomainRegistry;
  /** Devices in charge, by RID. */
  readonly devices: Map<number, DeviceState>;
}
