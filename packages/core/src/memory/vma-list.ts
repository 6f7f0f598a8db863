/**
 * The mappings of one address space: which pages exist, with which rights, and what backs them.
 * @module
 */
import type { MemoryFile } from './memory-file.ts';

/** One mapping: pages `[start, end)` with the same rights and the same backing. */
export interface Vma {
  /** First page number. */
  start: number;
  /** Page number behind the last. */
  end: number;
  /** Sum of `VM_PROT` bits. */
  prot: number;
  readonly shared: boolean;
  readonly hugetlb: boolean;
  /** What backs it; undefined = private anonymous memory. */
  readonly file: MemoryFile | undefined;
  /** File page behind `start`. */
  filePage: number;
}

/** Mappings in ascending order, never overlapping. */
export class VmaList {
  readonly all: Vma[] = [];

  /** The mapping that holds a page. */
  at(page: number): Vma | undefined {
    const vma = this.all[this.indexFrom(page)];
    return vma !== undefined && vma.start <= page ? vma : undefined;
  }

  /** Whether some page in `[start, end)` is mapped. */
  overlaps(start: number, end: number): boolean {
    const vma = this.all[this.indexFrom(start)];
    return vma !== undefined && vma.start < end;
  }

  /** Add a mapping where there is none. */
  insert(vma: Vma): void {
    this.all.splice(this.indexFrom(vma.start), 0, vma);
  }

  /**
   * Cut mappings at both edges so that those in `[start, end)` lie entirely inside, and return
   * them. `onSplit` hears of each new half.
   */
  isolate(start: number, end: number, onSplit: (upper: Vma) => void): Vma[] {
    this.cut(start, onSplit);
    this.cut(end, onSplit);
    const from = this.indexFrom(start);
    let to = from;
    while (to < this.all.length && (this.all[to] as Vma).start < end) to++;
    return this.all.slice(from, to);
  }

  /** Take a mapping out. */
  remove(vma: Vma): void {
    this.all.splice(this.all.indexOf(vma), 1);
  }

  /** Highest start of `pages` free pages below `limit`, a multiple of `align`; -1 when none. */
  highestHole(pages: number, limit: number, lowest: number, align: number): number {
    let end = limit;
    for (let i = this.all.length - 1; i >= -1; i--) {
      const vma = this.all[i];
      const from = Math.max(lowest, vma ? vma.end : lowest);
      const start = Math.floor((end - pages) / align) * align;
      if (start >= from) return start;
      if (vma) end = Math.min(end, vma.start);
    }
    return -1;
  }

  private cut(page: number, onSplit: (upper: Vma) => void): void {
    const vma = this.at(page);
    if (vma === undefined || vma.start === page) return;
    const upper = { ...vma, start: page, filePage: vma.filePage + page - vma.start };
    vma.end = page;
    this.insert(upper);
    onSplit(upper);
  }

  /** Index of the first mapping that ends above `page`. */
  private indexFrom(page: number): number {
    let low = 0;
    let high = this.all.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.all[middle] as Vma).end <= page) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
