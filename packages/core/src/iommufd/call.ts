/**
 * One call on its way through a context.
 * @module
 */

import type { Errno } from '../errno.ts';
import { type Refusal, refuse } from '../errors.ts';
import { checkAllocation, type Process } from '../memory/index.ts';
import type { IommufdContext } from './context.ts';

/** What a handler knows of the call it serves. */
export class Call {
  readonly context: IommufdContext;
  /** Who calls. */
  readonly process: Process;
  /** `'IOMMU_IOAS_MAP'`, for instance. */
  readonly op: string;
  /** The struct is written back; some calls have nothing to answer. */
  answers = true;
  /** Where in the struct the answer starts, bytes; what stands in front is only read. */
  answersFrom = 0;
  /** The answer is written back although the call failed. */
  answersOnError = false;
  /** Takes the call back when its answer cannot be written. */
  undo: (() => void) | undefined;

  constructor(context: IommufdContext, process: Process, op: string) {
    this.context = context;
    this.process = process;
    this.op = op;
  }

  /** The error of this call. */
  refuse(
    code: Errno | number,
    rule: string,
    message: string,
    details?: Omit<Refusal, 'rule' | 'message'>,
  ) {
    return refuse(code, this.op, rule, message, details);
  }

  /** ENOMEM when there is no memory for something this call makes. */
  checkAllocation(site: string): void {
    checkAllocation(this.process.memory, this.op, site);
  }

  /** EOPNOTSUPP when bits beyond `known` are set. */
  checkFlags(flags: number, known: number): void {
    if ((flags & ~known) === 0) return;
    throw this.refuse(
      'EOPNOTSUPP',
      'unknown-flags',
      `flags 0x${(flags >>> 0).toString(16)} contain bits this kernel does not know`,
      { value: flags, accepted: known === 0 ? '0' : `bits of 0x${known.toString(16)}` },
    );
  }

  /** EOPNOTSUPP when a reserved field is not zero. */
  checkReserved(value: number): void {
    if (value === 0) return;
    throw this.refuse('EOPNOTSUPP', 'reserved-field', `a reserved field is ${value}`, {
      value,
      accepted: '0',
    });
  }
}
