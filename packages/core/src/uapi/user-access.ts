/**
 * Copies between a call and the memory it names.
 *
 * @linux lib/usercopy.c, include/linux/uaccess.h
 * @module
 */
import type { Process } from '../memory/index.ts';
import type { UserPointer } from './struct-table.ts';

const CHUNK_BYTES = 4096;

/** The address `offset` bytes behind a pointer; above 2^53 as `bigint`. */
const addressAt = (pointer: number | bigint, offset: number): number | bigint =>
  typeof pointer === 'number' && pointer < 2 ** 52
    ? pointer + offset
    : BigInt(pointer) + BigInt(offset);

/** Whether a pointer is NULL. */
export const isNull = (pointer: UserPointer): boolean => pointer === 0 || pointer === 0n;

/**
 * Copy bytes in.
 *
 * @param offset bytes from `pointer`
 * @returns false = EFAULT
 */
export const copyFromUser = (
  process: Process,
  pointer: UserPointer,
  offset: number,
  target: Uint8Array,
): boolean => {
  if (pointer instanceof Uint8Array) {
    if (offset + target.length > pointer.length) return false;
    target.set(pointer.subarray(offset, offset + target.length));
    return true;
  }
  return process.read(addressAt(pointer, offset), target) === 0;
};

/**
 * Copy bytes out.
 *
 * @param offset bytes from `pointer`
 * @returns false = EFAULT; bytes before the fault are written
 */
export const copyToUser = (
  process: Process,
  pointer: UserPointer,
  offset: number,
  source: Uint8Array,
): boolean => {
  if (pointer instanceof Uint8Array) {
    const room = Math.max(0, pointer.length - offset);
    pointer.set(source.subarray(0, room), offset);
    return source.length <= room;
  }
  return process.write(addressAt(pointer, offset), source) === 0;
};

/**
 * Whether a stretch of user memory is zero.
 *
 * @returns 1 = all zero, 0 = not, -14 (EFAULT)
 */
export const isZeroedUser = (
  process: Process,
  pointer: UserPointer,
  offset: number,
  length: number,
): number => {
  const chunk = new Uint8Array(Math.min(CHUNK_BYTES, length));
  for (let done = 0; done < length; ) {
    const part = chunk.subarray(0, Math.min(CHUNK_BYTES, length - done));
    if (!copyFromUser(process, pointer, offset + done, part)) return -14;
    if (part.some((byte) => byte !== 0)) return 0;
    done += part.length;
  }
  return 1;
};

/**
 * Copy a struct whose caller may know a shorter or longer version of it.
 *
 * @param userSize bytes the caller gave
 * @returns `size` bytes, the missing tail zero; -7 (E2BIG) for a longer one with a nonzero tail;
 * -14 (EFAULT)
 * @linux include/linux/uaccess.h copy_struct_from_user
 */
export const copyStructFromUser = (
  process: Process,
  pointer: UserPointer,
  offset: number,
  userSize: number,
  size: number,
): Uint8Array | number => {
  if (userSize > size) {
    const zeroed = isZeroedUser(process, pointer, offset + size, userSize - size);
    if (zeroed !== 1) return zeroed < 0 ? zeroed : -7;
  }
  const bytes = new Uint8Array(size);
  const copied = bytes.subarray(0, Math.min(userSize, size));
  return copyFromUser(process, pointer, offset, copied) ? bytes : -14;
};
