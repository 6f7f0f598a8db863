/**
 * 64-bit byte addresses and lengths as a pair of exact numbers: page-frame number (52 bits, 4 KiB
 * pages) and the low 12 bits. No bigint where it matters, and every one of the 64 bits kept.
 * @module
 */
import { hex } from '@iommukit/bits';
import { refuse } from '../errors.ts';

/** Bytes of a page. */
export const PAGE_SIZE = 4096;
/** Bits 11:0. */
export const LOW_MASK = 0xfff;
/** Largest frame number of a 64-bit address. */
export const MAX_PFN = 2 ** 52 - 1;
/** `ULONG_MAX`. */
export const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** A 64-bit unsigned value: `number` when it is exact as one, `bigint` otherwise. */
export type U64 = number | bigint;

/** Bits 63:12 of a 64-bit value. @hot */
export const pfnOf = (x: U64): number =>
  typeof x === 'number' ? Math.floor(x / PAGE_SIZE) : Number(x / 4096n);

/** Bits 11:0 of a 64-bit value. @hot */
export const lowOf = (x: U64): number =>
  typeof x === 'number' ? x % PAGE_SIZE : Number(x % 4096n);

/** The value of a pair, as `number` below 2^53. @hot */
export const fromPair = (pfn: number, low: number): U64 =>
  pfn < 2 ** 41 ? pfn * PAGE_SIZE + low : BigInt(pfn) * 4096n + BigInt(low);

/** Whether a value is `ULONG_MAX` (iommufd's ioctls answer EOVERFLOW to it). */
export const isU64Max = (x: U64): boolean => x === U64_MAX;

/**
 * Refuse what is no 64-bit unsigned integer.
 *
 * @throws {IommuError} EINVAL
 * @hot
 */
export const checkU64 = (op: string, what: string, x: U64): void => {
  if (typeof x === 'number' ? Number.isSafeInteger(x) && x >= 0 : x >= 0n && x <= U64_MAX) return;
  throw refuse('EINVAL', op, 'u64', `${what} ${hex(x)} is no exact unsigned 64-bit integer`, {
    value: x,
    accepted: 'an integer 0 to 2^53 - 1 as number, or 0 to 2^64 - 1 as bigint',
  });
};

/** A range in words: `0x1000..0x1fff`. */
export const rangeText = (start: U64, last: U64): string => `${hex(start)}..${hex(last)}`;
