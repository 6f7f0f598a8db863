/**
 * From reset to translating.
 *
 * @spec SMMUv3 6.3.9 (order of enables)
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_device_reset)
 */
import { HostMemory, refuse, type UnitHost } from '@iommukit/core';
import { CR0, CR0ACK, CR1, CR2, GBPA, GERROR, GERRORN, IRQ_CTRL } from '../spec/registers.ts';
import { readCapabilities } from './capabilities.ts';
import { CommandQueue } from './command-queue.ts';
import { takeEvent } from './event-routes.ts';
import { EventQueueService } from './faults.ts';
import { Invalidate } from './invalidate.ts';
import { PageFaults } from './page-faults.ts';
import { PageRequestQueue } from './page-request-queue.ts';
import type { RegisterFile } from './register-file.ts';
import { StreamTable } from './stream-table.ts';
import { TagAllocator } from './tag-allocator.ts';
import type { UnitContext } from './unit-context.ts';

/** Tables and queues: inner shareable, write-back. */
const INNER_SHAREABLE_WRITE_BACK = 0xd75;
const MAX_POLLS = 1000;

/** What a unit is besides its registers. */
export interface BringUpOptions {
  readonly name: string;
  /** Firmware says that DMA through the unit snoops whatever the attributes (IORT, CANWBS). */
  readonly canWbs: boolean;
  /** Answer page requests as Linux 7.3, which hands none to anybody. */
  readonly linux73Pri: boolean;
  /** The host runs at EL2 with VHE: its stage 1 is in the EL2-E2H world where the unit has it. */
  readonly vhe?: boolean;
}

/** A unit that is up. */
export interface UnitParts {
  readonly context: UnitContext;
  readonly commands: CommandQueue;
  readonly events: EventQueueService;
  readonly pageFaults: PageFaults;
  /** There where the unit takes page requests. */
  readonly pageRequests: PageRequestQueue | undefined;
}

/**
 * Bring a unit up; every device starts with an entry that aborts.
 *
 * @throws {IommuError} ENODEV when the unit cannot be used; EIO when it does not answer; ENOMEM
 */
export const bringUp = (
  registers: RegisterFile,
  host: UnitHost,
  { name, canWbs, linux73Pri, vhe = false }: BringUpOptions,
): UnitParts => {
  const caps = readCapabilities(registers, vhe);
  const memory = new HostMemory(host.machine.memory);
  takeOver(registers);
  registers.writeReg32(CR1.offset, INNER_SHAREABLE_WRITE_BACK);
  const { PTM, RECINVSID, E2H } = CR2.fields;
  const world = caps.e2h ? E2H.mask : 0;
  registers.writeReg32(CR2.offset, PTM.mask | RECINVSID.mask | world);
  const table = new StreamTable(memory, caps);
  table.program(registers);
  const queue = new CommandQueue(registers, memory, caps.commandQueueLg2);
  queue.program();
  const { CMDQEN, SMMUEN } = CR0.fields;
  enable(registers, CMDQEN.mask);
  const invalidate = new Invalidate(queue, caps);
  invalidate.all();
  invalidate.submit();
  const asids = new TagAllocator('ASID', caps.asidBits, 'EBUSY');
  const vmids = new TagAllocator('VMID', caps.vmidBits, 'ENOSPC');
  const devices: UnitContext['devices'] = new Map();
  const context: UnitContext = {
    name,
    host,
    caps,
    canWbs,
    memory,
    invalidate,
    table,
    asids,
    vmids,
    devices,
  };
  const queues = programQueues(registers, queue, context, linux73Pri);
  enable(registers, queues.enables);
  registers.writeReg32(IRQ_CTRL.offset, queues.interrupts);
  enable(registers, queues.enables | SMMUEN.mask);
  return { context, commands: queue, ...queues };
};

/** The queues that the unit writes; messages of theirs are served when no command is under way. */
const programQueues = (
  registers: RegisterFile,
  commands: CommandQueue,
  context: UnitContext,
  linux73Pri: boolean,
) => {
  const { host, memory, caps, devices } = context;
  const pageFaults = new PageFaults(context);
  const message = (service: () => void): number =>
    host.machine.allocMessageAddress(() => commands.whenIdle(service));
  registers.writeReg32(IRQ_CTRL.offset, 0);
  const events = new EventQueueService(registers, memory, host, caps.eventQueueLg2);
  events.onEvent = (words) => takeEvent(context, pageFaults, words);
  const serviceEvents = () => events.service();
  events.program(message(serviceEvents));
  const { CMDQEN, EVENTQEN, PRIQEN, ATSCHK } = CR0.fields;
  const { EVENTQ_IRQEN, PRIQ_IRQEN } = IRQ_CTRL.fields;
  // Translated requests are checked against the stream table where devices can send them.
  const enables = CMDQEN.mask | EVENTQEN.mask | (caps.ats ? ATSCHK.mask : 0);
  const interrupts = EVENTQ_IRQEN.mask;
  if (!caps.pri) return { events, pageFaults, pageRequests: undefined, enables, interrupts };
  const deviceAt = (sid: number) => devices.get(sid);
  const parts = { registers, memory, faults: pageFaults, deviceAt, likeLinux73: linux73Pri };
  const pageRequests = new PageRequestQueue(parts, caps.pageRequestQueueLg2);
  const servicePageRequests = () => pageRequests.service();
  pageRequests.program(message(servicePageRequests));
  return {
    events,
    pageFaults,
    pageRequests,
    enables: enables | PRIQEN.mask,
    interrupts: interrupts | PRIQ_IRQEN.mask,
  };
};

/**
 * An earlier owner's translation goes off; meanwhile every request aborts. Errors it left active
 * would keep the queues from starting.
 */
const takeOver = (registers: RegisterFile): void => {
  const { ABORT, UPDATE } = GBPA.fields;
  registers.writeReg32(GBPA.offset, (ABORT.mask | UPDATE.mask) >>> 0);
  enable(registers, 0);
  registers.writeReg32(GERRORN.offset, registers.readReg32(GERROR.offset));
};

/** Write CR0 and wait for its acknowledgement. */
const enable = (registers: RegisterFile, enables: number): void => {
  registers.writeReg32(CR0.offset, enables);
  for (let poll = 0; poll < MAX_POLLS; poll++) {
    if (registers.readReg32(CR0ACK.offset) === enables) return;
  }
  throw refuse('EIO', 'bring-up', 'hardware-timeout', `CR0ACK did not become ${enables}`, {
    value: registers.readReg32(CR0ACK.offset),
  });
};
