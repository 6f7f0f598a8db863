/**
 * The address space of one process: mappings, page table, copy on write, page faults.
 * @module
 */

import type { FrameRunState } from '../snapshot/memory-state.ts';
import { FrameMap } from './frame-map.ts';
import { type FramePool, HUGE_PAGES } from './frame-pool.ts';
import type { FrameRuns } from './frame-runs.ts';
import { PAGE_BYTES } from './memory-region.ts';
import { type Vma, VmaList } from './vma-list.ts';

const EFAULT = -14;

/** Rights of user memory. @linux include/uapi/asm-generic/mman-common.h PROT_* */
export const VM_PROT = { NONE: 0, READ: 1, WRITE: 2, EXEC: 4 } as const;

/** A page that reads as zeros and has no frame of its own yet. */
export const ZERO_PAGE = -1;

/** First page number that user mappings cannot have (2^47 bytes). */
export const USER_END_PAGE = 2 ** 35;

const unitOf = (vma: Vma): number => (vma.hugetlb ? HUGE_PAGES : 1);

/** Mappings and page table. Page numbers are user virtual addresses / 4096. */
export class AddressSpace {
  readonly pool: FramePool;
  readonly vmas = new VmaList();
  /** Frames of private mappings; shared ones live in their file. */
  private readonly table = new FrameMap();

  constructor(pool: FramePool) {
    this.pool = pool;
  }

  /** Add a mapping where there is none. It takes a reference to its file. */
  map(vma: Vma): void {
    this.vmas.insert(vma);
    this.holdFile(vma);
  }

  /** Remove whatever is mapped in `[start, end)`. */
  unmap(start: number, end: number): void {
    for (const vma of this.vmas.isolate(start, end, (upper) => this.holdFile(upper))) {
      this.table.forEachRun(vma.start, vma.end - vma.start, (_page, pfn, count) => {
        this.pool.drop(pfn, count);
      });
      this.table.clear(vma.start, vma.end - vma.start);
      this.vmas.remove(vma);
      if (vma.shared && vma.file && vma.prot & VM_PROT.WRITE) vma.file.writableMappings--;
      vma.file?.release();
    }
  }

  /** Change rights of `[start, end)`; false when part of it is not mapped. */
  protect(start: number, end: number, prot: number): boolean {
    const inside = this.vmas.isolate(start, end, (upper) => this.holdFile(upper));
    let at = start;
    for (const vma of inside) {
      if (vma.start !== at) return false;
      at = vma.end;
      if (vma.shared && vma.file) {
        vma.file.writableMappings += ((prot & 2) - (vma.prot & 2)) / 2;
      }
      vma.prot = prot;
    }
    return at === end;
  }

  /** Remove everything. */
  clear(): void {
    this.unmap(0, USER_END_PAGE);
  }

  /**
   * Give `child` (empty) a copy: shared mappings are shared, private pages are copied on write,
   * pinned ones at once.
   *
   * @returns 0 or -12
   * @linux mm/memory.c copy_present_page, copy_page_range
   */
  forkInto(child: AddressSpace): number {
    for (const vma of this.vmas.all) child.map({ ...vma });
    for (const vma of this.vmas.all) {
      if (vma.shared) continue;
      const rc = this.forkPages(child, vma);
      if (rc < 0) {
        child.clear();
        return rc;
      }
    }
    return 0;
  }

  /**
   * Frame to read a page from.
   *
   * @param prot rights needed; 0 = any mapping will do
   * @returns frame, {@link ZERO_PAGE}, -14 (EFAULT) or -12
   */
  frameToRead(page: number, prot: number): number {
    const vma = this.vmas.at(page);
    if (vma === undefined || (vma.prot & prot) !== prot) return EFAULT;
    const own = vma.shared ? -1 : this.table.get(page);
    if (own >= 0) return own;
    if (vma.file === undefined) return ZERO_PAGE;
    const filePage = vma.filePage + page - vma.start;
    if (filePage * PAGE_BYTES >= vma.file.size) return EFAULT;
    return vma.file.cachedFrame(filePage);
  }

  /**
   * Frame to write a page into, exclusive to this process unless the mapping is shared.
   *
   * @param prot rights needed; 0 = any mapping will do
   * @returns frame, -14 (EFAULT) or -12
   */
  frameToWrite(page: number, prot: number): number {
    const vma = this.vmas.at(page);
    if (vma === undefined || (vma.prot & prot) !== prot) return EFAULT;
    if (vma.shared) return vma.file ? vma.file.frame(vma.filePage + page - vma.start) : EFAULT;
    const rc = this.makeExclusive(vma, page, 1);
    return rc < 0 ? rc : this.table.get(page);
  }

  /**
   * Find or make the frames of a range as a long-term pin does, without counting the pin: private
   * pages become exclusive even for a read-only pin, so that a later write keeps the frame.
   *
   * @returns 0, -14 (EFAULT) or -12
   * @linux mm/gup.c gup_must_unshare
   */
  collect(page: number, count: number, writable: boolean, runs: FrameRuns): number {
    const prot = writable ? VM_PROT.WRITE : VM_PROT.READ;
    const end = page + count;
    for (let at = page; at < end; ) {
      const vma = this.vmas.at(at);
      if (vma === undefined || (vma.prot & prot) === 0) return EFAULT;
      const pages = Math.min(end, vma.end) - at;
      const rc =
        vma.shared && vma.file
          ? vma.file.collect(vma.filePage + at - vma.start, pages, runs)
          : this.collectPrivate(vma, at, pages, runs);
      if (rc < 0) return rc;
      at += pages;
    }
    return 0;
  }

  /** The page table, for a snapshot; mappings are in `vmas`. */
  savePages(): FrameRunState[] {
    return this.table.save();
  }

  /** Put mappings and page table back; counts of frames and files are not touched. */
  load(vmas: readonly Vma[], pages: readonly FrameRunState[]): void {
    this.vmas.all.splice(0, this.vmas.all.length, ...vmas);
    this.table.load(pages);
  }

  private holdFile(vma: Vma): void {
    vma.file?.retain();
    if (vma.shared && vma.file && vma.prot & VM_PROT.WRITE) vma.file.writableMappings++;
  }

  private collectPrivate(vma: Vma, page: number, count: number, runs: FrameRuns): number {
    const rc = this.makeExclusive(vma, page, count);
    if (rc < 0) return rc;
    this.table.forEachRun(page, count, (_page, pfn, pages) => runs.push(pfn, pages));
    return 0;
  }

  /** Give private pages frames that nobody else has. */
  private makeExclusive(vma: Vma, page: number, count: number): number {
    for (let done = 0; done < count; ) {
      const pages = this.table.stretch(page + done, count - done);
      const pfn = this.table.stretchPfn;
      let rc = 0;
      if (pfn >= 0) rc = this.unshare(vma, page + done, pfn, pages);
      else if (vma.file) rc = this.copyFilePages(vma, vma.file, page + done, pages);
      else rc = this.fillZero(vma, page + done, pages);
      if (rc < 0) return rc;
      done += pages;
    }
    return 0;
  }

  /** Replace frames of a present stretch that a fork shares with copies. */
  private unshare(vma: Vma, page: number, pfn: number, count: number): number {
    const { pages } = this.pool.memory;
    const unit = unitOf(vma);
    for (let i = 0; i < count; i++) {
      if (pages.ownerCount(pfn + i) === 1) continue;
      const back = (page + i) % unit;
      const first = pfn + i - back;
      const copy = this.pool.takeCopy(first, unit, unit);
      if (copy < 0) return copy;
      this.pool.drop(first, unit);
      this.table.setRun(page + i - back, copy, unit);
      i += unit - back - 1;
    }
    return 0;
  }

  /** First touch of anonymous memory: zeroed frames, neighbouring ones where possible. */
  private fillZero(vma: Vma, page: number, count: number): number {
    const huge = page - (page % HUGE_PAGES);
    const wholeHuge = huge >= vma.start && huge + HUGE_PAGES <= vma.end;
    if (vma.hugetlb) return this.fillUnits(page, count);
    if (wholeHuge && count < HUGE_PAGES && this.isAbsent(huge)) {
      const pfn = this.pool.take(HUGE_PAGES, HUGE_PAGES);
      if (pfn >= 0) this.table.setRun(huge, pfn, HUGE_PAGES);
      if (pfn >= 0 && page + count <= huge + HUGE_PAGES) return 0;
    }
    for (let done = 0; done < count; ) {
      const pages = this.table.stretch(page + done, count - done);
      if (this.table.stretchPfn < 0) {
        const pfn = this.pool.takeUpTo(pages, page + done);
        if (pfn < 0) return pfn;
        this.table.setRun(page + done, pfn, this.pool.takenCount);
        done += this.pool.takenCount;
      } else done += pages;
    }
    return 0;
  }

  private fillUnits(page: number, count: number): number {
    for (let at = page - (page % HUGE_PAGES); at < page + count; at += HUGE_PAGES) {
      if (this.table.get(at) >= 0) continue;
      const pfn = this.pool.take(HUGE_PAGES, HUGE_PAGES);
      if (pfn < 0) return pfn;
      this.table.setRun(at, pfn, HUGE_PAGES);
    }
    return 0;
  }

  private isAbsent(huge: number): boolean {
    const pages = this.table.stretch(huge, HUGE_PAGES);
    return this.table.stretchPfn < 0 && pages === HUGE_PAGES;
  }

  /** First write to (or pin of) pages of a private file mapping: copies of the file's pages. */
  private copyFilePages(vma: Vma, file: NonNullable<Vma['file']>, page: number, count: number) {
    const unit = unitOf(vma);
    for (let at = page - (page % unit); at < page + count; at += unit) {
      if (this.table.get(at) >= 0) continue;
      const source = file.frame(vma.filePage + at - vma.start);
      if (source < 0) return source;
      const copy = this.pool.takeCopy(source, unit, unit);
      if (copy < 0) return copy;
      this.table.setRun(at, copy, unit);
    }
    return 0;
  }

  private forkPages(child: AddressSpace, vma: Vma): number {
    const { pages } = this.pool.memory;
    const unit = unitOf(vma);
    let rc = 0;
    this.table.forEachRun(vma.start, vma.end - vma.start, (page, pfn, count) => {
      for (let i = 0; i < count && rc >= 0; i += unit) {
        const pinned = pages.pinCount(pfn + i) > 0;
        const copy = pinned ? this.pool.takeCopy(pfn + i, unit, unit) : pfn + i;
        if (!pinned) pages.addOwners(pfn + i, unit, 1);
        if (copy < 0) rc = copy;
        else child.table.setRun(page + i, copy, unit);
      }
    });
    return rc;
  }
}
