/**
 * Invalidation of the software IOTLB, at every granularity the three architectures command.
 *
 * Exact: what a command must reach goes, nothing else does, so that a driver which sends too
 * little is seen.
 *
 * @spec VT-d 6.5.2; SMMUv3 4.4; AMD IOMMU 2.4.3
 */
import {
  ALL_KINDS,
  ANY_TAG,
  COLOURS_LG2,
  EINVAL,
  F64_PER_ENTRY_LG2,
  FIRST_STAGE_KINDS,
  I32_PER_ENTRY_LG2,
  KIND,
  LAST,
  LAST_FRAME,
  SIZE_LG2,
  TAG_A,
  TAG_B,
} from './layout.ts';
import { IotlbStore, isSizeLg2, mixPage } from './store.ts';

/** An {@link IotlbStore} that can be invalidated. */
export class InvalidatableIotlb extends IotlbStore {
  /** Bits of `tagA` that invalidations compare (SMMU_CR0.VMW clears low ones). */
  tagAMask = -1;

  /** Drops every entry. @returns number of entries dropped */
  invalidateAll(): number {
    return this.#sweep(ALL_KINDS, ANY_TAG, ANY_TAG, 0, LAST_FRAME);
  }

  /**
   * Drops the entries of a tag, whatever their address: a domain or VMID (`tagB`
   * {@link ANY_TAG}), or a PASID or ASID in it.
   *
   * @returns number of entries dropped
   */
  invalidateTag(tagA: number, tagB: number = ANY_TAG, kinds: number = ALL_KINDS): number {
    return this.#sweep(kinds, tagA, tagB, 0, LAST_FRAME);
  }

  /**
   * Drops the entries of a tag that overlap a naturally aligned range.
   *
   * @param iovaPfn any 4 KiB frame of the range; low bits are ignored, as commands do
   * @param sizeLg2 size of the range in bytes, lg2, 12 to 64
   * @returns number of entries dropped, or -22 (EINVAL)
   */
  invalidateRange(
    tagA: number,
    tagB: number,
    iovaPfn: number,
    sizeLg2: number,
    kinds: number = ALL_KINDS,
  ): number {
    if (!isSizeLg2(sizeLg2)) return EINVAL;
    const count = this.frames[sizeLg2] as number;
    const first = Math.floor(iovaPfn * (this.pages[sizeLg2] as number)) * count;
    const last = Math.min(first + count - 1, LAST_FRAME);
    return this.#invalidateSpan(kinds, tagA, tagB, first, last);
  }

  /**
   * Drops the entries of a tag that overlap `countPages` 4 KiB frames, aligned or not (SMMU
   * range commands).
   *
   * @returns number of entries dropped, or -22 (EINVAL) when `countPages` is not at least 1
   */
  invalidatePages(
    tagA: number,
    tagB: number,
    iovaPfn: number,
    countPages: number,
    kinds: number = ALL_KINDS,
  ): number {
    if (!(countPages >= 1)) return EINVAL;
    const last = Math.min(iovaPfn + countPages - 1, LAST_FRAME);
    return this.#invalidateSpan(kinds, tagA, tagB, iovaPfn, last);
  }

  /**
   * Drops what a second-stage page invalidation reaches: entries keyed by second-stage input
   * that overlap the range, and all first-stage and nested entries of the domain, because
   * their address says nothing about the second stage below them.
   *
   * @returns number of entries dropped, or -22 (EINVAL)
   * @spec VT-d 6.5.2.3; AMD IOMMU 2.4.3 with GN=0
   */
  invalidateRangeAndNested(tagA: number, iovaPfn: number, sizeLg2: number): number {
    const inRange = this.invalidateRange(
      tagA,
      ANY_TAG,
      iovaPfn,
      sizeLg2,
      ALL_KINDS & ~FIRST_STAGE_KINDS,
    );
    return inRange < 0 ? inRange : inRange + this.invalidateTag(tagA, ANY_TAG, FIRST_STAGE_KINDS);
  }

  /** Looks only where pages of the span can be, unless looking everywhere is cheaper. */
  #invalidateSpan(kinds: number, tagA: number, tagB: number, first: number, last: number): number {
    let candidates = 0;
    for (let at = 0; at < this.liveSizeCount; at++) {
      candidates += this.#pagesIn(this.liveSizes[at] as number, first, last);
    }
    if (candidates * (this.ways << COLOURS_LG2) >= this.capacity) {
      return this.#sweep(kinds, tagA, tagB, first, last);
    }
    let dropped = 0;
    // Backwards: dropping the last entry of a size removes it from the list.
    for (let at = this.liveSizeCount - 1; at >= 0; at--) {
      const sizeLg2 = this.liveSizes[at] as number;
      const page = Math.floor(first * (this.pages[sizeLg2] as number));
      const end = page + this.#pagesIn(sizeLg2, first, last);
      for (let p = page; p < end; p++) {
        dropped += this.#invalidatePage(p, sizeLg2, kinds, tagA, tagB);
      }
    }
    this.invalidated += dropped;
    return dropped;
  }

  #pagesIn(sizeLg2: number, first: number, last: number): number {
    const pages = this.pages[sizeLg2] as number;
    return Math.floor(last * pages) - Math.floor(first * pages) + 1;
  }

  /** Drops one page in all sets where keys can have put it. */
  #invalidatePage(
    page: number,
    sizeLg2: number,
    kinds: number,
    tagA: number,
    tagB: number,
  ): number {
    const group = (mixPage(page, sizeLg2) >>> this.setShift) & -(1 << COLOURS_LG2);
    const end = (group + (1 << COLOURS_LG2)) * this.ways;
    const start = page * (this.frames[sizeLg2] as number);
    const { starts } = this;
    let dropped = 0;
    for (let slot = group * this.ways; slot < end; slot++) {
      if (
        starts[slot] === start &&
        this.i32[(slot << I32_PER_ENTRY_LG2) + SIZE_LG2] === sizeLg2 &&
        this.#hasTags(slot, kinds, tagA, tagB)
      ) {
        this.drop(slot);
        dropped++;
      }
    }
    return dropped;
  }

  #sweep(kinds: number, tagA: number, tagB: number, first: number, last: number): number {
    if (this.size === 0) return 0;
    const { starts, capacity } = this;
    let dropped = 0;
    for (let slot = 0; slot < capacity; slot++) {
      if (
        (starts[slot] as number) <= last &&
        (this.f64[(slot << F64_PER_ENTRY_LG2) + LAST] as number) >= first &&
        this.#hasTags(slot, kinds, tagA, tagB)
      ) {
        this.drop(slot);
        dropped++;
      }
    }
    this.invalidated += dropped;
    return dropped;
  }

  #hasTags(slot: number, kinds: number, tagA: number, tagB: number): boolean {
    const word = slot << I32_PER_ENTRY_LG2;
    return (
      ((this.i32[word + KIND] as number) & kinds) !== 0 &&
      (tagA === ANY_TAG || (((this.i32[word + TAG_A] as number) ^ tagA) & this.tagAMask) === 0) &&
      (tagB === ANY_TAG || this.i32[word + TAG_B] === tagB)
    );
  }
}
