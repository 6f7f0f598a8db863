/**
 * A unit on memory that answers everywhere, programmed as the worked examples are: stream table at
 * 0x100000, queues above it, a bus that keeps what it is sent.
 */
import { encode } from '@iommukit/bits';
import {
  INVALIDATION_ANSWER,
  type InvalidationAnswer,
  type PageGroupResponse,
} from '@iommukit/core';
import { SmmuHardware } from '../../src/hardware/iommu.ts';
import type { SmmuHardwareOptions } from '../../src/hardware/options.ts';
import { COMMAND, CR0, SYNC } from '../../src/spec/index.ts';
import { SparseMemory } from '../sparse-memory.ts';

/** Where things are. */
export const AT = {
  STREAMS: 0x10_0000,
  PAGE_REQUESTS: 0xfd_0000,
  COMMANDS: 0xfe_0000,
  EVENTS: 0xff_0000,
  /** Messages of GERROR, the event queue and the page request queue. */
  GERROR_MSI: 0xfee0_0000,
  EVENT_MSI: 0xfee0_0004,
  PAGE_REQUEST_MSI: 0xfee0_0008,
} as const;

/** The profile that the worked examples assume. */
export const VECTOR_PROFILE = {
  idr0: { HTTU: 2, HYP: 1, STALL_MODEL: 0, TERM_MODEL: 0 },
  idr3: { HAD: 1, XNX: 1, FWB: 1, STT: 1, RIL: 1, BBML: 2, E0PD: 1, PTWNNC: 1 },
  idr5: { OAS: 6, DS: 1, VAX: 1, STALL_MAX: 64 },
  aidr: 3,
} as const;

const { SMMUEN, EVENTQEN, CMDQEN, PRIQEN, ATSCHK } = CR0.fields;
/** CR0 of a unit that does everything. */
export const ALL_ON = SMMUEN.mask | EVENTQEN.mask | CMDQEN.mask | PRIQEN.mask | ATSCHK.mask;

const QUEUE_LG2 = 3;
const INDEX = 2 ** (QUEUE_LG2 + 1) - 1;
const SLOT = 2 ** QUEUE_LG2 - 1;

/** What {@link createRig} takes. */
export interface RigOptions extends Omit<SmmuHardwareOptions, 'memory' | 'bus'> {
  /** CR0; default {@link ALL_ON}. */
  readonly cr0?: number;
  /** CR2; default RECINVSID. */
  readonly cr2?: number;
  /** 4 KiB pages that nothing answers at. */
  readonly holes?: readonly number[];
}

/** An ATC_INV as it reached the bus. */
export interface SentInvalidation {
  readonly rid: number;
  readonly pasid: number;
  readonly pfn: number;
  readonly sizeLg2: number;
  readonly global: boolean;
}

/** Make one. */
export const createRig = (options: RigOptions = {}) => {
  const { cr0 = ALL_ON, cr2 = 2, holes = [], ...hardware } = options;
  const memory = new SparseMemory();
  const missing = new Set(holes);
  const messages: number[] = [];
  const invalidations: SentInvalidation[] = [];
  const responses: PageGroupResponse[] = [];
  const resumed: (readonly number[])[] = [];
  const device: { answer: InvalidationAnswer; lostMessage: number } = {
    answer: INVALIDATION_ANSWER.COMPLETE,
    lostMessage: 0,
  };
  const unit = new SmmuHardware({
    ...hardware,
    memory: {
      regionAt: (pa) => (missing.has(pa - (pa % 4096)) ? undefined : memory.regionAt(pa)),
    },
    bus: {
      raiseMessage: (address) => {
        messages.push(address);
        return address !== device.lostMessage;
      },
      requestResumed: (sid, ticket, answer) => resumed.push([sid, ticket, answer]),
      invalidateDeviceTlb: (rid, pasid, pfn, sizeLg2, global) => {
        invalidations.push({ rid, pasid, pfn, sizeLg2, global });
        return device.answer;
      },
      deliverPageResponse: (response) => responses.push(response),
    },
  });
  const store = (words: Readonly<Record<string, string | number | bigint>>): void => {
    for (const [pa, value] of Object.entries(words)) memory.store(Number(pa), BigInt(value));
  };
  const put = (pa: number, words: ArrayLike<number>): void => {
    for (let at = 0; at < words.length; at += 2) {
      const high = BigInt((words[at + 1] as number) >>> 0);
      memory.store(pa + at * 4, (high << 32n) | BigInt((words[at] as number) >>> 0));
    }
  };
  const records = (base: number, register: number, words: number): bigint[][] => {
    const prod = unit.readReg32(register) & INDEX;
    const cons = unit.readReg32(register + 4) & INDEX;
    const found: bigint[][] = [];
    for (let at = cons; at !== prod; at = (at + 1) & INDEX) {
      const entry = base + (at & SLOT) * words * 8;
      found.push(Array.from({ length: words }, (_, word) => memory.load(entry + word * 8)));
    }
    return found;
  };
  const run = (...commands: ArrayLike<number>[]): void => {
    for (const words of commands) {
      const prod = unit.readReg32(0x98) & INDEX;
      put(AT.COMMANDS + (prod & SLOT) * 16, words);
      unit.writeReg32(0x98, (prod + 1) & INDEX);
    }
  };
  unit.writeReg64(0x80, AT.STREAMS, 0);
  unit.writeReg32(0x88, 8);
  unit.writeReg32(0x2c, cr2);
  unit.writeReg64(0x90, AT.COMMANDS | QUEUE_LG2, 0);
  unit.writeReg64(0xa0, AT.EVENTS | QUEUE_LG2, 0);
  unit.writeReg64(0xc0, AT.PAGE_REQUESTS | QUEUE_LG2, 0);
  unit.writeReg64(0x68, AT.GERROR_MSI, 0);
  unit.writeReg64(0xb0, AT.EVENT_MSI, 0);
  unit.writeReg64(0xd0, AT.PAGE_REQUEST_MSI, 0);
  unit.writeReg32(0x50, 7);
  unit.writeReg32(0x20, cr0);
  return {
    unit,
    memory,
    device,
    messages,
    invalidations,
    responses,
    /** StreamID, ticket and answer of stalls that ended. */
    resumed,
    store,
    put,
    run,
    sync: () => run(encode(SYNC, { OPCODE: COMMAND.SYNC })),
    /** Records that software has not consumed. */
    events: () => records(AT.EVENTS, 0x100a8, 4),
    pageRequests: () => records(AT.PAGE_REQUESTS, 0x100c8, 2),
    commandError: () => (unit.readReg32(0x9c) >>> 24) & 0x7f,
    /** Active global errors. */
    errors: () => unit.readReg32(0x60) ^ unit.readReg32(0x64),
  };
};

/** A unit as {@link createRig} makes it. */
export type Rig = ReturnType<typeof createRig>;
