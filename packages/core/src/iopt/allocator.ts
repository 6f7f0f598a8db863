/**
 * Automatic choice of an IOVA: the address Linux would choose, found in O(log n).
 * @module
 */
import { LOW_MASK, MAX_PFN, PAGE_SIZE } from './address.ts';
import type { AreaTree } from './area-tree.ts';
import { GapSearch } from './gap-search.ts';
import type { AllowedRanges, ReservedRanges } from './reserved.ts';

const EINVAL = -22;
const ENOSPC = -28;
const EOVERFLOW = -75;

/** Largest alignment asked for: a 2 MiB page (HPAGE_SIZE with transparent huge pages). */
const MAX_ALIGNMENT = 2 ** 21;
const MAX_ALIGNMENT_PAGES = MAX_ALIGNMENT / PAGE_SIZE;
const FIRST_PFN = 1;
const LAST_PFN = MAX_PFN - 1;

const roundUpPowerOfTwo = (bytes: number): number => {
  let power = 1;
  while (power < bytes) power *= 2;
  return power;
};

/**
 * The alignment an automatic IOVA gets: that of the memory behind it as far as the length makes
 * use of it, so that large pages stay possible, and at most 2 MiB.
 *
 * @param pages length / 4096, with `low` its remainder
 * @param addrPfn user address (or byte in the file) / 4096, with `addrLow` its remainder
 */
export const alignmentFor = (
  pages: number,
  low: number,
  addrPfn: number,
  addrLow: number,
): number => {
  const byLength =
    pages >= MAX_ALIGNMENT_PAGES ? MAX_ALIGNMENT : roundUpPowerOfTwo(pages * PAGE_SIZE + low);
  if (addrLow !== 0) return Math.min(byLength, addrLow & -addrLow);
  const bits = addrPfn % MAX_ALIGNMENT_PAGES;
  return bits === 0 ? byLength : Math.min(byLength, (bits & -bits) * PAGE_SIZE);
};

/** Chooses IOVAs for one I/O address space. */
export class IovaAllocator {
  /** Result of the last `find` that returned 0. */
  pfn = 0;
  low = 0;
  /** Alignment that the last `find` asked for. */
  alignment = 1;
  private readonly search: GapSearch;

  constructor(areas: AreaTree) {
    this.search = new GapSearch(areas);
  }

  /**
   * Choose the lowest IOVA that fits.
   *
   * @param pages length / 4096, with `low` its remainder
   * @param addrPfn user address (or byte in the file) / 4096, with `addrLow` its remainder
   * @param iovaAlignment what the address space asks of every IOVA
   * @returns 0 (the address is in `pfn`, `low`), -75 (EOVERFLOW), -22 (EINVAL), -28 (ENOSPC)
   * @linux drivers/iommu/iommufd/io_pagetable.c iopt_alloc_iova
   * @hot
   */
  find(
    pages: number,
    low: number,
    addrPfn: number,
    addrLow: number,
    iovaAlignment: number,
    allowed: AllowedRanges,
    reserved: ReservedRanges,
  ): number {
    if (isTooLong(pages, low)) return EOVERFLOW;
    this.alignment = alignmentFor(pages, low, addrPfn, addrLow);
    if (this.alignment < iovaAlignment) return EINVAL;
    this.search.prepare(pages, low, this.alignment, addrLow);
    const { merged } = allowed;
    if (merged.count === 0) {
      return this.inSpan(FIRST_PFN, 0, LAST_PFN, LOW_MASK, reserved) ? 0 : ENOSPC;
    }
    for (let i = merged.indexFrom(FIRST_PFN, 0); i < merged.count; i++) {
      const startPfn = merged.startPfn[i] as number;
      const lastPfn = merged.lastPfn[i] as number;
      const clipStart = startPfn < FIRST_PFN;
      const clipLast = lastPfn > LAST_PFN;
      const found = this.inSpan(
        clipStart ? FIRST_PFN : startPfn,
        clipStart ? 0 : (merged.startLow[i] as number),
        clipLast ? LAST_PFN : lastPfn,
        clipLast ? LOW_MASK : (merged.lastLow[i] as number),
        reserved,
      );
      if (found) return 0;
    }
    return ENOSPC;
  }

  /** Search one allowed span: first its aligned start, then the holes from there on. */
  private inSpan(
    startPfn: number,
    startLow: number,
    lastPfn: number,
    lastLow: number,
    reserved: ReservedRanges,
  ): boolean {
    const { search } = this;
    if (!search.fits(startPfn, startLow, lastPfn, lastLow)) return false;
    let pfn = search.pfn;
    let low = search.low;
    const { merged } = reserved;
    for (let i = merged.indexFrom(pfn, low); i < merged.count; i++) {
      const holeEndPfn = merged.startPfn[i] as number;
      const holeEndLow = merged.startLow[i] as number;
      if (holeEndPfn > lastPfn || (holeEndPfn === lastPfn && holeEndLow > lastLow)) break;
      if (holeEndPfn > pfn || (holeEndPfn === pfn && holeEndLow > low)) {
        const borrow = holeEndLow === 0;
        const toPfn = borrow ? holeEndPfn - 1 : holeEndPfn;
        if (this.inHole(pfn, low, toPfn, borrow ? LOW_MASK : holeEndLow - 1)) return true;
      }
      pfn = merged.lastPfn[i] as number;
      low = (merged.lastLow[i] as number) + 1;
      if (low > LOW_MASK) {
        low = 0;
        pfn++;
      }
    }
    if (pfn > lastPfn || (pfn === lastPfn && low > lastLow)) return false;
    return this.inHole(pfn, low, lastPfn, lastLow);
  }

  private inHole(pfn: number, low: number, lastPfn: number, lastLow: number): boolean {
    if (!this.search.find(pfn, low, lastPfn, lastLow)) return false;
    this.pfn = this.search.pfn;
    this.low = this.search.low;
    return true;
  }
}

/** 0, or at least 2^63 - 1 bytes (`ULONG_MAX / 2`). */
const isTooLong = (pages: number, low: number): boolean =>
  (pages === 0 && low === 0) || pages > 2 ** 51 - 1 || (pages === 2 ** 51 - 1 && low === LOW_MASK);
