/**
 * Where a mapping goes: the IOVA its caller named, checked, or one chosen for it.
 * @linux drivers/iommu/iommufd/io_pagetable.c iopt_alloc_area_pages
 * @module
 */
import { fromPair, LOW_MASK, lowOf, MAX_PFN, pfnOf, type U64 } from './address.ts';
import { IovaAllocator } from './allocator.ts';
import type { IoPagetable } from './io-pagetable.ts';
import type { PagesSlice } from './mapping.ts';
import * as refusal from './refusals.ts';
import type { ReservedRange } from './reserved.ts';

/** IOVA of the mapping that one address space is making. */
export class Placement {
  /** Page frame and low 12 bits. */
  pfn = 0;
  low = 0;
  private readonly iopt: IoPagetable;
  private readonly allocator: IovaAllocator;

  constructor(iopt: IoPagetable) {
    this.iopt = iopt;
    this.allocator = new IovaAllocator(iopt.areas.tree);
  }

  /** The IOVA, bytes. */
  get iova(): U64 {
    return fromPair(this.pfn, this.low);
  }

  /** Take the caller's IOVA; absent = one is chosen later. */
  set(iova: U64 | undefined): void {
    this.pfn = iova === undefined ? 0 : pfnOf(iova);
    this.low = iova === undefined ? 0 : lowOf(iova);
  }

  /**
   * Check that `pages * 4096 + low` bytes may be mapped at the IOVA that was set.
   *
   * @throws {IommuError} EINVAL, EOVERFLOW, EEXIST
   * @linux drivers/iommu/iommufd/io_pagetable.c iopt_check_iova
   */
  check(op: string, pages: number, low: number): void {
    const { iova } = this;
    const { areas, iovaAlignment, reserved } = this.iopt;
    if (this.low & (iovaAlignment - 1)) {
      throw refusal.misaligned(op, 'iova', iova, iovaAlignment);
    }
    const end = this.low + low - 1;
    const lastPfn = this.pfn + pages + (end >> 12);
    const lastLow = end & LOW_MASK;
    if (lastPfn > MAX_PFN) throw refusal.wraps(op, 'iova', iova, fromPair(pages, low));
    if (reserved.touches(this.pfn, this.low, lastPfn, lastLow)) {
      const range = { start: iova, last: fromPair(lastPfn, lastLow) };
      throw refusal.inReserved(op, range, reserved.conflict(range) as ReservedRange);
    }
    if (areas.tree.seekOverlap(this.pfn, this.low, lastPfn, lastLow)) {
      const range = { start: iova, last: fromPair(lastPfn, lastLow) };
      throw refusal.alreadyMapped(op, range, { start: areas.start, last: areas.last });
    }
  }

  /**
   * Choose the IOVA of `n * 4096 + low` bytes that begin with a slice.
   *
   * @throws {IommuError} EOVERFLOW, EINVAL, ENOSPC
   */
  choose(op: string, { pages, startIndex, pageOffset }: PagesSlice, n: number, low: number): void {
    const { allocator } = this;
    const { allowed, reserved, iovaAlignment } = this.iopt;
    const addrPfn = pages.basePage + startIndex;
    const rc = allocator.find(n, low, addrPfn, pageOffset, iovaAlignment, allowed, reserved);
    if (rc < 0) {
      throw refusal.noIova(op, rc, fromPair(n, low), allocator.alignment, iovaAlignment);
    }
    this.pfn = allocator.pfn;
    this.low = allocator.low;
  }
}
