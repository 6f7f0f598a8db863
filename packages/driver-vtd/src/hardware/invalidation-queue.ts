/**
 * Queued invalidation: fetch, validate, execute, report errors.
 *
 * @spec VT-d 6.5.2 (queued invalidation), 11.4.9
 */
import { type Field, type Layout, maskOf } from '@iommukit/bits';
import { INVALIDATION_ANSWER } from '@iommukit/core';
import {
  CC_INV_DSC,
  DEV_TLB_INV_DSC,
  HPT_INV_DSC,
  IEC_INV_DSC,
  INV_WAIT_DSC,
  IOTLB_INV_DSC,
  P_DEV_TLB_INV_DSC,
  P_IOTLB_INV_DSC,
  PAGE_GRP_RESP_DSC,
  PC_INV_DSC,
  DESCRIPTOR_TYPE as T,
} from '../spec/invalidation-descriptors.ts';
import { FSTS, ICS, IQA, IQEI, IQERCD, IQH, IQT, TTM } from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import type { EventUnit } from './event-unit.ts';
import type { FaultRecorder } from './fault-recording.ts';
import { deviceTlbSource, type InvalidationCommands } from './invalidation-commands.ts';
import { type HardwareMemory, readDwords, writeDword } from './memory.ts';
import { joinAddress } from './page-index.ts';
import type { RegisterFile } from './register-file.ts';

const PAGE = 0xffff_f000 | 0;
const DW = IQA.fields.DW.mask;
const QS = IQA.fields.QS.mask;
const TYPE_EXTENSION = 0xe00;
const ERROR_BITS = FSTS.fields.IQE.mask | FSTS.fields.ITE.mask;

interface DescriptorKind {
  readonly layout: Layout;
  readonly reserved: Int32Array;
  /** Valid only in a 256-bit queue. */
  readonly wideOnly: boolean;
}

/** Fields that are reserved because the unit lacks what they control. */
function absentFields(layout: Layout, features: Features): Field[] {
  if (layout.name === 'INV_WAIT_DSC')
    return features.pageRequestDrain ? [] : [INV_WAIT_DSC.fields.PD];
  if (features.throttle) return [];
  if (layout.name === 'DEV_TLB_INV_DSC')
    return [DEV_TLB_INV_DSC.fields.PFSID_LO, DEV_TLB_INV_DSC.fields.PFSID_HI];
  if (layout.name === 'P_DEV_TLB_INV_DSC')
    return [P_DEV_TLB_INV_DSC.fields.PFSID_LO, P_DEV_TLB_INV_DSC.fields.PFSID_HI];
  return [];
}

function kindOf(layout: Layout, features: Features, wideOnly: boolean): DescriptorKind {
  const reserved = Int32Array.from(layout.reservedMasks);
  for (const field of absentFields(layout, features))
    field.masks.forEach((mask, word) => {
      reserved[word] = (reserved[word] as number) | mask;
    });
  reserved[0] = (reserved[0] as number) & ~TYPE_EXTENSION;
  return { layout, reserved, wideOnly };
}

/** Descriptor types that a unit knows, by type code. */
function kindsFor(features: Features): (DescriptorKind | undefined)[] {
  const kinds: (DescriptorKind | undefined)[] = new Array(16).fill(undefined);
  const know = (type: number, layout: Layout, has: boolean, wideOnly = false) => {
    if (has) kinds[type] = kindOf(layout, features, wideOnly);
  };
  know(T.CC_INV, CC_INV_DSC as unknown as Layout, true);
  know(T.IOTLB_INV, IOTLB_INV_DSC as unknown as Layout, true);
  know(T.DEV_TLB_INV, DEV_TLB_INV_DSC as unknown as Layout, features.deviceTlb);
  know(T.IEC_INV, IEC_INV_DSC as unknown as Layout, features.interruptRemapping);
  know(T.INV_WAIT, INV_WAIT_DSC as unknown as Layout, true);
  know(T.P_IOTLB_INV, P_IOTLB_INV_DSC as unknown as Layout, true, true);
  know(T.PC_INV, PC_INV_DSC as unknown as Layout, true, true);
  know(T.P_DEV_TLB_INV, P_DEV_TLB_INV_DSC as unknown as Layout, features.deviceTlb, true);
  know(T.PAGE_GRP_RESP, PAGE_GRP_RESP_DSC as unknown as Layout, features.pageRequests, true);
  know(T.HPT_INV, HPT_INV_DSC as unknown as Layout, features.hostPermission, true);
  return kinds;
}

const [WAIT_IF, WAIT_SW] = [
  maskOf(INV_WAIT_DSC, 'IF')[0] as number,
  maskOf(INV_WAIT_DSC, 'SW')[0] as number,
];

/** What a descriptor came to. */
const OUTCOME = { DONE: -1, STOP: -2 } as const;

/** The queue. */
export class InvalidationQueue {
  /** Descriptors executed. */
  executed = 0;
  /** Called for each descriptor about to be executed; the words may not be kept. */
  onDescriptor: ((words: Int32Array) => void) | undefined;

  readonly #registers: RegisterFile;
  readonly #memory: HardwareMemory;
  readonly #features: Features;
  readonly #commands: InvalidationCommands;
  readonly #faults: FaultRecorder;
  readonly #completion: EventUnit;
  readonly #kinds: readonly (DescriptorKind | undefined)[];
  readonly #words = new Int32Array(8);
  /** Status address bits [HAW-1:32]; those above are ignored. */
  readonly #statusHighMask: number;
  #running = false;
  /** RID of a device whose invalidation timed out since the last wait; -1 = none. */
  #timedOutSid = -1;

  constructor(
    registers: RegisterFile,
    memory: HardwareMemory,
    features: Features,
    commands: InvalidationCommands,
    faults: FaultRecorder,
    completion: EventUnit,
  ) {
    this.#registers = registers;
    this.#memory = memory;
    this.#features = features;
    this.#commands = commands;
    this.#faults = faults;
    this.#completion = completion;
    this.#kinds = kindsFor(features);
    this.#statusHighMask = 2 ** (features.hawBits - 32) - 1;
  }

  /** A time-out that no wait has met yet; -1 = none. Part of a snapshot. */
  get timedOutSid(): number {
    return this.#timedOutSid;
  }

  set timedOutSid(sid: number) {
    this.#timedOutSid = sid;
  }

  /** Enabled, or disabled: the head starts at 0. */
  reset(): void {
    this.#registers.set(IQH.offset, 0);
    this.#timedOutSid = -1;
  }

  /**
   * Execute until head meets tail or an error stops the queue.
   * @param ttm latched table mode
   */
  run(ttm: number): void {
    if (this.#running) return;
    this.#running = true;
    try {
      while (this.#step(ttm)) this.executed++;
    } finally {
      this.#running = false;
    }
  }

  /** One descriptor; false when there is nothing (more) to do. */
  #step(ttm: number): boolean {
    const registers = this.#registers;
    if ((registers.get(FSTS.offset) & ERROR_BITS) !== 0) return false;
    const wide = (registers.get(IQA.offset) & DW) !== 0;
    const head = registers.get(IQH.offset);
    const tail = registers.get(IQT.offset);
    const bytes = 4096 << (registers.get(IQA.offset) & QS);
    if (tail >= bytes) return this.#error(IQEI.INVALID_TAIL);
    if (wide && (tail & 0x10) !== 0) return this.#error(IQEI.TAIL_NOT_ALIGNED);
    if (head === tail) return this.#settle();
    const size = wide ? 32 : 16;
    const error = this.#execute(head >= bytes ? 0 : head, wide, ttm);
    if (error >= 0) return this.#error(error);
    registers.set(IQH.offset, head + size >= bytes ? 0 : head + size);
    return error === OUTCOME.DONE;
  }

  #execute(head: number, wide: boolean, ttm: number): number {
    const registers = this.#registers;
    const modeError = this.#modeError(wide, ttm);
    if (modeError !== 0) return modeError;
    const words = this.#words.fill(0);
    const base = joinAddress(registers.get(IQA.offset) & PAGE, registers.get(IQA.offset + 4));
    if (!readDwords(this.#memory, base + head, words, wide ? 8 : 4)) return IQEI.FETCH_ERROR;
    const lo = words[0] as number;
    const kind = this.#kinds[lo & 15];
    if (kind === undefined || (lo & TYPE_EXTENSION) !== 0) return IQEI.INVALID_TYPE;
    if (kind.wideOnly && (!wide || ttm === TTM.LEGACY)) return IQEI.INVALID_TYPE;
    for (let i = 0; i < 8; i++)
      if (((words[i] as number) & (kind.reserved[i] as number)) !== 0) return IQEI.RESERVED_FIELD;
    this.onDescriptor?.(words);
    return this.#dispatch(words, ttm);
  }

  #modeError(wide: boolean, ttm: number): number {
    const { scalable, abortDma } = this.#features;
    if (ttm === TTM.RESERVED) return IQEI.INVALID_TTM;
    if (wide && !scalable && !abortDma) return IQEI.INVALID_WIDTH;
    if (!wide && ttm !== TTM.LEGACY) return IQEI.INVALID_WIDTH;
    return 0;
  }

  #dispatch(words: Int32Array, ttm: number): number {
    const type = (words[0] as number) & 15;
    if (type === T.INV_WAIT) return this.#wait(words);
    if (type === T.DEV_TLB_INV || type === T.P_DEV_TLB_INV) {
      this.#deviceTlb(words, type === T.P_DEV_TLB_INV);
      return OUTCOME.DONE;
    }
    return this.#commands.execute(words, type, ttm) ? OUTCOME.DONE : IQEI.RESERVED_FIELD;
  }

  /** A time-out waits for the next wait descriptor; a bad completion is told at once. */
  #deviceTlb(words: Int32Array, withPasid: boolean): void {
    const sid = deviceTlbSource(words, withPasid);
    const answer = this.#commands.deviceTlb(words, withPasid);
    if (answer === INVALIDATION_ANSWER.UNEXPECTED)
      this.#raise(FSTS.fields.ICE.mask, IQERCD.fields.ICESID, sid);
    else if (answer === INVALIDATION_ANSWER.NONE && this.#timedOutSid < 0) this.#timedOutSid = sid;
  }

  #wait(words: Int32Array): number {
    if (this.#timedOutSid >= 0) {
      this.#timeOut();
      return OUTCOME.STOP;
    }
    const lo = words[0] as number;
    if ((lo & WAIT_SW) !== 0) {
      const high = (words[3] as number) & this.#statusHighMask;
      const address = joinAddress((words[2] as number) & ~3, high);
      writeDword(this.#memory, address, words[1] as number);
    }
    if ((lo & WAIT_IF) !== 0) {
      const pending = this.#registers.get(ICS.offset) & ICS.fields.IWC.mask;
      this.#registers.change(ICS.offset, ICS.fields.IWC.mask, 0);
      if (pending === 0) this.#completion.signal();
    }
    return OUTCOME.DONE;
  }

  /** The queue ran empty: a time-out that no wait met is reported now. */
  #settle(): boolean {
    if (this.#timedOutSid >= 0) this.#timeOut();
    return false;
  }

  #timeOut(): void {
    const sid = this.#timedOutSid;
    this.#timedOutSid = -1;
    this.#raise(FSTS.fields.ITE.mask, IQERCD.fields.ITESID, sid);
  }

  /** Set an error bit; the source id is latched by the first error of its kind only. */
  #raise(bit: number, field: Field, sid: number): void {
    const registers = this.#registers;
    if ((registers.get(FSTS.offset) & bit) === 0)
      registers.change(IQERCD.offset + 4, (sid << field.shift) >>> 0, field.masks[1] as number);
    this.#faults.raiseStatus(bit);
  }

  #error(code: number): boolean {
    this.#registers.change(IQERCD.offset, code, IQERCD.fields.IQEI.mask);
    this.#faults.raiseStatus(FSTS.fields.IQE.mask);
    return false;
  }

  /** Software cleared bits of FSTS: the error code goes with IQE, and fetching resumes. */
  statusWritten(): void {
    if ((this.#registers.get(FSTS.offset) & FSTS.fields.IQE.mask) === 0)
      this.#registers.change(IQERCD.offset, 0, IQERCD.fields.IQEI.mask);
  }

  /** Software cleared ICS.IWC. */
  completionWritten(): void {
    if ((this.#registers.get(ICS.offset) & ICS.fields.IWC.mask) === 0)
      this.#completion.statusCleared();
  }
}
