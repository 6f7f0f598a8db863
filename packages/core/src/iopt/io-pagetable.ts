/**
 * The I/O page table behind an IOAS: areas of IOVA, the pages they map, the domains they are put
 * into and the accesses that use them.
 * @linux drivers/iommu/iommufd/io_pagetable.c
 * @module
 */
import { ACCOUNT, type PinnableFile } from '../memory/index.ts';
import type { IoptAccess } from './access.ts';
import { checkU64, fromPair, LOW_MASK, lowOf, MAX_PFN, pfnOf, type U64 } from './address.ts';
import { AreaFiller, type DomainEntry } from './area-filler.ts';
import { Areas } from './areas.ts';
import { forEachContiguous, iovaSpan } from './contiguous.ts';
import { announceMap, type IoptDependent } from './dependents.ts';
import {
  IOPT_PROT,
  type MapFileOptions,
  type MapOptions,
  type MapUserOptions,
  type PagesSlice,
} from './mapping.ts';
import { IoptPages } from './pages.ts';
import type { PinContext } from './pins.ts';
import { Placement } from './placement.ts';
import * as refusal from './refusals.ts';
import { AllowedRanges, type IovaRange, type ReservedRange, ReservedRanges } from './reserved.ts';
import { unmapRange } from './unmap.ts';

/** One I/O address space. Addresses are bytes, 64 bits; `number` below 2^53, else `bigint`. */
export class IoPagetable {
  readonly context: PinContext;
  readonly areas = new Areas();
  readonly reserved = new ReservedRanges();
  allowed = new AllowedRanges();
  /** What every IOVA, length and byte offset must be a multiple of; 1 to 4096. */
  iovaAlignment = 1;
  /** `IOMMU_OPTION_HUGE_PAGES`. */
  largePages = true;
  /** Domains filled with every area, in the order they came. */
  readonly domains: DomainEntry[] = [];
  readonly accesses: IoptAccess[] = [];
  /** Tables derived from this one; told of every change. Linux has none. */
  readonly dependents: IoptDependent[] = [];
  /** Bytes that the last unmap removed, also when it failed in the end. */
  lastUnmappedBytes: U64 = 0;
  readonly filler: AreaFiller;
  /** Where the mapping being made goes. */
  private readonly placement: Placement;

  constructor(context: PinContext) {
    this.context = context;
    this.placement = new Placement(this);
    this.filler = new AreaFiller(this);
  }

  /**
   * Map user memory.
   *
   * @returns the IOVA
   * @throws {IommuError} EOVERFLOW, EINVAL, EEXIST, ENOSPC; with a domain EFAULT, ENOMEM or what
   * the driver says. Nothing has changed then.
   */
  mapUser(options: MapUserOptions): U64 {
    const op = options.op ?? 'IOMMU_IOAS_MAP';
    return this.announced(op, this.mapNew(op, options, options.userVa, 'user_va'), options.length);
  }

  /**
   * Map a file in memory; its offset takes the place of the user address.
   *
   * @returns the IOVA
   * @throws {IommuError} as {@link mapUser}; with a domain also EINVAL past the end of file
   */
  mapFile(options: MapFileOptions): U64 {
    const op = options.op ?? 'IOMMU_IOAS_MAP_FILE';
    const iova = this.mapNew(op, options, options.start, 'start', options.file);
    return this.announced(op, iova, options.length);
  }

  /**
   * Map what `[iova, iova + length)` of another (or this) address space maps.
   *
   * @param slices from {@link getPages}; given back whatever happens
   * @returns the IOVA
   * @throws {IommuError} as {@link mapUser}; EPERM to write pages mapped read-only
   */
  mapPages(
    slices: readonly PagesSlice[],
    length: U64,
    prot: number,
    iova?: U64,
    op = 'IOMMU_IOAS_COPY',
  ): U64 {
    try {
      if (iova !== undefined) checkU64(op, 'dst_iova', iova);
      this.placement.set(iova);
      this.mapSlices(op, slices, pfnOf(length), lowOf(length), iova !== undefined, prot);
      for (const { pages } of slices) pages.references++;
      return this.announced(op, this.placement.iova, length);
    } finally {
      for (const { pages } of slices) pages.put();
    }
  }

  /**
   * The pages behind a range, for copies. May start and end inside areas; must have no gap.
   *
   * @returns one slice per area, each holding its pages until given to {@link mapPages}
   * @throws {IommuError} EINVAL (length 0), EOVERFLOW, ENOENT
   */
  getPages(iova: U64, length: U64, op = 'IOMMU_IOAS_COPY'): PagesSlice[] {
    const { startPfn, startLow, lastPfn, lastLow } = iovaSpan(op, 'src_iova', iova, length);
    const slices: PagesSlice[] = [];
    try {
      forEachContiguous(this, op, startPfn, startLow, lastPfn, lastLow, (pfn, low, ePfn, eLow) => {
        if (this.context.shouldFail('pages-list')) throw refusal.outOfMemory(op, 'a copy');
        const { areas } = this;
        const pages = areas.pages(areas.tree.id);
        const bytes = eLow - low + 1;
        slices.push({
          pages,
          startIndex: areas.indexAt(pfn, low),
          pageOffset: areas.offsetAt(low),
          lengthPages: ePfn - pfn + (bytes >> 12),
          lengthLow: bytes & LOW_MASK,
        });
        pages.references++;
      });
    } catch (error) {
      for (const { pages } of slices) pages.put();
      throw error;
    }
    return slices;
  }

  /**
   * Unmap whole areas inside a range.
   *
   * @returns bytes unmapped
   * @throws {IommuError} EINVAL (length 0), EOVERFLOW; ENOENT for a straddling area or none at all,
   * EBUSY for a locked one, EDEADLOCK when an access does not let go. Areas below the one in
   * question are gone then, as in Linux; their bytes are in `lastUnmappedBytes`.
   */
  unmap(iova: U64, length: U64, op = 'IOMMU_IOAS_UNMAP'): U64 {
    this.lastUnmappedBytes = 0;
    const { startPfn, startLow, lastPfn, lastLow } = iovaSpan(op, 'iova', iova, length);
    unmapRange(this, op, startPfn, startLow, lastPfn, lastLow);
    return this.lastUnmappedBytes;
  }

  /**
   * Unmap everything.
   *
   * @returns bytes unmapped, 0 when there was nothing
   * @throws {IommuError} EBUSY, EDEADLOCK as {@link unmap}
   */
  unmapAll(op = 'IOMMU_IOAS_UNMAP'): U64 {
    this.lastUnmappedBytes = 0;
    if (this.areas.count > 0) unmapRange(this, op, 0, 0, MAX_PFN, LOW_MASK);
    return this.lastUnmappedBytes;
  }

  /**
   * Replace the list of ranges that automatic choice may use; an empty one allows everything.
   * Mappings are not looked at.
   *
   * @throws {IommuError} EADDRINUSE when one touches a reserved range (the old list stays)
   */
  setAllowed(allowed: AllowedRanges, op = 'IOMMU_IOAS_ALLOW_IOVAS'): void {
    for (const range of allowed.all) {
      const conflict = this.reserved.conflict(range);
      if (conflict) throw refusal.inUse(op, range, 'the allowed range', conflict, conflict.label);
    }
    this.allowed = allowed;
  }

  /**
   * Keep a range free of mappings. It may overlap other reserved ranges.
   *
   * @throws {IommuError} EADDRINUSE when a mapping or an allowed range is there
   */
  reserve(range: ReservedRange, op = 'reserve IOVA'): void {
    const { areas } = this;
    const { start, last } = range;
    if (areas.tree.seekOverlap(pfnOf(start), lowOf(start), pfnOf(last), lowOf(last))) {
      const area = { start: areas.start, last: areas.last };
      throw refusal.inUse(op, range, range.label, area, 'the mapping');
    }
    const allowed = this.allowed.conflict(range);
    if (allowed) throw refusal.inUse(op, range, range.label, allowed, 'the allowed range');
    if (this.context.shouldFail('reserved')) throw refusal.outOfMemory(op, 'a reserved range');
    this.reserved.add(range);
  }

  /** What is not reserved (`IOMMU_IOAS_IOVA_RANGES`); mappings and the allowed list do not count. */
  iovaRanges(): IovaRange[] {
    return this.reserved.holes();
  }

  private announced(op: string, iova: U64, length: U64): U64 {
    if (this.dependents.length > 0) announceMap(this, op, iova, length);
    return iova;
  }

  private mapNew(
    op: string,
    options: MapOptions,
    address: U64,
    what: string,
    file?: PinnableFile,
  ): U64 {
    const { process, length, prot, iova } = options;
    checkU64(op, what, address);
    checkU64(op, 'length', length);
    if (iova !== undefined) checkU64(op, 'iova', iova);
    const lengthPages = pfnOf(length);
    const lengthLow = lowOf(length);
    const basePage = pfnOf(address);
    const pageOffset = lowOf(address);
    const end = pageOffset + lengthLow;
    // Linux tests address + length, not + length - 1, for wrapping.
    // A file's range is not tested at all: it fails when it is pinned.
    if (!file && basePage + lengthPages + (end >> 12) > MAX_PFN) {
      throw refusal.wraps(op, what, address, length);
    }
    if (lengthPages === 0 && lengthLow === 0) throw refusal.emptyRange(op);
    if (lengthPages === MAX_PFN) throw refusal.tooLong(op, length);
    if (this.context.shouldFail('pages')) throw refusal.outOfMemory(op, 'a pages object');
    const free = process.capabilities.has('CAP_IPC_LOCK');
    const pages = new IoptPages(this.context, {
      process,
      file,
      basePage,
      count: lengthPages + ((end + LOW_MASK) >> 12),
      writable: (prot & IOPT_PROT.WRITE) !== 0,
      mode: free ? ACCOUNT.NONE : (options.accountMode ?? ACCOUNT.USER),
    });
    file?.retain?.();
    this.placement.set(iova);
    const slice = { pages, startIndex: 0, pageOffset, lengthPages, lengthLow };
    try {
      this.mapSlices(op, [slice], lengthPages, lengthLow, iova !== undefined, prot);
    } catch (error) {
      pages.put();
      throw error;
    }
    return this.placement.iova;
  }

  private mapSlices(
    op: string,
    slices: readonly PagesSlice[],
    pages: number,
    low: number,
    fixed: boolean,
    prot: number,
  ): void {
    for (const _ of slices) {
      if (this.context.shouldFail('area')) throw refusal.outOfMemory(op, 'an area');
    }
    const mask = this.iovaAlignment - 1;
    if (pages === 0 && low === 0) throw refusal.emptyRange(op);
    if (low & mask) {
      throw refusal.misaligned(op, 'length', fromPair(pages, low), this.iovaAlignment);
    }
    const { placement } = this;
    if (fixed) placement.check(op, pages, low);
    else placement.choose(op, slices[0] as PagesSlice, pages, low);
    for (const slice of slices) {
      if (prot & IOPT_PROT.WRITE && !slice.pages.writable) throw refusal.readOnlyPages(op);
      if (slice.pageOffset & mask) {
        throw refusal.misaligned(op, 'page offset', slice.pageOffset, this.iovaAlignment);
      }
    }
    this.filler.add(op, slices, placement.pfn, placement.low, prot);
  }
}
