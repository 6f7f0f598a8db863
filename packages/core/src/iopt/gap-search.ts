/**
 * First-fit search for a hole between areas in O(log n): every node knows the largest hole inside
 * it, counted from the first suitably aligned byte, so that subtrees without a fit are skipped.
 *
 * Alignments up to a page's only need the plain size of a hole; larger ones (up to 2 MiB) have a
 * summary each. Summaries are computed when first asked for, so that programs that choose their own
 * IOVAs never pay for them, and kept up to date from then on.
 * @module
 */
import { LOW_MASK, MAX_PFN, PAGE_SIZE } from './address.ts';
import { FAN_OUT } from './area-nodes.ts';
import type { AreaTree } from './area-tree.ts';
import { GapSummary } from './gap-summary.ts';

/** What is looked for; `length` as pair of `length - 1`. */
export class GapSearch {
  /** The found address. */
  pfn = 0;
  low = 0;
  private readonly tree: AreaTree;
  /** By alignment class: 0 below a page, k for `2 ** (11 + k)`. */
  private readonly summaries: GapSummary[] = [];
  private summary: GapSummary;
  private alignment = 1;
  private pageOffset = 0;
  private bytes = 0;
  private spanPages = 0;
  private spanLow = 0;
  private windowLastPfn = 0;
  private windowLastLow = 0;

  constructor(tree: AreaTree) {
    this.tree = tree;
    this.summary = new GapSummary(tree, 0);
    this.summaries[0] = this.summary;
  }

  /**
   * Say what is looked for.
   *
   * @param pages length / 4096, with `low` its remainder; not 0
   * @param alignment power of two up to 2 MiB
   * @param pageOffset bits put into the aligned start, below 4096
   */
  prepare(pages: number, low: number, alignment: number, pageOffset: number): void {
    this.alignment = alignment;
    this.pageOffset = pageOffset;
    this.bytes = pages * PAGE_SIZE + low;
    this.spanPages = low === 0 ? pages - 1 : pages;
    this.spanLow = low === 0 ? LOW_MASK : low - 1;
    const gapClass = alignment < PAGE_SIZE ? 0 : 20 - Math.clz32(alignment);
    this.summary =
      this.summaries[gapClass] ?? new GapSummary(this.tree, Math.floor(alignment / PAGE_SIZE));
    this.summaries[gapClass] = this.summary;
  }

  /**
   * Whether the thing fits into `[start, last]`; its address goes to `pfn`, `low`.
   *
   * @linux drivers/iommu/iommufd/io_pagetable.c __alloc_iova_check_range
   * @hot
   */
  fits(startPfn: number, startLow: number, lastPfn: number, lastLow: number): boolean {
    let pfn = startPfn;
    let low = 0;
    if (this.alignment >= PAGE_SIZE) {
      const pages = this.alignment / PAGE_SIZE;
      pfn = Math.ceil((startLow > 0 ? startPfn + 1 : startPfn) / pages) * pages;
    } else {
      low = (startLow + this.alignment - 1) & -this.alignment;
      if (low > LOW_MASK) {
        low = 0;
        pfn++;
      }
      low |= this.pageOffset;
    }
    const endLow = low + this.spanLow;
    const endPfn = pfn + this.spanPages + (endLow >>> 12);
    if (endPfn > lastPfn || (endPfn === lastPfn && (endLow & LOW_MASK) > lastLow)) return false;
    // Linux asks for more than one byte here: a single-byte hole never fits.
    if ((pfn === lastPfn && low === lastLow) || pfn > MAX_PFN) return false;
    this.pfn = pfn;
    this.low = low;
    return true;
  }

  /**
   * Find the lowest hole between areas inside `[start, last]` that fits.
   *
   * @returns whether there is one; its address is in `pfn`, `low`
   * @hot
   */
  find(startPfn: number, startLow: number, lastPfn: number, lastLow: number): boolean {
    this.windowLastPfn = lastPfn;
    this.windowLastLow = lastLow;
    this.tree.unaim();
    const level = this.descend(startPfn, startLow);
    if (level < 0) return this.fits(startPfn, startLow, lastPfn, lastLow);
    return this.walk(level, startPfn, startLow);
  }

  /**
   * Go down to the first area that ends at or above an address, but not below a slot that has no
   * hole large enough: what is used up from the left costs nothing.
   *
   * @returns level of the last slot on the path; -1 when no area ends there
   */
  private descend(pfn: number, low: number): number {
    const { tree, summary, bytes } = this;
    const { nodes, pathNode, pathSlot } = tree;
    const leaf = tree.height - 1;
    let node = tree.root;
    for (let level = 0; level <= leaf; level++) {
      const isLeft = (nodes.lastPfn[node * FAN_OUT] as number) > pfn;
      const index = isLeft ? 0 : nodes.lowerBound(node, pfn, low);
      if (index === nodes.counts[node]) return -1;
      pathNode[level] = node;
      pathSlot[level] = index;
      if (level === leaf || summary.at(node, index, level) < bytes) return level;
      node = nodes.refs[node * FAN_OUT + index] as number;
    }
    return -1;
  }

  /** Go right from the path: look at the hole in front of a slot, then below it, then beside. */
  private walk(from: number, startPfn: number, startLow: number): boolean {
    const { tree, summary, bytes } = this;
    const { nodes, pathNode, pathSlot } = tree;
    const leaf = tree.height - 1;
    let holePfn = startPfn;
    let holeLow = startLow;
    let level = from;
    let node = pathNode[level] as number;
    let index = pathSlot[level] as number;
    for (;;) {
      if (this.fitsBefore(node * FAN_OUT + index, holePfn, holeLow)) {
        tree.aim(level, node, index);
        return true;
      }
      // The hole in front of a child's first slot is the one that does not fit.
      while (level < leaf && summary.at(node, index, level) >= bytes) {
        pathNode[level] = node;
        pathSlot[level] = index;
        node = nodes.refs[node * FAN_OUT + index] as number;
        level++;
        index = 0;
      }
      index = summary.nextCandidate(node, index + 1, level, bytes);
      const at = node * FAN_OUT + index - 1;
      holePfn = nodes.lastPfn[at] as number;
      holeLow = nodes.lastLow(at) + 1;
      if (holeLow > LOW_MASK) {
        holeLow = 0;
        holePfn++;
      }
      if (this.isBehindWindow(holePfn, holeLow)) return false;
      while (index === nodes.counts[node]) {
        if (level === 0) {
          return this.fits(holePfn, holeLow, this.windowLastPfn, this.windowLastLow);
        }
        level--;
        node = pathNode[level] as number;
        index = (pathSlot[level] as number) + 1;
      }
    }
  }

  private isBehindWindow(pfn: number, low: number): boolean {
    return pfn > this.windowLastPfn || (pfn === this.windowLastPfn && low > this.windowLastLow);
  }

  /** Whether it fits between the hole's start and the slot (or the window's end). @hot */
  private fitsBefore(at: number, holePfn: number, holeLow: number): boolean {
    const { nodes } = this.tree;
    let lastPfn = nodes.startPfn[at] as number;
    let lastLow = nodes.startLow(at) - 1;
    if (lastLow < 0) {
      lastLow = LOW_MASK;
      lastPfn--;
    }
    if (lastPfn < holePfn || (lastPfn === holePfn && lastLow < holeLow)) return false;
    if (this.isBehindWindow(lastPfn, lastLow)) {
      return this.fits(holePfn, holeLow, this.windowLastPfn, this.windowLastLow);
    }
    return this.fits(holePfn, holeLow, lastPfn, lastLow);
  }
}
