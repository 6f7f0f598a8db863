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

/** Address from the halves of a 64-bit word whose other bits are masked off. @hot */
export const joinAddress = (lo: number, hi: number): number => hi * TWO_32 + (lo >>> 0);
