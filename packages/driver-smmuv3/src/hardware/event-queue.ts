/**
 * The event queue: records events, overflows, aborts.
 *
 * @spec SMMUv3 7.2, 7.3
 */
import { ATS_REQUEST_RECORD, EVENT, EVENT_CLASS, EVENT_RECORD } from '../spec/events.ts';
import { GLOBAL_ERROR } from '../spec/registers.ts';
import type { Fault } from './faults.ts';
import type { GlobalErrors } from './global-errors.ts';
import { type HardwareMemory, writeDwords } from './memory.ts';
import type { Queue } from './queue.ts';

const OVERFLOW = 0x8000_0000;
const { SSV, SSID, PNU, IND, RNW, S2, CLASS, TTRNW } = EVENT_RECORD.fields;
const { SPAN, PRIV, EXEC, READ, WRITE } = ATS_REQUEST_RECORD.fields;
const PAGE_LO = 0xffff_f000 | 0;

/** The request that faulted, as its record shows it. */
export interface FaultingRequest {
  readonly sid: number;
  /** SubstreamID, or -1. */
  readonly ssid: number;
  /** 4 KiB frame and byte offset of the address as it came in. */
  readonly pfn: number;
  readonly offset: number;
  readonly write: boolean;
  readonly privileged: boolean;
  readonly instruction: boolean;
}

/** Writes records while CR0.EVENTQEN is set. */
export class EventQueue {
  readonly queue: Queue;
  enabled = false;
  readonly #memory: HardwareMemory;
  readonly #errors: GlobalErrors;
  readonly #prod: Uint32Array;
  readonly #cons: Uint32Array;
  readonly #interrupt: () => void;
  readonly #words = new Uint32Array(8);

  constructor(
    memory: HardwareMemory,
    queue: Queue,
    errors: GlobalErrors,
    prod: Uint32Array,
    cons: Uint32Array,
    interrupt: () => void,
  ) {
    this.#memory = memory;
    this.queue = queue;
    this.#errors = errors;
    this.#prod = prod;
    this.#cons = cons;
    this.#interrupt = interrupt;
  }

  /** Record a fault of a request. */
  record(request: FaultingRequest, fault: Fault): void {
    const words = this.#words.fill(0);
    this.describe(request, fault, words);
    this.write(words);
  }

  /** Fill the eight words of a record, which are 0. */
  describe(request: FaultingRequest, fault: Fault, words: Uint32Array): void {
    const { code } = fault;
    words[0] = code | substreamBits(request, code);
    words[1] = request.sid;
    if (code === EVENT.F_STE_FETCH || code === EVENT.F_CD_FETCH) {
      words[6] = fault.address & ~7;
      words[7] = Math.floor(fault.address / 2 ** 32);
    } else if (code === EVENT.F_BAD_ATS_TREQ) {
      translationRequestDwords(words, request);
    } else if (code === EVENT.F_TRANSL_FORBIDDEN) {
      words[3] = request.write ? 0 : RNW.mask;
      inputAddressDwords(words, request);
    } else if (code === EVENT.F_UUT) {
      words[3] = directionOf(request);
      inputAddressDwords(words, request);
    } else if (code >= EVENT.F_WALK_EABT) {
      this.#addressDwords(words, request, fault);
    }
  }

  /** Direction, stage, class and addresses of the walk faults. */
  #addressDwords(words: Uint32Array, request: FaultingRequest, fault: Fault): void {
    const { code, stage2, eventClass } = fault;
    let flags = directionOf(request);
    if (stage2) flags |= S2.mask;
    if (code === EVENT.F_PERMISSION && eventClass === EVENT_CLASS.TT && fault.tableRead) {
      flags |= TTRNW.mask;
    }
    words[3] = flags | (eventClass << CLASS.shift);
    inputAddressDwords(words, request);
    if (code === EVENT.F_WALK_EABT) words[6] = fault.address & ~7;
    else if (stage2) words[6] = fault.address & PAGE_LO;
    if (code === EVENT.F_WALK_EABT || stage2) words[7] = Math.floor(fault.address / 2 ** 32);
  }

  /** Whether a record could be written now. */
  get isWritable(): boolean {
    return this.#isOn && !this.queue.isFull;
  }

  get #isOn(): boolean {
    return this.enabled && !this.#errors.isActive(GLOBAL_ERROR.EVENTQ_ABT_ERR);
  }

  /** Write a record, or lose it. */
  write(words: Uint32Array): void {
    if (!this.#isOn) return;
    if (this.queue.isFull) this.#overflow();
    else this.deliver(words);
  }

  /**
   * Write a record to a queue that {@link isWritable}.
   *
   * @returns false when the write aborted: the record is lost
   */
  deliver(words: Uint32Array): boolean {
    const { queue } = this;
    const wasEmpty = queue.isEmpty;
    if (!writeDwords(this.#memory, queue.producerAddress, words)) {
      this.#errors.raise(GLOBAL_ERROR.EVENTQ_ABT_ERR);
      return false;
    }
    queue.advanceProducer();
    if (wasEmpty) this.#interrupt();
    return true;
  }

  /** Toggle OVFLG unless an overflow is active already. */
  #overflow(): void {
    const prod = this.#prod[0] as number;
    if (((prod ^ (this.#cons[0] as number)) & OVERFLOW) === 0)
      this.#prod[0] = (prod ^ OVERFLOW) >>> 0;
  }
}

/** C_BAD_SUBSTREAMID has a SubstreamID that is always valid, and no SSV. */
const substreamBits = (request: FaultingRequest, code: number): number => {
  if (request.ssid < 0) return 0;
  const value = request.ssid << SSID.shift;
  return code === EVENT.C_BAD_SUBSTREAMID ? value : value | SSV.mask;
};

const directionOf = (request: FaultingRequest): number => {
  let flags = request.write ? 0 : RNW.mask | 0;
  if (request.privileged) flags |= PNU.mask;
  if (request.instruction && !request.write) flags |= IND.mask;
  return flags;
};

const inputAddressDwords = (words: Uint32Array, { pfn, offset }: FaultingRequest): void => {
  words[4] = ((pfn % 2 ** 20) * 4096 + offset) >>> 0;
  words[5] = Math.floor(pfn / 2 ** 20);
};

/** F_BAD_ATS_TREQ: every request asks to read, and for one translation. */
const translationRequestDwords = (words: Uint32Array, request: FaultingRequest): void => {
  let flags = (1 << SPAN.shift) | READ.mask;
  if (request.write) flags |= WRITE.mask;
  if (request.instruction) flags |= EXEC.mask;
  if (request.privileged) flags |= PRIV.mask;
  words[2] = flags;
  words[4] = (request.pfn % 2 ** 20) * 4096;
  words[5] = Math.floor(request.pfn / 2 ** 20);
};
