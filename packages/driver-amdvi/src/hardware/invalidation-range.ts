/**
 * The address and size coding of invalidation commands.
 *
 * @spec AMD IOMMU 2.4.3 (S bit)
 */

/** A naturally aligned range. */
export interface InvalidationRange {
  /** First 4 KiB frame. */
  readonly firstPfn: number;
  /** lg2 of bytes, 12 to 64. */
  readonly sizeLg2: number;
}

const LOW_PFN_BITS = 20;
const HIGH_PFN_BITS = 32;

/**
 * Decode dwords 2 and 3 of a command. With S the ones from bit 12 up, and the zero behind them,
 * are the size and no part of the address.
 *
 * @returns undefined for the undefined coding with all address bits set
 */
export const decodeRange = (lo: number, hi: number): InvalidationRange | undefined => {
  const pfnLo = lo >>> 12;
  const pfn = (hi >>> 0) * 2 ** LOW_PFN_BITS + pfnLo;
  if ((lo & 1) === 0) return { firstPfn: pfn, sizeLg2: 12 };
  const lowOnes = trailingOnes(pfnLo);
  const ones = lowOnes < LOW_PFN_BITS ? lowOnes : LOW_PFN_BITS + trailingOnes(hi);
  if (ones === LOW_PFN_BITS + HIGH_PFN_BITS) return undefined;
  const pages = 2 ** (ones + 1);
  return { firstPfn: pfn - (pfn % pages), sizeLg2: 12 + ones + 1 };
};

const trailingOnes = (word: number): number => {
  const inverse = ~word;
  return inverse === 0 ? 32 : 31 - Math.clz32(inverse & -inverse);
};
