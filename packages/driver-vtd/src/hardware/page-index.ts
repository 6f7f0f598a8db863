/**
 * Table indices of a 52-bit frame number (a 64-bit address without its 12 low bits).
 */

const TWO_32 = 0x1_0000_0000;

/**
 * Nine-bit index of a level, 0 = the last table.
 * @hot
 */
export function tableIndex(pfn: number, level: number): number {
  if (level < 3) return ((pfn | 0) >>> (9 * level)) & 511;
  return ((pfn / (level === 3 ? 0x800_0000 : 0x10_0000_0000)) | 0) & 511;
}

/** Byte address from the address bits of an entry's two dwords. @hot */
export function joinAddress(lo: number, hi: number): number {
  return hi * TWO_32 + (lo >>> 0);
}

/** 4 KiB frame from the address bits of an entry's two dwords. @hot */
export function joinFrame(lo: number, hi: number): number {
  return hi * 0x10_0000 + (lo >>> 12);
}

/** Mask of the bits of a high dword at and above an address width, up to `topBit`. */
export function highMaskAbove(widthBits: number, topBit: number): number {
  let mask = 0;
  for (let bit = Math.max(widthBits, 32); bit <= topBit; bit++) mask |= 1 << (bit - 32);
  return mask;
}

/** Low dword of a frame's byte address. @hot */
export function splitPfnLow(pfn: number): number {
  return (pfn * 4096) >>> 0;
}

/** High dword of a frame's byte address. @hot */
export function splitPfnHigh(pfn: number): number {
  return Math.floor(pfn / 0x10_0000) >>> 0;
}
