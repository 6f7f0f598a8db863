import type { BusPort } from '@iommukit/core';
import type { CacheOptions } from './caches.ts';
import type { SmmuCapabilities } from './capabilities.ts';
import type { CmdqvGeometry } from './cmdqv.ts';
import type { DevicePort } from './device-commands.ts';
import type { InterruptPort } from './interrupts.ts';
import type { HardwareMemory } from './memory.ts';

/** What a unit is built on. */
export interface SmmuHardwareOptions {
  readonly memory: HardwareMemory;
  readonly capabilities?: SmmuCapabilities;
  readonly caches?: CacheOptions;
  /** Command queues for guests beside the unit (Tegra241); default: none. */
  readonly cmdqv?: CmdqvGeometry;
  /** Look for missing invalidations; costs a fresh walk per cache hit. Default off. */
  readonly sanitize?: boolean;
  /**
   * Where the unit's messages go, and what stalled requests become; default: interrupts are written
   * to memory, and there are no devices with caches or page requests.
   */
  readonly bus?: SmmuBus;
}

/** What a unit tells its bus. */
export interface SmmuBus extends InterruptPort, DevicePort, Pick<BusPort, 'requestResumed'> {}
