/**
 * One VFIO call: who calls, under which name, and the ways it reads and writes user memory.
 * @module
 */
import {
  copyFromUser,
  copyToUser,
  type Errno,
  type IommuError,
  isIommuError,
  type Process,
  type Refusal,
  refuse,
  type UserPointer,
} from '@iommukit/core';
import { decode, type Fields, type ValuesOf, type VfioStruct } from './uapi/struct.ts';

/** What the functions behind the ioctls know of the call they serve. */
export class VfioCall {
  readonly process: Process;
  /** `'VFIO_IOMMU_MAP_DMA'`, for instance. */
  readonly op: string;

  constructor(process: Process, op: string) {
    this.process = process;
    this.op = op;
  }

  /** The error of this call. */
  refuse(
    code: Errno,
    rule: string,
    message: string,
    details?: Omit<Refusal, 'rule' | 'message'>,
  ): IommuError {
    return refuse(code, this.op, rule, message, details);
  }

  /**
   * Bytes of the caller's memory.
   *
   * @throws {IommuError} EFAULT
   */
  copyIn(pointer: UserPointer, offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    if (copyFromUser(this.process, pointer, offset, bytes)) return bytes;
    throw this.refuse('EFAULT', 'user-memory', `${length} bytes of the argument are not readable`, {
      value: addressOf(pointer),
      accepted: 'mapped, readable memory',
    });
  }

  /**
   * Write to the caller's memory.
   *
   * @throws {IommuError} EFAULT; bytes before the fault are written
   */
  copyOut(pointer: UserPointer, offset: number, bytes: Uint8Array): void {
    if (copyToUser(this.process, pointer, offset, bytes)) return;
    throw this.refuse('EFAULT', 'user-memory', `${bytes.length} bytes are not writable`, {
      value: addressOf(pointer),
      accepted: 'mapped, writable memory',
    });
  }

  /**
   * The mandatory part of the struct at `pointer`.
   *
   * @throws {IommuError} EFAULT; EINVAL when its `argsz` says less than the mandatory part
   */
  readStruct<F extends Fields>(spec: VfioStruct<F>, pointer: UserPointer): ValuesOf<F> {
    const values = decode(spec, this.copyIn(pointer, 0, spec.min));
    const { argsz } = values as { readonly argsz?: number };
    if (argsz !== undefined) this.checkArgsz(argsz, spec.min);
    return values;
  }

  /** @throws {IommuError} EINVAL when `argsz` is below `min` bytes */
  checkArgsz(argsz: number, min: number): void {
    if (argsz >= min) return;
    throw this.refuse('EINVAL', 'argsz', `argsz ${argsz} is too small`, {
      value: argsz,
      accepted: `${min} bytes or more`,
    });
  }

  /** @throws {IommuError} EINVAL when `flags` has bits outside `known` */
  checkFlags(flags: number, known: number): void {
    if ((flags & ~known) === 0) return;
    throw this.refuse('EINVAL', 'flags', `unknown flags in ${hex(flags)}`, {
      value: flags,
      accepted: `bits of ${hex(known)}`,
    });
  }
}

/** `0x1000`. */
export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** `0x1000..0x1fff`. */
export const rangeText = (start: number | bigint, last: number | bigint): string =>
  `${hex(start)}..${hex(last)}`;

const addressOf = (pointer: UserPointer): number | bigint =>
  pointer instanceof Uint8Array ? 0 : pointer;

const U64_LIMIT = 1n << 64n;

/**
 * A 64-bit argument of a typed call.
 *
 * @throws {RangeError} when it is no exact integer of 64 bits
 */
export const toU64 = (name: string, value: number | bigint): bigint => {
  const exact = typeof value === 'bigint' || Number.isSafeInteger(value);
  if (exact && value >= 0 && value < U64_LIMIT) return BigInt(value);
  throw new RangeError(
    `${name} is ${value}: expected an integer of 64 bits, as bigint from 2^53 on`,
  );
};

/** What a raw call answered: 0 or more, or a negative errno with the refusal behind it. */
export interface RawResult {
  readonly result: number;
  readonly refusal: IommuError | undefined;
}

/** Run a call and turn its refusal into a negative errno. */
export const toRawResult = (serve: () => number): RawResult => {
  try {
    return { result: serve(), refusal: undefined };
  } catch (error) {
    if (!isIommuError(error)) throw error;
    return { result: -error.errno, refusal: error };
  }
};
