/**
 * From reset to translating.
 *
 * @spec AMD IOMMU 3.4.4 (enable sequence)
 * @linux drivers/iommu/amd/init.c (early_enable_iommu)
 */
import { encode } from '@iommukit/bits';
import type { UnitHost } from '@iommukit/core';
import { HostMemory } from '@iommukit/core';
import { CONTROL, MSI_ADDR_HI, MSI_ADDR_LO, MSI_CAP, MSI_DATA } from '../spec/registers.ts';
import { type Capabilities, type Firmware, nests, readCapabilities } from './capabilities.ts';
import { CommandBuffer } from './command-buffer.ts';
import { DeviceTable } from './device-table.ts';
import { DomainIdAllocator } from './domain-id-allocator.ts';
import { EventLogService } from './faults.ts';
import { Invalidate } from './invalidate.ts';
import { PageRequests } from './page-requests.ts';
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
  /** Page requests without PASID fail, as in Linux 7.3. */
  readonly pasidPageRequestsOnly: boolean;
}

/** A unit that is up. */
export interface UnitParts {
  readonly context: UnitContext;
  readonly events: EventLogService;
  /** Absent when the unit takes no page requests. */
  readonly pageRequests: PageRequests | undefined;
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
  const events = new EventLogService(context);
  events.program();
  const pageRequests = caps.pageRequests
    ? new PageRequests(context, options.pasidPageRequestsOnly)
    : undefined;
  routeMessages(context, events, pageRequests);
  enable(registers, caps);
  // Caches may hold what an earlier owner used.
  context.invalidate.everything(caps.invalidateAll);
  context.invalidate.submit();
  pageRequests?.program();
  return { context, events, pageRequests };
};

/** One message for both logs: who sent it, Status says. */
const routeMessages = (
  { registers, host }: UnitContext,
  events: EventLogService,
  pageRequests: PageRequests | undefined,
): void => {
  const address = host.machine.allocMessageAddress(() => {
    events.service();
    pageRequests?.service();
  });
  registers.writeReg32(MSI_ADDR_LO.offset, address % 2 ** 32);
  registers.writeReg32(MSI_ADDR_HI.offset, Math.floor(address / 2 ** 32));
  registers.writeReg32(MSI_DATA.offset, 0);
  registers.writeReg32(MSI_CAP.offset, MSI_CAP.fields.MSI_EN.mask);
};

/** Modes stand before the unit begins to translate by them. */
const enable = (registers: RegisterFile, caps: Capabilities): void => {
  const modes = {
    EVENT_LOG_EN: 1,
    EVENT_INT_EN: 1,
    COHERENT: 1,
    CMD_BUF_EN: 1,
    INV_TIME_OUT: TIME_OUT_1S,
    GT_EN: caps.guestTables ? 1 : 0,
    EPH_EN: caps.enhancedPageRequests ? 1 : 0,
    GCR3_TRP_MODE: nests(caps) ? 1 : 0,
  };
  for (const IOMMU_EN of [0, 1]) {
    const [lo = 0, hi = 0] = encode(CONTROL, { ...modes, IOMMU_EN });
    registers.writeReg64(CONTROL.offset, lo, hi);
  }
};
