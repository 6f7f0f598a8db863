/**
 * Naturally aligned power-of-two covers, the only shape an invalidation command can name.
 *
 * @spec AMD IOMMU 2.4.3 (S bit)
 */

const TWO_32 = 2 ** 32;
const PFN_BITS = 52;
const PFN_LOW_BITS = 20;

/** Dwords 2 and 3 of a command without S, PDE and GN, and whether S has to be set. */
export interface CoverWords {
  readonly lo: number;
  readonly hi: number;
  readonly sized: boolean;
}

/** Everything: all address bits but the topmost. */
const EVERYTHING: CoverWords = { lo: 0xffff_f000, hi: 0x7fff_ffff, sized: true };

/** lg2 of the pages in the smallest aligned cover of `[start, last]`, 4 KiB frames. */
export const coverLg2 = (start: number, last: number): number => {
  const startHi = Math.floor(start / TWO_32);
  const lastHi = Math.floor(last / TWO_32);
  if (startHi !== lastHi) return 64 - Math.clz32(startHi ^ lastHi);
  return 32 - Math.clz32((start >>> 0) ^ (last >>> 0));
};

/**
 * Address and size of the smallest aligned cover of `[start, last]`: of 2^n pages the lower n - 1
 * bits of the frame number are ones, and the one above them zero.
 *
 * @param last inclusive
 */
export const coverWords = (start: number, last: number): CoverWords => {
  const lg2 = coverLg2(start, last);
  if (lg2 >= PFN_BITS) return EVERYTHING;
  const pages = 2 ** lg2;
  const base = start - (start % pages);
  const coded = lg2 === 0 ? base : base + pages / 2 - 1;
  return {
    lo: ((coded % 2 ** PFN_LOW_BITS) << 12) >>> 0,
    hi: Math.floor(coded / 2 ** PFN_LOW_BITS),
    sized: lg2 > 0,
  };
};

/** The cover of a whole domain. */
export const wholeDomain = (): CoverWords => EVERYTHING;
