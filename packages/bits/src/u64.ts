/**
 * 64-bit values as u32 halves, `number` and `bigint`: the only place that converts between them.
 *
 * `BigInt.asUintN`, `BigInt.asIntN` and the 64-bit typed arrays are not used on purpose: optimised
 * code for them aborts the process on Node 20 (V8 11.3). Masks and shifts do the same work.
 * @module
 */

const TWO_32 = 0x1_0000_0000;
const LOW_32 = 0xffff_ffffn;
const LIMIT_64 = 1n << 64n;

/** Bits 31:0 of `x` as an unsigned number; of its two's complement when `x` is negative. */
export function lo32(x: bigint): number {
  return Number(x & LOW_32);
}

/** Bits 63:32 of `x` as an unsigned number; of its two's complement when `x` is negative. */
export function hi32(x: bigint): number {
  return Number((x >> 32n) & LOW_32);
}

/** The 64-bit value with the given u32 halves, each signed or unsigned. */
export function u64(lo: number, hi: number): bigint {
  return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
}

/**
 * The 64-bit value with the given u32 halves, each signed or unsigned, as an exact `number`.
 * @throws {RangeError} when the value is above 2^53
 */
export function toNumber(lo: number, hi: number): number {
  const value = (hi >>> 0) * TWO_32 + (lo >>> 0);
  if (hi >>> 0 > 0x20_0000 || (hi >>> 0 === 0x20_0000 && lo !== 0))
    throw new RangeError(
      `toNumber: ${hex(u64(lo, hi))} is above 2^53 and no exact number; use u64(lo, hi)`,
    );
  return value;
}

/**
 * Bits 31:0 of a non-negative integer that is exact as a number (any up to 2^53, or a page-aligned
 * address up to 2^64). No check.
 * @hot
 */
export function splitLo(x: number): number {
  return x >>> 0;
}

/**
 * Bits 63:32 of a non-negative integer that is exact as a number (any up to 2^53, or a page-aligned
 * address up to 2^64). No check.
 * @hot
 */
export function splitHi(x: number): number {
  return (x / TWO_32) >>> 0;
}

/**
 * Page-frame number of a 64-bit byte address; the offset inside the page is dropped.
 * @param x byte address, 0 to 2^64 - 1 as `bigint`, 0 to 2^53 - 1 as `number`
 * @param pageLg2 lg2 of the page size in bytes, 0 to 63
 * @throws {RangeError} when the address is out of range or not an integer, or the frame number is
 * not exact (possible only below `pageLg2` 11)
 */
export function addressToPfn(x: number | bigint, pageLg2 = 12): number {
  if (!Number.isInteger(pageLg2) || pageLg2 < 0 || pageLg2 > 63)
    throw new RangeError(`addressToPfn: pageLg2 is ${pageLg2}, expected an integer 0 to 63`);
  if (typeof x === 'number') {
    if (!Number.isSafeInteger(x) || x < 0)
      throw new RangeError(
        `addressToPfn: address ${hex(x)} is not an exact integer 0 to 2^53 - 1; pass a bigint above that`,
      );
    return Math.floor(x / 2 ** pageLg2);
  }
  if (x < 0n || x >= LIMIT_64)
    throw new RangeError(`addressToPfn: address ${hex(x)} is not in 0 to 2^64 - 1`);
  const pfn = x >> BigInt(pageLg2);
  return toNumber(lo32(pfn), hi32(pfn));
}

/**
 * Byte address of the first byte of a page frame.
 * @param pfn frame number, 0 to 2^53 - 1
 * @param pageLg2 lg2 of the page size in bytes, 0 to 63
 * @throws {RangeError} when an argument is out of range or the address has more than 64 bits
 */
export function pfnToAddress(pfn: number, pageLg2 = 12): bigint {
  if (!Number.isInteger(pageLg2) || pageLg2 < 0 || pageLg2 > 63)
    throw new RangeError(`pfnToAddress: pageLg2 is ${pageLg2}, expected an integer 0 to 63`);
  if (!Number.isSafeInteger(pfn) || pfn < 0)
    throw new RangeError(`pfnToAddress: frame ${hex(pfn)} is not an integer 0 to 2^53 - 1`);
  const address = BigInt(pfn) << BigInt(pageLg2);
  if (address >= LIMIT_64)
    throw new RangeError(
      `pfnToAddress: frame ${hex(pfn)} of 2^${pageLg2} bytes lies above 2^64 - 1`,
    );
  return address;
}

/** `0x` and lower-case digits; `-0x...` for a negative value; a number that is no integer as it prints. */
export function hex(x: number | bigint): string {
  if (typeof x === 'number' && !Number.isInteger(x)) return String(x);
  return x < 0 ? `-0x${(-x).toString(16)}` : `0x${x.toString(16)}`;
}

/** The non-negative value whose u32 limbs, lowest first, are given. */
export function limbsToBigint(limbs: ArrayLike<number>): bigint {
  let value = 0n;
  for (let i = limbs.length - 1; i >= 0; i--)
    value = (value << 32n) | BigInt((limbs[i] as number) >>> 0);
  return value;
}

/** The lowest `count` u32 limbs of a non-negative value, lowest first. */
export function bigintToLimbs(value: bigint, count: number): Uint32Array {
  const limbs = new Uint32Array(count);
  for (let i = 0, rest = value; i < count; i++, rest >>= 32n) limbs[i] = lo32(rest);
  return limbs;
}
