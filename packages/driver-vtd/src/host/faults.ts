import { decode } from '@iommukit/bits';
import type { UnrecoverableFault } from '@iommukit/core';
import { FAULT_CONDITIONS } from '../spec/fault-reasons.ts';
import { FAULT_RECORD } from '../spec/fault-record.ts';
import { FEADDR, FECTL, FEDATA, FEUADDR, FSTS } from '../spec/registers.ts';
import { clearFaultStatus } from './registers.ts';
import type { UnitContext } from './unit-context.ts';

const RECORD_BYTES = 16;
const RECORD_WORDS = 4;
/** Word of a record that holds F, and the write that clears it. */
const F_WORD = FAULT_RECORD.fields.F.word;
const F = FAULT_RECORD.fields.F.mask;

const CONDITIONS = new Map(FAULT_CONDITIONS.map((condition) => [condition.reason, condition]));

/**
 * Reads fault records and reports them, whenever the unit sends its fault message.
 *
 * @spec VT-d 7.2.3
 * @linux drivers/iommu/intel/dmar.c (dmar_fault)
 */
export class FaultService {
  /** Records lost because all were taken (FSTS.PFO). */
  overflows = 0;
  readonly #unit: UnitContext;
  readonly #recordsAt: number;
  readonly #count: number;

  constructor(unit: UnitContext) {
    this.#unit = unit;
    this.#recordsAt = unit.caps.cap.FRO * 16;
    this.#count = unit.caps.cap.NFR + 1;
  }

  /** Throw away what was recorded before this driver took over (bring-up step 2). */
  discard(): void {
    const { registers } = this.#unit;
    for (let index = 0; index < this.#count; index++) {
      registers.write32(this.#wordAt(index, F_WORD), F);
    }
    const { PFO, IQE, ICE, ITE } = FSTS.fields;
    clearFaultStatus(registers, PFO.mask | IQE.mask | ICE.mask | ITE.mask);
  }

  /** Send fault messages to `address` with `data` from now on (bring-up step 7). */
  enable(address: number, data: number): void {
    const { registers } = this.#unit;
    registers.write32(FEDATA.offset, data);
    registers.write32(FEADDR.offset, address);
    registers.write32(FEUADDR.offset, 0);
    registers.write32(FECTL.offset, 0);
  }

  /** Report every pending record, oldest first. */
  service(): void {
    const { registers, host } = this.#unit;
    const status = registers.read32(FSTS.offset);
    if (status & FSTS.fields.PPF.mask) {
      let index = (status & FSTS.fields.FRI.mask) >>> FSTS.fields.FRI.shift;
      for (let seen = 0; seen < this.#count; seen++) {
        const fault = this.#take(index);
        if (!fault) break;
        host.reportFault(fault);
        index = (index + 1) % this.#count;
      }
    }
    if ((registers.read32(FSTS.offset) & FSTS.fields.PFO.mask) === 0) return;
    this.overflows++;
    clearFaultStatus(registers, FSTS.fields.PFO.mask);
  }

  /** Read one record and free its place; undefined when it is empty. */
  #take(index: number): UnrecoverableFault | undefined {
    const { registers } = this.#unit;
    if ((registers.read32(this.#wordAt(index, F_WORD)) & F) === 0) return undefined;
    const words = new Uint32Array(RECORD_WORDS);
    for (let word = 0; word < RECORD_WORDS; word++) {
      words[word] = registers.read32(this.#wordAt(index, word));
    }
    registers.write32(this.#wordAt(index, F_WORD), F);
    return decodeFault(words);
  }

  #wordAt(index: number, word: number): number {
    return this.#recordsAt + index * RECORD_BYTES + word * 4;
  }
}

/**
 * A fault record in generic terms.
 *
 * @param words four u32 words
 */
export const decodeFault = (words: Uint32Array): UnrecoverableFault => {
  const fields = decode(FAULT_RECORD, words);
  const condition = CONDITIONS.get(fields.FR);
  return {
    rid: fields.SID,
    pasid: fields.PP === 1 ? fields.PV : -1,
    addressPfn: fields.FI / 4096,
    write: fields.T1 === 0 && fields.T2 === 0,
    reason: fields.FR,
    name: condition ? `${condition.condition}: ${condition.doc}` : 'unknown fault reason',
    words: [...words],
    fields,
  };
};
