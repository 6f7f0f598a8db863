/**
 * From reset to translating.
 *
 * @spec AMD IOMMU 3.4.4 (enable sequence)
 * @linux drivers/iommu/amd/init.c (early_enable_iommu)
 */
import type { UnitHost } from '@iommukit/core';
import { HostMemory } from '@iommukit/core';
import { CONTROL } from '../spec/registers.ts';
import { type Firmware, readCapabilities } from './capabilities.ts';
import { CommandBuffer } from './command-buffer.ts';
import { DeviceTable } from './device-table.ts';
import { DomainIdAllocator } from './domain-id-allocator.ts';
import { EventLogService } from './faults.ts';
import { Invalidate } from './invalidate.ts';
import type { RegisterFile } from './register-file.ts';
import type { UnitContext } from './unit-context.ts';

const DOMAIN_ID_BITS = 16;
/** InvTimeOut: 1 s. */
const TIME_OUT_1S = 4;

/** What the host half is given. */
export interface BringUpOptions {
  readonly name: string;
  readonly index: number;
  readonly firmware: Firmware;
}

/** A unit that is up. */
export interface UnitParts {
  readonly context: UnitContext;
  readonly events: EventLogService;
}

/**
 * Bring a unit up; every device starts blocked.
 *
 * @throws {IommuError} ENODEV when the unit cannot be used; EIO when it does not answer; ENOMEM
 */
export const bringUp = (
  registers: RegisterFile,
  host: UnitHost,
  options: BringUpOptions,
): UnitParts => {
  const caps = readCapabilities(registers, options.firmware);
  const memory = new HostMemory(host.machine.memory);
  // Whatever an earlier owner left running goes off: no DMA is translated until the end.
  registers.writeReg64(CONTROL.offset, 0, 0);
  const table = new DeviceTable(memory);
  table.program(registers);
  const commands = new CommandBuffer(registers, memory);
  commands.program();
  const events = new EventLogService(registers, memory, host);
  events.program(host.machine.allocMessageAddress(() => events.service()));
  const { IOMMU_EN, EVENT_LOG_EN, EVENT_INT_EN, COHERENT, CMD_BUF_EN, INV_TIME_OUT } =
    CONTROL.fields;
  registers.writeReg64(
    CONTROL.offset,
    IOMMU_EN.mask |
      EVENT_LOG_EN.mask |
      EVENT_INT_EN.mask |
      COHERENT.mask |
      CMD_BUF_EN.mask |
      (TIME_OUT_1S << INV_TIME_OUT.shift),
    0,
  );
  const context: UnitContext = {
    index: options.index,
    name: options.name,
    host,
    registers,
    caps,
    memory,
    invalidate: new Invalidate(commands),
    table,
    domainIds: new DomainIdAllocator(DOMAIN_ID_BITS),
    devices: new Map(),
  };
  forgetEverything(context);
  return { context, events };
};

/** Caches may hold what an earlier owner used. Without INVALIDATE_IOMMU_ALL one by one. */
const forgetEverything = ({ caps, invalidate }: UnitContext): void => {
  if (caps.invalidateAll) {
    invalidate.all();
  } else {
    for (let id = 0; id < 0x1_0000; id++) {
      invalidate.deviceEntry(id);
      invalidate.domain(id);
    }
  }
  invalidate.submit();
};
