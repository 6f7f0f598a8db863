import { addressToPfn, decode } from '@iommukit/bits';
import type { UnitHost, UnrecoverableFault } from '@iommukit/core';
import { addressHi, addressLo, type HostMemory } from '@iommukit/core';
import { EVENT, EVENT_BYTES, EVENT_DOC, EVENT_RECORD } from '../spec/events.ts';
import {
  EVENTQ_BASE,
  EVENTQ_CONS,
  EVENTQ_IRQ,
  EVENTQ_PROD,
  GERROR,
  GERRORN,
} from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

const WORDS = EVENT_BYTES / 4;
const OVERFLOW = 0x8000_0000;
/** Attributes of message writes: Device-nGnRE. */
const MESSAGE_ATTRIBUTES = 1;
/** Errors acknowledged here; command errors belong to the command queue. */
const EVENT_QUEUE_ABORT = GERROR.fields.EVENTQ_ABT_ERR.mask;

/**
 * Reads the event queue and reports faults, whenever the unit sends its message.
 *
 * @spec SMMUv3 7.2
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_evtq_thread)
 */
export class EventQueueService {
  /** Times the queue was full and events were lost. */
  overflows = 0;
  /**
   * Told of every event, eight u32 words.
   *
   * @returns whether it is a request for a page that somebody will answer, and no fault
   */
  onEvent: (words: Uint32Array) => boolean = () => false;
  readonly #registers: RegisterFile;
  readonly #memory: HostMemory;
  readonly #host: UnitHost;
  #queue: number;
  readonly #lg2: number;
  #servicing = false;

  /** @param entriesLg2 lg2 of the events it holds */
  constructor(registers: RegisterFile, memory: HostMemory, host: UnitHost, entriesLg2: number) {
    this.#registers = registers;
    this.#memory = memory;
    this.#host = host;
    this.#lg2 = entriesLg2;
    const pages = Math.max((EVENT_BYTES * 2 ** entriesLg2) / 4096, 1);
    this.#queue = memory.alloc(pages, 'bring-up', 'the event queue');
  }

  /** Program base, indices and message; the queue is off. */
  program(messageAddress: number): void {
    const registers = this.#registers;
    const lo = (addressLo(this.#queue) | this.#lg2) >>> 0;
    registers.writeReg64(EVENTQ_BASE.offset, lo, addressHi(this.#queue));
    registers.writeReg32(EVENTQ_PROD.offset, 0);
    registers.writeReg32(EVENTQ_CONS.offset, 0);
    const { CFG0, CFG1, CFG2 } = EVENTQ_IRQ;
    registers.writeReg64(CFG0.offset, addressLo(messageAddress), addressHi(messageAddress));
    registers.writeReg32(CFG1.offset, 0);
    registers.writeReg32(CFG2.offset, MESSAGE_ATTRIBUTES);
  }

  /** Where the queue is; a snapshot of memory may bring it elsewhere. */
  get queuePa(): number {
    return this.#queue;
  }
  set queuePa(pa: number) {
    this.#queue = pa;
  }

  /** Report every event, oldest first, and acknowledge an overflow. */
  service(): void {
    if (this.#servicing) return;
    this.#servicing = true;
    try {
      this.#drain();
      this.#acknowledgeAborts();
    } finally {
      this.#servicing = false;
    }
  }

  #drain(): void {
    const registers = this.#registers;
    const mask = 2 ** (this.#lg2 + 1) - 1;
    let cons = registers.readReg32(EVENTQ_CONS.offset);
    for (;;) {
      const prod = registers.readReg32(EVENTQ_PROD.offset);
      if (((prod ^ cons) & OVERFLOW) !== 0) {
        this.overflows++;
        cons = (cons ^ OVERFLOW) >>> 0;
        registers.writeReg32(EVENTQ_CONS.offset, cons);
      }
      if (((prod ^ cons) & mask) === 0) return;
      const words = this.#take(cons);
      cons = ((cons & OVERFLOW) | ((cons + 1) & mask)) >>> 0;
      registers.writeReg32(EVENTQ_CONS.offset, cons);
      if (!this.onEvent(words)) this.#host.reportFault(decodeEvent(words));
    }
  }

  #take(cons: number): Uint32Array {
    const words = new Uint32Array(WORDS);
    this.#memory.loadWords(this.#queue + (cons & (2 ** this.#lg2 - 1)) * EVENT_BYTES, words);
    return words;
  }

  #acknowledgeAborts(): void {
    const registers = this.#registers;
    const acknowledged = registers.readReg32(GERRORN.offset);
    const active = (registers.readReg32(GERROR.offset) ^ acknowledged) & EVENT_QUEUE_ABORT;
    if (active !== 0) registers.writeReg32(GERRORN.offset, (acknowledged ^ active) >>> 0);
  }
}

const NAMES = Object.entries(EVENT) as [keyof typeof EVENT, number][];

/**
 * An event in generic terms.
 *
 * @param words eight u32 words
 */
const decodeEvent = (words: Uint32Array): UnrecoverableFault => {
  const fields = decode(EVENT_RECORD, words);
  const name = NAMES.find(([, code]) => code === fields.CODE)?.[0];
  const hasDirection = fields.CODE >= EVENT.F_WALK_EABT;
  return {
    rid: fields.SID,
    pasid: fields.SSV === 1 || fields.CODE === EVENT.C_BAD_SUBSTREAMID ? fields.SSID : -1,
    addressPfn: addressToPfn(fields.INPUT_ADDR),
    write: hasDirection && fields.RNW === 0,
    reason: fields.CODE,
    name: name ? `${name}: ${EVENT_DOC[name]}` : 'unknown event',
    words: [...words],
    fields,
  };
};
