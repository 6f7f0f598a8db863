/**
 * One VFIO ioctl on a device or group descriptor.
 * @module
 */

import type { Errno } from '../errno.ts';
import { isIommuError, type Refusal, refuse } from '../errors.ts';
import { checkAllocation, type Process } from '../memory/index.ts';
import { type FileOperations, filesOf, installFile, OpenFile } from '../uapi/files.ts';

/** Refusals of one call, and the way from a throw to a negative errno. */
export class VfioCall {
  readonly process: Process;
  readonly op: string;

  constructor(process: Process, op: string) {
    this.process = process;
    this.op = op;
  }

  /** Run `serve`; a refusal becomes its negative errno. */
  run(serve: (call: VfioCall) => number): number {
    try {
      return serve(this);
    } catch (error) {
      if (!isIommuError(error)) throw error;
      filesOf(this.process).lastRefusal = error;
      return -error.errno;
    }
  }

  /** The error of this call. */
  refuse(code: Errno, rule: string, message: string, details?: Omit<Refusal, 'rule' | 'message'>) {
    return refuse(code, this.op, rule, message, details);
  }

  /** ENOMEM when there is no memory for something this call makes. */
  checkAllocation(site: string): void {
    checkAllocation(this.process.memory, this.op, site);
  }

  /** EFAULT. */
  fault() {
    return this.refuse('EFAULT', 'user-memory', 'the argument cannot be accessed');
  }

  /** EINVAL when `argsz` is below the mandatory part. */
  checkSize(argsz: number, min: number): void {
    if (argsz >= min) return;
    throw this.refuse('EINVAL', 'vfio-argsz', `argsz ${argsz} is too small`, {
      value: argsz,
      accepted: `at least ${min}`,
    });
  }

  /** EINVAL for unknown flags. */
  checkFlags(flags: number, known: number): void {
    if ((flags & ~known) === 0) return;
    throw this.refuse('EINVAL', 'vfio-flags', 'unknown flags', {
      value: flags,
      accepted: known === 0 ? '0' : `bits of ${known}`,
    });
  }
}

/**
 * Open a VFIO file.
 *
 * @param make called once nothing can fail any more
 * @returns the descriptor, or -12 (ENOMEM)
 */
export const openVfioFile = (process: Process, op: string, make: () => FileOperations): number =>
  new VfioCall(process, op).run((call) => {
    call.checkAllocation('the state of the descriptor');
    return installFile(process, op, () => new OpenFile(make()));
  });
