/**
 * Interrupt remapping: from a device's interrupt request to the message that reaches a processor.
 *
 * @spec VT-d 5.1.4 (operation), 6.4 (interrupt entry cache), 11.4.10 (table address)
 */
import type { Layout } from '@iommukit/bits';
import type { InterruptMessage } from '@iommukit/core';
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { IRTE, IRTE_POSTED } from '../spec/interrupt-entry.ts';
import { GSTS } from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import { type FaultDetails, type FaultRecorder, REQUEST_TYPE } from './fault-recording.ts';
import type { InterruptCache } from './interrupt-cache.ts';
import { INTERRUPT_ANSWER, InterruptJudge } from './interrupt-judge.ts';
import {
  interruptIndex,
  isInterruptAddress,
  passMessage,
  REQUEST_ADDRESS,
} from './interrupt-message.ts';
import { type HardwareMemory, readDwords } from './memory.ts';
import type { RegisterFile } from './register-file.ts';
import type { TraceSink } from './trace.ts';

const { IRES, CFIS } = GSTS.fields;
const E = IRTE.fields;
const ENTRY_WORDS = IRTE.words;
const ENTRY_BYTES = 16;
/** A record's FI is a frame; the index stands in address bits [63:48], its bits [51:36]. */
const INDEX_FRAMES = 2 ** 36;

/** What a sanitizer is told. */
export interface InterruptWatcher {
  /** A cached entry is used. */
  interruptUsed(index: number, words: ArrayLike<number>): void;
  /** The cache took an entry. */
  interruptFilled(index: number, address: number, words: ArrayLike<number>): void;
}

/** Counters. */
class InterruptState {
  requests = 0;
  blocked = 0;
}

/** Latched state of SIRTP. */
export interface InterruptTable {
  /** Byte address. */
  readonly base: number;
  /** Entries; 0 before the first SIRTP. */
  readonly entries: number;
  /** EIME. */
  readonly extended: boolean;
}

const NO_TABLE: InterruptTable = { base: 0, entries: 0, extended: false };

/** Remaps interrupt requests with the latched state of the unit. */
export class InterruptRemapper {
  readonly state = new InterruptState();
  /** As latched by SIRTP. */
  table: InterruptTable = NO_TABLE;
  /** Answer from the cache. */
  readCache = true;
  /** Keep what was read in the cache. */
  fillCache = true;
  watcher: InterruptWatcher | undefined;

  readonly #registers: RegisterFile;
  readonly #memory: HardwareMemory;
  readonly #features: Features;
  readonly #cache: InterruptCache;
  readonly #faults: Pick<FaultRecorder, 'record'>;
  readonly #judge: InterruptJudge;
  readonly #words = new Int32Array(ENTRY_WORDS);
  #trace: TraceSink | undefined;
  readonly #fault: FaultDetails = {
    reason: 0,
    rid: 0,
    pasid: -1,
    pfn: 0,
    type: REQUEST_TYPE.WRITE,
    addressType: 0,
    priv: false,
    exec: false,
  };

  constructor(
    registers: RegisterFile,
    memory: HardwareMemory,
    features: Features,
    cache: InterruptCache,
    faults: Pick<FaultRecorder, 'record'>,
  ) {
    this.#registers = registers;
    this.#memory = memory;
    this.#features = features;
    this.#cache = cache;
    this.#faults = faults;
    this.#judge = new InterruptJudge(memory, features);
  }

  /** Listen to every structure read; undefined = stop. */
  set trace(sink: TraceSink | undefined) {
    this.#trace = sink;
    this.#judge.poster.trace = sink;
  }

  /** Make this a remapper that changes nothing: no posting, no cache fills. */
  dry(readCache: boolean): this {
    this.readCache = readCache;
    this.fillCache = false;
    this.#judge.poster.commit = false;
    return this;
  }

  /** Interrupt requests are looked at: remapping is on, or they are blocked while it is off. */
  get active(): boolean {
    return this.#features.remappingRequired || this.#enabled;
  }

  get #enabled(): boolean {
    return (this.#registers.get(GSTS.offset) & IRES.mask) !== 0;
  }

  /**
   * One interrupt request.
   * @param address byte address, FEEx_xxxxh; bits 1:0 do not matter
   * @param data what is written, u32
   * @param bytes size of the write; an interrupt request has 4
   * @param message filled when something is to be delivered
   * @returns one of {@link INTERRUPT_ANSWER}, or `-reason`
   * @throws {RangeError} for an address outside the interrupt range: that is no interrupt request
   */
  remap(
    rid: number,
    address: number,
    data: number,
    bytes: number,
    message: InterruptMessage,
  ): number {
    if (!isInterruptAddress(address))
      throw new RangeError(
        `interrupt address ${address.toString(16)}h is outside FEE00000h to FEEFFFFFh`,
      );
    this.state.requests++;
    if (bytes !== 4) return this.#blocked(FAULT_REASON.IR_ILLEGAL_REQUEST, rid, 0);
    const refused = this.#modeReason(address);
    if (refused !== 0) return this.#blocked(refused, rid, 0);
    const remappable = (address & REQUEST_ADDRESS.REMAPPABLE) !== 0;
    if (!this.#enabled || !remappable) {
      this.#trace?.rule('compatibility format: the message passes unchanged');
      passMessage(message, address, data);
      return INTERRUPT_ANSWER.DELIVER;
    }
    if ((address & REQUEST_ADDRESS.SHV) !== 0 && data >>> 16 !== 0)
      return this.#blocked(FAULT_REASON.IR_RESERVED_REQUEST, rid, 0);
    const index = interruptIndex(address, data);
    const answer = this.#throughTable(rid, index, message);
    return answer < 0 ? this.#blocked(-answer, rid, index) : answer;
  }

  /** Why no interrupt, or none of this format, gets through. */
  #modeReason(address: number): number {
    const { remappingRequired, extendedInterruptsRequired } = this.#features;
    if (!this.#enabled) return remappingRequired ? FAULT_REASON.IR_REQUIRED : 0;
    const { extended } = this.table;
    if (extendedInterruptsRequired && !extended) return FAULT_REASON.IR_EIME_REQUIRED;
    if ((address & REQUEST_ADDRESS.REMAPPABLE) !== 0) return 0;
    const passes = (this.#registers.get(GSTS.offset) & CFIS.mask) !== 0;
    return extended || !passes ? FAULT_REASON.IR_COMPATIBILITY_BLOCKED : 0;
  }

  #throughTable(rid: number, index: number, message: InterruptMessage): number {
    if (index >= this.table.entries) return -FAULT_REASON.IR_INDEX_BEYOND;
    const cached = this.readCache ? this.#cache.find(index) : undefined;
    if (this.readCache)
      this.#trace?.cache('interrupt entry cache', cached !== undefined, `index ${index}`);
    if (cached !== undefined) {
      this.watcher?.interruptUsed(index, cached);
      return this.#judge.decide(cached, rid, this.table.extended, message);
    }
    const address = this.table.base + index * ENTRY_BYTES;
    if (address + ENTRY_BYTES > 2 ** this.#features.hawBits) return -FAULT_REASON.IR_INDEX_BEYOND;
    if (!this.#read(address)) return -FAULT_REASON.IR_ACCESS;
    const answer = this.#judge.decide(this.#words, rid, this.table.extended, message);
    if (this.fillCache && (answer >= 0 || this.#features.keepsFaults)) this.#keep(index, address);
    return answer;
  }

  #read(address: number): boolean {
    const words = this.#words;
    if (!readDwords(this.#memory, address, words, ENTRY_WORDS)) {
      this.#trace?.busError(IRTE as unknown as Layout, address);
      return false;
    }
    const layout = ((words[0] as number) & E.IM.mask) !== 0 ? IRTE_POSTED : IRTE;
    this.#trace?.read(
      layout as unknown as Layout,
      address,
      Array.from(words),
      'interrupt remapping table entry',
    );
    return true;
  }

  #keep(index: number, address: number): void {
    this.#cache.insert(index, this.#words);
    this.watcher?.interruptFilled(index, address, this.#words);
  }

  #blocked(reason: number, rid: number, index: number): number {
    this.state.blocked++;
    const fault = this.#fault;
    fault.reason = reason;
    fault.rid = rid;
    fault.pfn = (index & 0xffff) * INDEX_FRAMES;
    if (this.#features.interruptRemapping) this.#faults.record(fault, this.#judge.fpd);
    return -reason;
  }

  /** The dwords of an entry as the table has it now; undefined where there is none. */
  entryNow(index: number): number[] | undefined {
    const address = this.table.base + index * ENTRY_BYTES;
    if (index >= this.table.entries || address + ENTRY_BYTES > 2 ** this.#features.hawBits)
      return undefined;
    const words = new Uint32Array(ENTRY_WORDS);
    return readDwords(this.#memory, address, words, ENTRY_WORDS) ? [...words] : undefined;
  }

  /** Interrupts posted. */
  get posted(): number {
    return this.#judge.posted;
  }

  /** Nothing latched. */
  reset(): void {
    this.table = NO_TABLE;
  }
}
