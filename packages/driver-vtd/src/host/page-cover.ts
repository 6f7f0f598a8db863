/**
 * Naturally aligned power-of-two covers, the only shape an invalidation command can name.
 * @module
 */

const TWO_32 = 2 ** 32;
const TWO_20 = 2 ** 20;
/** A cover of 2^52 pages is the whole 64-bit address space. */
export const WHOLE_SPACE_AM = 52;

/**
 * Address mask (AM) of the smallest aligned cover of `[startPfn, lastPfn]`: the cover has `2^AM`
 * pages of 4 KiB.
 *
 * @param lastPfn inclusive, 52 bits, at least `startPfn`
 * @spec VT-d 6.5.2.3 (AM, ADDR)
 * @hot
 */
export const coverAm = (startPfn: number, lastPfn: number): number => {
  const startHi = Math.floor(startPfn / TWO_32);
  const lastHi = Math.floor(lastPfn / TWO_32);
  if (startHi !== lastHi) return 64 - Math.clz32(startHi ^ lastHi);
  return 32 - Math.clz32((startPfn >>> 0) ^ (lastPfn >>> 0));
};

/** First page of the aligned block of `2^am` pages that holds `pfn`. @hot */
export const alignDown = (pfn: number, am: number): number => {
  const pages = 2 ** am;
  return Math.floor(pfn / pages) * pages;
};

/** Bits 31:0 of the byte address of a 4 KiB page. @hot */
export const addressLo = (pfn: number): number => ((pfn % TWO_20) << 12) >>> 0;

/** Bits 63:32 of the byte address of a 4 KiB page. @hot */
export const addressHi = (pfn: number): number => Math.floor(pfn / TWO_20) >>> 0;
