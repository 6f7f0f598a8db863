/**
 * The areas of one I/O address space: which IOVA ranges are mapped, to which part of which pages.
 * An area is an id into typed arrays; together with the tree it costs about 50 bytes.
 * @module
 */

import type { AreaState } from '../snapshot/iopt-state.ts';
import { fromPair, LOW_MASK, type U64 } from './address.ts';
import { AreaTree } from './area-tree.ts';
import type { IoptPages } from './pages.ts';

/** Accesses that use an area now. */
interface AreaUse {
  /** Pinned ranges that touch it. */
  accesses: number;
  /** Those among them that forbid to unmap it (hardware queues). */
  locks: number;
}

/** Rights of an area: `IOMMU_READ` 1, `IOMMU_WRITE` 2. */
const PROT_MASK = 3;
const PREVENT_ACCESS = 4;
const OFFSET_SHIFT = 4;

/** Areas by id, and the tree that finds them by IOVA. */
export class Areas {
  readonly tree = new AreaTree();
  /** Areas that some access uses. */
  private readonly uses = new Map<number, AreaUse>();
  private readonly pagesOf: (IoptPages | undefined)[] = [];
  /** First page of the area within its pages object. */
  private startIndex = new Float64Array(16);
  /** Rights, prevent-access, and the byte offset in the first page. */
  private bits = new Uint16Array(16);
  private readonly freeIds: number[] = [];

  /** Areas there are. */
  get count(): number {
    return this.tree.size;
  }

  /** Bytes of the arrays, for benchmarks (array of references counted at 8 bytes each). */
  get byteLength(): number {
    const { startIndex, bits, pagesOf, tree } = this;
    return startIndex.byteLength + bits.byteLength + 8 * pagesOf.length + tree.nodes.byteLength;
  }

  /**
   * Add an area at `[start, last]` where there is none.
   *
   * @param startIndex first page within `pages`
   * @param pageOffset byte offset in that page
   * @param prot `IOMMU_READ` 1, `IOMMU_WRITE` 2
   * @returns its id
   */
  add(
    startPfn: number,
    startLow: number,
    lastPfn: number,
    lastLow: number,
    pages: IoptPages,
    startIndex: number,
    pageOffset: number,
    prot: number,
  ): number {
    const id = this.freeIds.pop() ?? this.pagesOf.length;
    if (id >= this.startIndex.length) this.grow();
    this.pagesOf[id] = pages;
    this.startIndex[id] = startIndex;
    this.bits[id] = prot | (pageOffset << OFFSET_SHIFT);
    this.tree.insert(startPfn, startLow, lastPfn, lastLow, id);
    return id;
  }

  /** Remove the area at the tree's cursor. */
  removeAtCursor(): void {
    const { id } = this.tree;
    this.tree.remove();
    this.pagesOf[id] = undefined;
    this.uses.delete(id);
    this.freeIds.push(id);
  }

  /** The area that holds an address, or -1; the cursor is on it then. @hot */
  find(pfn: number, low: number): number {
    return this.tree.seekOverlap(pfn, low, pfn, low) ? this.tree.id : -1;
  }

  /** What an area maps. */
  pages(id: number): IoptPages {
    return this.pagesOf[id] as IoptPages;
  }

  /** First page within its pages object. */
  firstIndex(id: number): number {
    return this.startIndex[id] as number;
  }

  /** Byte offset in its first page. */
  pageOffset(id: number): number {
    return (this.bits[id] as number) >>> OFFSET_SHIFT;
  }

  /** Rights: `IOMMU_READ` 1, `IOMMU_WRITE` 2. */
  prot(id: number): number {
    return (this.bits[id] as number) & PROT_MASK;
  }

  /** Whether new accesses are refused because an unmap waits for the old ones. */
  preventsAccess(id: number): boolean {
    return ((this.bits[id] as number) & PREVENT_ACCESS) !== 0;
  }

  /** Refuse new accesses from now on. */
  preventAccess(id: number): void {
    this.bits[id] = (this.bits[id] as number) | PREVENT_ACCESS;
  }

  /** Pinned ranges that touch an area. */
  accessCount(id: number): number {
    return this.uses.size === 0 ? 0 : (this.uses.get(id)?.accesses ?? 0);
  }

  /** Pinned ranges that forbid to unmap an area. */
  lockCount(id: number): number {
    return this.uses.size === 0 ? 0 : (this.uses.get(id)?.locks ?? 0);
  }

  /** Count a pinned range in (+1) or out (-1). */
  addUse(id: number, delta: 1 | -1, lock: boolean): void {
    const use = this.uses.get(id) ?? { accesses: 0, locks: 0 };
    use.accesses += delta;
    if (lock) use.locks += delta;
    if (use.accesses === 0) this.uses.delete(id);
    else this.uses.set(id, use);
  }

  /** Whether any area is in use by an access. */
  get hasUses(): boolean {
    return this.uses.size > 0;
  }

  /** First page within the pages object that is behind the last byte of the area at the cursor. */
  lastIndexAtCursor(): number {
    const { nodes, at } = this.tree;
    return this.indexAt(nodes.lastPfn[at] as number, nodes.lastLow(at));
  }

  /** Page within the pages object that is behind an address of the area at the cursor. */
  indexAt(pfn: number, low: number): number {
    const { nodes, at, id } = this.tree;
    const bytes = low - nodes.startLow(at) + this.pageOffset(id);
    return this.firstIndex(id) + (pfn - (nodes.startPfn[at] as number)) + Math.floor(bytes / 4096);
  }

  /** Byte offset in the page behind an address of the area at the cursor. */
  offsetAt(low: number): number {
    return (
      (low - this.tree.nodes.startLow(this.tree.at) + this.pageOffset(this.tree.id)) & LOW_MASK
    );
  }

  /** First address of the area at the cursor. */
  get start(): U64 {
    const { nodes, at } = this.tree;
    return fromPair(nodes.startPfn[at] as number, nodes.startLow(at));
  }

  /** Last address of the area at the cursor. */
  get last(): U64 {
    const { nodes, at } = this.tree;
    return fromPair(nodes.lastPfn[at] as number, nodes.lastLow(at));
  }

  /** The area under the cursor, for a snapshot. */
  saveAtCursor(pages: number): AreaState {
    const { nodes, at, id } = this.tree;
    return {
      startPfn: nodes.startPfn[at] as number,
      startLow: nodes.startLow(at),
      lastPfn: nodes.lastPfn[at] as number,
      lastLow: nodes.lastLow(at),
      pages,
      startIndex: this.firstIndex(id),
      pageOffset: this.pageOffset(id),
      prot: this.prot(id),
      preventsAccess: this.preventsAccess(id),
      accesses: this.accessCount(id),
      locks: this.lockCount(id),
    };
  }

  /** Add an area as a snapshot had it. */
  load(state: AreaState, pages: IoptPages): void {
    const { startPfn, startLow, lastPfn, lastLow, startIndex, pageOffset, prot } = state;
    const id = this.add(startPfn, startLow, lastPfn, lastLow, pages, startIndex, pageOffset, prot);
    if (state.preventsAccess) this.preventAccess(id);
    const { accesses, locks } = state;
    if (accesses > 0) this.uses.set(id, { accesses, locks });
  }

  private grow(): void {
    const capacity = Math.ceil(this.bits.length * (this.bits.length < 65_536 ? 2 : 1.25));
    const startIndex = new Float64Array(capacity);
    startIndex.set(this.startIndex);
    this.startIndex = startIndex;
    const bits = new Uint16Array(capacity);
    bits.set(this.bits);
    this.bits = bits;
  }
}
