import { addressToPfn, decode } from '@iommukit/bits';
import { addressHi, addressLo, type HostMemory, type PageFault } from '@iommukit/core';
import { PRI_RESPONSE } from '../spec/commands.ts';
import { PAGE_REQUEST, PAGE_REQUEST_BYTES } from '../spec/page-request.ts';
import { GERROR, GERRORN, PRIQ_BASE, PRIQ_CONS, PRIQ_IRQ, PRIQ_PROD } from '../spec/registers.ts';
import type { DeviceState } from './device-state.ts';
import { type PageFaults, PERM } from './page-faults.ts';
import type { RegisterFile } from './register-file.ts';

const WORDS = PAGE_REQUEST_BYTES / 4;
const OVERFLOW = 0x8000_0000;
/** Attributes of message writes: Device-nGnRE. */
const MESSAGE_ATTRIBUTES = 1;
const QUEUE_ABORT = GERROR.fields.PRIQ_ABT_ERR.mask;
/** Requests kept of one device while their groups are incomplete. */
const MAX_HELD_REQUESTS = 2048;

interface Group {
  readonly faults: PageFault[];
  /** A request of it could not be kept: the whole group is answered as invalid. */
  bad: boolean;
}

interface OpenGroups {
  readonly byKey: Map<string, Group>;
  /** Requests in all of them. */
  held: number;
}

const decodeRequest = (words: Uint32Array) => decode(PAGE_REQUEST, words);
type Request = ReturnType<typeof decodeRequest>;

/** What the queue is built on. */
export interface PageRequestQueueParts {
  readonly registers: RegisterFile;
  readonly memory: HostMemory;
  readonly faults: PageFaults;
  readonly deviceAt: (sid: number) => DeviceState | undefined;
  /** Answer groups as Linux 7.3 does, which hands none of them to anybody. */
  readonly likeLinux73: boolean;
}

/** Where the queue is, and what of groups has arrived. */
export interface PageRequestQueueState {
  readonly queuePa: number;
  readonly open: readonly {
    readonly sid: number;
    readonly groups: readonly {
      readonly key: string;
      readonly bad: boolean;
      readonly faults: readonly PageFault[];
    }[];
  }[];
}

/**
 * The page request queue of one unit: takes requests out, puts groups together, hands them on.
 *
 * @spec SMMUv3 8
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_priq_thread)
 */
export class PageRequestQueue {
  /** Overflows seen; hardware answered the lost requests itself. */
  overflows = 0;
  readonly #parts: PageRequestQueueParts;
  #queue: number;
  readonly #lg2: number;
  readonly #open = new Map<DeviceState, OpenGroups>();
  #servicing = false;

  /** @param entriesLg2 lg2 of the requests it holds */
  constructor(parts: PageRequestQueueParts, entriesLg2: number) {
    this.#parts = parts;
    this.#lg2 = entriesLg2;
    const pages = Math.max((PAGE_REQUEST_BYTES * 2 ** entriesLg2) / 4096, 1);
    this.#queue = parts.memory.alloc(pages, 'bring-up', 'the page request queue');
  }

  /** Program base, indices and message; the queue is off. */
  program(messageAddress: number): void {
    const { registers } = this.#parts;
    const lo = (addressLo(this.#queue) | this.#lg2) >>> 0;
    registers.writeReg64(PRIQ_BASE.offset, lo, addressHi(this.#queue));
    registers.writeReg32(PRIQ_PROD.offset, 0);
    registers.writeReg32(PRIQ_CONS.offset, 0);
    const { CFG0, CFG1, CFG2 } = PRIQ_IRQ;
    registers.writeReg64(CFG0.offset, addressLo(messageAddress), addressHi(messageAddress));
    registers.writeReg32(CFG1.offset, 0);
    registers.writeReg32(CFG2.offset, MESSAGE_ATTRIBUTES);
  }

  /** Take every request, oldest first, and acknowledge an overflow. */
  service(): void {
    if (this.#servicing) return;
    this.#servicing = true;
    try {
      this.#drain();
    } finally {
      this.#servicing = false;
    }
  }

  /** Where the queue is, and incomplete groups by StreamID, for a snapshot. */
  save(): PageRequestQueueState {
    return {
      queuePa: this.#queue,
      open: [...this.#open].map(([{ sid }, { byKey }]) => ({
        sid,
        groups: [...byKey].map(([key, { bad, faults }]) => ({ key, bad, faults: [...faults] })),
      })),
    };
  }

  /** Go on with a queue that a snapshot brought; its devices are there. */
  adopt({ queuePa, open }: PageRequestQueueState): void {
    this.#queue = queuePa;
    this.#open.clear();
    for (const { sid, groups } of open) {
      const state = this.#parts.deviceAt(sid);
      if (state === undefined) continue;
      const byKey = new Map(
        groups.map(({ key, bad, faults }) => [key, { bad, faults: [...faults] }]),
      );
      const held = groups.reduce((sum, { faults }) => sum + faults.length, 0);
      this.#open.set(state, { byKey, held });
    }
  }

  /** The device leaves. */
  forget(device: DeviceState): void {
    this.#open.delete(device);
  }

  #drain(): void {
    const { registers } = this.#parts;
    const mask = 2 ** (this.#lg2 + 1) - 1;
    let cons = registers.readReg32(PRIQ_CONS.offset);
    for (;;) {
      const prod = registers.readReg32(PRIQ_PROD.offset);
      if (((prod ^ cons) & mask) === 0) {
        if (((prod ^ cons) & OVERFLOW) === 0) break;
        cons = this.#recover(cons);
        continue;
      }
      const request = this.#read(cons);
      cons = ((cons & OVERFLOW) | ((cons + 1) & mask)) >>> 0;
      registers.writeReg32(PRIQ_CONS.offset, cons);
      this.#take(request);
    }
    this.#acknowledgeAborts();
  }

  /** Requests were lost, last ones perhaps: what is incomplete stays so. New ones are let in. */
  #recover(cons: number): number {
    this.overflows++;
    this.#open.clear();
    const acknowledged = (cons ^ OVERFLOW) >>> 0;
    this.#parts.registers.writeReg32(PRIQ_CONS.offset, acknowledged);
    return acknowledged;
  }

  #acknowledgeAborts(): void {
    const { registers } = this.#parts;
    const acknowledged = registers.readReg32(GERRORN.offset);
    const active = (registers.readReg32(GERROR.offset) ^ acknowledged) & QUEUE_ABORT;
    if (active !== 0) registers.writeReg32(GERRORN.offset, (acknowledged ^ active) >>> 0);
  }

  #read(cons: number): Request {
    const words = new Uint32Array(WORDS);
    const at = this.#queue + (cons & (2 ** this.#lg2 - 1)) * PAGE_REQUEST_BYTES;
    this.#parts.memory.loadWords(at, words);
    return decodeRequest(words);
  }

  #take(request: Request): void {
    if (isStopMarker(request)) return;
    const pasid = request.SSV === 1 ? request.SSID : -1;
    const { faults, deviceAt, likeLinux73 } = this.#parts;
    const state = deviceAt(request.SID);
    if (!state || likeLinux73) {
      const answer = likeLinux73 ? PRI_RESPONSE.FAILURE : PRI_RESPONSE.INVALID_REQUEST;
      if (request.LAST) faults.answerGroup(request.SID, pasid, request.PRG_INDEX, answer);
      return;
    }
    const open = this.#openGroups(state);
    const group = groupOf(open, pasid, request.PRG_INDEX);
    if (open.held >= MAX_HELD_REQUESTS) group.bad = true;
    else {
      group.faults.push(faultOf(request, pasid));
      open.held++;
    }
    if (request.LAST) this.#close(state, open, pasid, request.PRG_INDEX);
  }

  #openGroups(state: DeviceState): OpenGroups {
    const open = this.#open.get(state) ?? { byKey: new Map(), held: 0 };
    this.#open.set(state, open);
    return open;
  }

  #close(state: DeviceState, open: OpenGroups, pasid: number, prgIndex: number): void {
    const group = groupOf(open, pasid, prgIndex);
    open.byKey.delete(keyOf(pasid, prgIndex));
    open.held -= group.faults.length;
    const { faults } = this.#parts;
    if (!group.bad && faults.report(state, group.faults)) return;
    faults.answerGroup(state.sid, pasid, prgIndex, PRI_RESPONSE.INVALID_REQUEST);
  }
}

const keyOf = (pasid: number, prgIndex: number): string => `${pasid} ${prgIndex}`;

const groupOf = (open: OpenGroups, pasid: number, prgIndex: number): Group => {
  const key = keyOf(pasid, prgIndex);
  const group = open.byKey.get(key) ?? { faults: [], bad: false };
  open.byKey.set(key, group);
  return group;
};

const faultOf = (request: Request, pasid: number): PageFault => ({
  pasid,
  grpid: request.PRG_INDEX,
  perm:
    (request.READ ? PERM.READ : 0) |
    (request.WRITE ? PERM.WRITE : 0) |
    (request.EXEC ? PERM.EXEC : 0) |
    (request.PRIV ? PERM.PRIV : 0),
  addressPfn: addressToPfn(request.ADDR),
  last: request.LAST === 1,
});

/** Tells that a PASID is no longer in use; nobody waits for an answer. */
const isStopMarker = (request: Request): boolean =>
  request.LAST === 1 && request.READ === 0 && request.WRITE === 0 && request.SSV === 1;
