/**
 * From reset to translating.
 *
 * @spec VT-d 10.1 to 10.3
 * @linux drivers/iommu/intel/iommu.c (init_dmars), dmar.c (dmar_enable_qi), prq.c
 */
import type { UnitHost } from '@iommukit/core';
import { HostMemory } from '@iommukit/core';
import { GCMD, GSTS, PMEN, RTADDR, TTM } from '../spec/registers.ts';
import { readCapabilities } from './capabilities.ts';
import { ContextTables } from './context-table.ts';
import { DidAllocator } from './did-allocator.ts';
import { DomainRegistry } from './domain-registry.ts';
import { FaultService } from './faults.ts';
import { Invalidate } from './invalidate.ts';
import { InvalidationQueue } from './invalidation-queue.ts';
import { PageRequests } from './page-requests.ts';
import type { RegisterFile } from './register-file.ts';
import { GlobalCommands } from './registers.ts';
import type { UnitContext } from './unit-context.ts';

/** Data of the two messages a unit sends to its address. */
const MESSAGE = { FAULT: 1, PAGE_REQUEST: 2 } as const;

/** What the host half is given. */
export interface BringUpOptions {
  readonly name: string;
  readonly index: number;
  readonly scalable: boolean;
  /** Host address width that firmware announces, bits. */
  readonly hostAddressBits: number;
}

/** A unit that is up. */
export interface UnitParts {
  readonly context: UnitContext;
  readonly tables: ContextTables;
  readonly faults: FaultService;
  /** Absent when the unit takes no page requests. */
  readonly pageRequests: PageRequests | undefined;
}

/**
 * Bring a unit up.
 *
 * @throws {IommuError} ENODEV when the unit cannot be used; EIO when it does not answer; ENOMEM
 */
export const bringUp = (
  registers: RegisterFile,
  host: UnitHost,
  options: BringUpOptions,
): UnitParts => {
  // Step 1: what is it?
  const caps = readCapabilities(registers, options.hostAddressBits, options.scalable);
  const commands = new GlobalCommands(registers);
  const memory = new HostMemory(host.machine.memory);
  const queue = new InvalidationQueue(registers, memory, caps.scalable);
  const context: UnitContext = {
    index: options.index,
    name: options.name,
    host,
    registers,
    caps,
    commands,
    memory,
    invalidate: new Invalidate(queue, {
      pageSelective: caps.cap.PSI === 1,
      maxAm: caps.cap.MAMV,
      drainWrites: caps.cap.DWD === 1,
      drainReads: caps.cap.DRD === 1,
      throttles: caps.ecap.DIT === 1,
    }),
    dids: new DidAllocator(caps.didBits),
    domains: new DomainRegistry(),
    devices: new Map(),
  };
  const faults = new FaultService(context);
  const tables = new ContextTables(memory, caps.scalable);
  takeOver(context, faults);
  queue.enable(commands);
  setRootTable(context, tables.rootPa);
  const pageRequests = caps.scalable && caps.ecap.PRS === 1 ? new PageRequests(context) : undefined;
  routeMessages(context, faults, pageRequests);
  disableProtectedMemory(context);
  // Step 9.
  commands.setLevel(GCMD.fields.TE.mask, true);
  return { context, tables, faults, pageRequests };
};

/** Step 2: whatever an earlier owner left running goes off. */
const takeOver = ({ commands }: UnitContext, faults: FaultService): void => {
  if (commands.isOn(GSTS.fields.TES.mask)) commands.setLevel(GCMD.fields.TE.mask, false);
  if (commands.isOn(GSTS.fields.QIES.mask)) commands.setLevel(GCMD.fields.QIE.mask, false);
  faults.discard();
};

/** Steps 4 and 5: the root table, then no cache may know an older one. */
const setRootTable = (context: UnitContext, rootPa: number): void => {
  const { registers, caps, commands, invalidate } = context;
  const mode = (caps.scalable ? TTM.SCALABLE : TTM.LEGACY) << RTADDR.fields.TTM.shift;
  registers.write64(RTADDR.offset, ((rootPa >>> 0) | mode) >>> 0, Math.floor(rootPa / 2 ** 32));
  if (caps.cap.RWBF === 1) commands.flushWriteBuffer();
  commands.pulse(GCMD.fields.SRTP.mask);
  if (caps.cap.ESRTPS === 1) return;
  invalidate.contextGlobal();
  if (caps.scalable) invalidate.pasidGlobal();
  invalidate.iotlbGlobal();
  invalidate.queue.submit();
};

/** Steps 6 and 7: one message address for the unit, told apart by data. */
const routeMessages = (
  { host }: UnitContext,
  faults: FaultService,
  pageRequests: PageRequests | undefined,
): void => {
  const address = host.machine.allocMessageAddress((data) => {
    if (data === MESSAGE.FAULT) faults.service();
    else if (data === MESSAGE.PAGE_REQUEST) pageRequests?.service();
  });
  pageRequests?.enableQueue(address, MESSAGE.PAGE_REQUEST);
  faults.enable(address, MESSAGE.FAULT);
};

/** Step 9, first half: firmware's protected ranges would block DMA to this host's buffers. */
const disableProtectedMemory = ({ registers, caps }: UnitContext): void => {
  if (caps.cap.PLMR === 0 && caps.cap.PHMR === 0) return;
  registers.write32(PMEN.offset, 0);
};
