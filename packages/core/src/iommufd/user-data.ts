/**
 * Vendor structs in user memory, as drivers copy them in and out.
 *
 * @linux include/linux/iommu.h iommu_copy_struct_from_user and its relatives
 * @module
 */
import type { UserArray, UserBlob } from '../driver/vendor-data.ts';
import type { UserPointer } from '../uapi/struct-table.ts';
import { copyFromUser, copyStructFromUser, copyToUser } from '../uapi/user-access.ts';
import type { Call } from './call.ts';

const hex = (value: number): string => `0x${value.toString(16)}`;

const wrongType = (call: Call, type: number, expected: number) =>
  call.refuse('EINVAL', 'data-type', `vendor data has type ${hex(type)}`, {
    value: type,
    accepted: hex(expected),
  });

const wrongLength = (call: Call, length: number, minLast: number, size: number) =>
  call.refuse('EINVAL', 'data-length', `vendor data has ${length} bytes`, {
    value: length,
    accepted: `${minLast} to ${size} bytes`,
  });

const fault = (call: Call, what: string) =>
  call.refuse('EFAULT', 'user-memory', `${what} cannot be accessed`);

/** One struct. */
export const userBlob = (
  call: Call,
  pointer: UserPointer,
  type: number,
  length: number,
): UserBlob => ({
  type,
  length,
  copyIn: (expected, minLast, size) => {
    if (type !== expected) throw wrongType(call, type, expected);
    if (length < minLast || length > size) throw wrongLength(call, length, minLast, size);
    const bytes = new Uint8Array(size);
    if (!copyFromUser(call.process, pointer, 0, bytes.subarray(0, length))) {
      throw fault(call, 'the vendor data');
    }
    return bytes;
  },
  copyOut: (minLast, bytes) => {
    if (length < minLast) throw wrongLength(call, length, minLast, bytes.length);
    const part = bytes.subarray(0, Math.min(length, bytes.length));
    if (!copyToUser(call.process, pointer, 0, part)) throw fault(call, 'the vendor data');
  },
});

/** Vendor data that keeps what the driver read, so that the call can be made again elsewhere. */
export class RememberedBlob implements UserBlob {
  readonly type: number;
  readonly length: number;
  /** What the driver copied in; undefined = nothing yet. */
  bytes: Uint8Array | undefined;
  readonly #inner: UserBlob;

  constructor(inner: UserBlob) {
    this.type = inner.type;
    this.length = inner.length;
    this.#inner = inner;
  }

  copyIn(type: number, minLast: number, size: number): Uint8Array {
    const bytes = this.#inner.copyIn(type, minLast, size);
    this.bytes = bytes.slice(0, this.length);
    return bytes;
  }

  copyOut(minLast: number, bytes: Uint8Array): void {
    this.#inner.copyOut(minLast, bytes);
  }
}

/** An array of structs. */
export const userArray = (
  call: Call,
  pointer: UserPointer,
  type: number,
  entryLength: number,
  entryCount: number,
): UserArray => ({
  type,
  entryLength,
  entryCount,
  done: 0,
  copyEntry: (index, expected, minLast, size) => {
    if (index >= entryCount || type !== expected) throw wrongType(call, type, expected);
    if (entryLength < minLast || entryLength > size) {
      throw wrongLength(call, entryLength, minLast, size);
    }
    const bytes = new Uint8Array(size);
    const part = bytes.subarray(0, entryLength);
    if (!copyFromUser(call.process, pointer, index * entryLength, part)) {
      throw fault(call, `entry ${index}`);
    }
    return bytes;
  },
  copyAll: (expected, size) => {
    if (type !== expected || entryCount === 0) throw wrongType(call, type, expected);
    call.checkAllocation('the array');
    const all = new Uint8Array(entryCount * size);
    if (entryLength === size) {
      if (!copyFromUser(call.process, pointer, 0, all)) throw fault(call, 'the array');
      return all;
    }
    for (let index = 0; index < entryCount; index++) {
      const offset = index * entryLength;
      const entry = copyStructFromUser(call.process, pointer, offset, entryLength, size);
      if (typeof entry === 'number') {
        throw call.refuse(entry, 'array-entry', `entry ${index} has a longer, nonzero tail`, {
          value: entryLength,
          accepted: `${size} bytes, or zeros behind them`,
        });
      }
      all.set(entry, index * size);
    }
    return all;
  },
});
