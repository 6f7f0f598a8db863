/**
 * Primary fault logging: fault recording registers, overflow, the fault event.
 *
 * @spec VT-d 7.2 (primary fault logging), 11.4.7.1, 11.4.7.9
 */

import { QUALIFIED } from '../spec/fault-reasons.ts';
import { FAULT_RECORD } from '../spec/fault-record.ts';
import { FSTS } from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import type { EventUnit } from './event-unit.ts';
import { splitPfnHigh, splitPfnLow } from './page-index.ts';
import type { RegisterFile } from './register-file.ts';

/** Kinds of request as T1 and T2 tell them. */
export const REQUEST_TYPE = { WRITE: 0, PAGE_REQUEST: 1, READ: 2, ATOMIC: 3 } as const;

/** Everything a record says; one object is reused. */
export interface FaultDetails {
  reason: number;
  rid: number;
  /** 20 bits, -1 = none. */
  pasid: number;
  /** 4 KiB frame of the address. */
  pfn: number;
  /** One of {@link REQUEST_TYPE}. */
  type: number;
  addressType: number;
  priv: boolean;
  exec: boolean;
}

const PFO = FSTS.fields.PFO.mask;
const PPF = FSTS.fields.PPF.mask;
const FRI = FSTS.fields.FRI;
const ERRORS =
  FSTS.fields.PFO.mask | FSTS.fields.IQE.mask | FSTS.fields.ICE.mask | FSTS.fields.ITE.mask;
const F = FAULT_RECORD.fields;
const RECORD_BYTES = 16;
/** Interrupt fault reasons are 20h to 2Fh: FI holds an index, not an address. */
const isInterruptFault = (reason: number): boolean => reason >>> 4 === 2;

/** Writes fault records and keeps FSTS. */
export class FaultRecorder {
  /** Faults that were recorded. */
  recorded = 0;
  /** Faults that were dropped because the records were full. */
  dropped = 0;
  /** Called for every fault, recorded or not; for tests and tools. */
  onFault: ((details: Readonly<FaultDetails>) => void) | undefined;

  #next = 0;
  readonly #registers: RegisterFile;
  readonly #event: EventUnit;
  readonly #base: number;
  readonly #count: number;
  readonly #addressHighMask: number;
  readonly #deviceTlb: boolean;
  readonly #pasid: boolean;

  /** @param addressBits FI holds this many address bits */
  constructor(registers: RegisterFile, event: EventUnit, features: Features, addressBits: number) {
    this.#registers = registers;
    this.#event = event;
    this.#base = features.frcdOffset;
    this.#count = features.frcdCount;
    this.#deviceTlb = features.deviceTlb;
    this.#pasid = features.pasid;
    this.#addressHighMask =
      addressBits >= 64 ? 0xffff_ffff : 2 ** Math.max(addressBits - 32, 0) - 1;
  }

  /** Index of the record that the next fault takes. */
  get nextIndex(): number {
    return this.#next;
  }

  set nextIndex(index: number) {
    this.#next = index;
  }

  /**
   * A request was blocked (or answered with nothing) for `details.reason`.
   * @param fpd fault processing disabled by an entry on the way
   */
  record(details: Readonly<FaultDetails>, fpd: boolean): void {
    if (fpd && QUALIFIED[details.reason] === 1) return;
    this.onFault?.(details);
    const registers = this.#registers;
    const status = registers.get(FSTS.offset);
    const address = this.#base + this.#next * RECORD_BYTES;
    if ((status & PFO) !== 0) {
      this.dropped++;
      return;
    }
    if ((registers.get(address + 12) & F.F.mask) !== 0) {
      registers.change(FSTS.offset, PFO, 0);
      this.dropped++;
      return;
    }
    this.#write(address, details);
    this.recorded++;
    if ((status & PPF) === 0) {
      registers.change(FSTS.offset, PPF | (this.#next << FRI.shift), FRI.mask);
      if ((status & ERRORS) === 0) this.#event.signal();
    }
    this.#next = (this.#next + 1) % this.#count;
  }

  #write(address: number, details: Readonly<FaultDetails>): void {
    const { rid, pasid, pfn, type, addressType, reason } = details;
    const registers = this.#registers;
    registers.set(address, splitPfnLow(pfn));
    const highMask = isInterruptFault(reason) ? 0xffff_ffff : this.#addressHighMask;
    registers.set(address + 4, splitPfnHigh(pfn) & highMask);
    let word2 = rid;
    let word3 = F.F.mask | reason;
    if ((type & 1) !== 0) word2 |= F.T2.mask;
    if ((type & 2) !== 0) word3 |= F.T1.mask;
    if (pasid >= 0 && this.#pasid) {
      word2 |= F.PP.mask;
      if (details.priv) word2 |= F.PRIV.mask;
      if (details.exec && type === REQUEST_TYPE.READ) word2 |= F.EXE.mask;
      word3 |= pasid << F.PV.shift;
    }
    if (this.#deviceTlb) word3 |= addressType << F.AT.shift;
    registers.set(address + 8, word2);
    registers.set(address + 12, word3);
  }

  /** Software wrote the top dword of a record: PPF follows the F bits. */
  recordWritten(): void {
    for (let i = 0; i < this.#count; i++)
      if ((this.#registers.get(this.#base + i * RECORD_BYTES + 12) & F.F.mask) !== 0) return;
    this.#registers.change(FSTS.offset, 0, PPF | FRI.mask);
    this.statusWritten();
  }

  /** Software cleared status bits: a pending message goes when none is left. */
  statusWritten(): void {
    if ((this.#registers.get(FSTS.offset) & (PPF | ERRORS)) === 0) this.#event.statusCleared();
  }

  /** Raise a queue error bit of FSTS, with its event. */
  raiseStatus(bit: number): void {
    const status = this.#registers.get(FSTS.offset);
    this.#registers.change(FSTS.offset, bit, 0);
    if ((status & (PPF | ERRORS)) === 0) this.#event.signal();
  }
}
