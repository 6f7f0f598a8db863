/**
 * The physical memory a unit reads and writes, as a structural type: `PhysicalMemory` of core, or
 * an emulator's own RAM.
 */

/** A stretch of RAM. */
export interface HardwareRegion {
  /** First byte address, a multiple of 4 KiB. */
  readonly base: number;
  /** Bytes, a multiple of 4 KiB, at most 4 GiB. */
  readonly size: number;
  /** The bytes as dwords: index `(address - base) >>> 2`. May be replaced when memory grows. */
  readonly i32: Int32Array;
}

/** Physical memory. */
export interface HardwareMemory {
  /** The region that answers at a byte address; undefined = external abort. */
  regionAt(pa: number): HardwareRegion | undefined;
}

const TWO_32 = 0x1_0000_0000;

/**
 * Read aligned dwords of one 4 KiB page.
 *
 * @returns false when nothing answers
 * @hot
 */
export const readDwords = (
  memory: HardwareMemory,
  pa: number,
  out: Int32Array | Uint32Array,
  count: number,
): boolean => {
  const region = memory.regionAt(pa);
  if (region === undefined) return false;
  const at = (pa - region.base) >>> 2;
  for (let i = 0; i < count; i++) out[i] = region.i32[at + i] as number;
  return true;
};

/**
 * Write aligned dwords of one 4 KiB page.
 *
 * @returns false when nothing answers
 */
export const writeDwords = (
  memory: HardwareMemory,
  pa: number,
  words: ArrayLike<number>,
): boolean => {
  const region = memory.regionAt(pa);
  if (region === undefined) return false;
  const at = (pa - region.base) >>> 2;
  for (let i = 0; i < words.length; i++) region.i32[at + i] = words[i] as number;
  return true;
};

/** The other byte order of a dword. @hot */
export const swapBytes = (value: number): number =>
  (value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24);

/**
 * Atomically replace the low dword of a translation descriptor, unless the descriptor has changed
 * since it was read: software may write it at any time.
 *
 * The updates of hardware touch the low dword only, which the compare guards; the high one is
 * compared before. A descriptor whose high dword changes in between keeps that change.
 *
 * @param at index of the descriptor's first dword
 * @returns whether it was replaced
 * @spec SMMUv3 3.13 (64-bit single-copy atomic updates)
 */
export const updateDescriptor = (
  i32: Int32Array,
  at: number,
  bigEndian: boolean,
  lo: number,
  hi: number,
  newLo: number,
): boolean => {
  if (bigEndian) {
    if (i32[at] !== swapBytes(hi)) return false;
    const was = swapBytes(lo);
    return Atomics.compareExchange(i32, at + 1, was, swapBytes(newLo)) === was;
  }
  return i32[at + 1] === hi && Atomics.compareExchange(i32, at, lo, newLo) === lo;
};

/** Address from the halves of a 64-bit word whose other bits are masked off. @hot */
export const joinAddress = (lo: number, hi: number): number => hi * TWO_32 + (lo >>> 0);
