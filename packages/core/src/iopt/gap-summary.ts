/**
 * The largest hole in every subtree of areas, for one alignment. Computed when first asked for.
 * From then on an area that comes or goes changes its leaf, and the nodes above only as far as
 * their own largest hole was that one; where nodes are split or merged, they are marked and
 * computed again when asked for.
 * @module
 */
import { LOW_MASK, PAGE_SIZE } from './address.ts';
import { FAN_OUT, type NodeSummary } from './area-nodes.ts';
import type { AreaTree } from './area-tree.ts';

/**
 * Largest hole per node in bytes, rounded as doubles round. Rounding is monotonic, so a hole that
 * fits is never missed; one that only seems to fit is looked at and passed by.
 */
export class GapSummary implements NodeSummary {
  dirty = new Uint32Array(0);
  private readonly tree: AreaTree;
  /** Alignment in pages; 0 = below a page, where the plain size of a hole counts. */
  private readonly alignPages: number;
  private best = new Float64Array(0);
  /** Largest hole in front of or below each slot of inner nodes, at `innerIndex * FAN_OUT + slot`. */
  private slotBest = new Float64Array(FAN_OUT);
  private innerIndex = new Uint32Array(0);
  private innerCount = 1;

  constructor(tree: AreaTree, alignPages: number) {
    this.tree = tree;
    this.alignPages = alignPages;
    tree.nodes.addSummary(this);
  }

  /** Largest hole inside a node. @hot */
  of(node: number, level: number): number {
    return this.dirty[node] === 0 ? (this.best[node] as number) : this.compute(node, level);
  }

  /** Largest hole in front of or below one slot of an inner node. @hot */
  at(node: number, slot: number, level: number): number {
    if (this.dirty[node] !== 0) this.compute(node, level);
    return this.slotBest[(this.innerIndex[node] as number) * FAN_OUT + slot] as number;
  }

  /**
   * First slot at or right of `from` with a large enough hole in front of or below it; the number
   * of slots when there is none. @hot
   */
  nextCandidate(node: number, from: number, level: number, bytes: number): number {
    const count = this.tree.nodes.counts[node] as number;
    if (from >= count || this.of(node, level) < bytes) return count;
    if (level < this.tree.height - 1) {
      const { slotBest } = this;
      const base = (this.innerIndex[node] as number) * FAN_OUT;
      let slot = from;
      while (slot < count && (slotBest[base + slot] as number) < bytes) slot++;
      return slot;
    }
    const base = node * FAN_OUT;
    if (this.alignPages === 0) return this.firstPlain(base + from, base + count, bytes) - base;
    let at = base + from;
    while (at < base + count && this.holeBefore(at) < bytes) at++;
    return at - base;
  }

  /** First slot with a hole of that many bytes in front of it; `end` when there is none. @hot */
  private firstPlain(from: number, end: number, bytes: number): number {
    const { startPfn, lastPfn, lows } = this.tree.nodes;
    let left = lows[from - 1] as number;
    for (let at = from; at < end; at++) {
      const low = lows[at] as number;
      const pages = (startPfn[at] as number) - (lastPfn[at - 1] as number);
      if (pages * PAGE_SIZE + ((low & LOW_MASK) - (left >>> 12) - 1) >= bytes) return at;
      left = low;
    }
    return end;
  }

  /**
   * An area came into the leaf on the tree's path: it has split one hole into two. Only when that
   * was the largest one of the leaf, or the leaf has another first or last area, is anything above
   * the leaf looked at. @hot
   */
  inserted(): void {
    const { tree, best } = this;
    const leaf = tree.height - 1;
    const node = tree.pathNode[leaf] as number;
    if (this.dirty[node] !== 0) return;
    const index = tree.pathSlot[leaf] as number;
    const at = node * FAN_OUT + index;
    const first = index === 0;
    const last = index === (tree.nodes.counts[node] as number) - 1;
    const old = best[node] as number;
    if (!first && !last) {
      if (this.holeBetween(at - 1, at + 1) < old) return;
      best[node] = this.computeLeaf(node, old);
      if (best[node] === old) return;
    } else {
      if (!first) best[node] = Math.max(old, this.holeBefore(at));
      if (!last) best[node] = Math.max(best[node] as number, this.holeBefore(at + 1));
    }
    this.carry(leaf - 1, first, last);
  }

  /** The area at the path's slot went: two holes are one. @hot */
  removed(): void {
    const { tree, best } = this;
    const leaf = tree.height - 1;
    const node = tree.pathNode[leaf] as number;
    if (this.dirty[node] !== 0) return;
    const index = tree.pathSlot[leaf] as number;
    const first = index === 0;
    const last = index === (tree.nodes.counts[node] as number);
    if (!first && !last) {
      const hole = this.holeBefore(node * FAN_OUT + index);
      if (hole <= (best[node] as number)) return;
      best[node] = hole;
    } else best[node] = this.computeLeaf(node);
    this.carry(leaf - 1, first, last);
  }

  /**
   * Take a child's new largest hole, or the hole beside its new first or last area, up the path
   * until a node's own largest hole stays what it was.
   */
  private carry(from: number, first: boolean, last: boolean): void {
    const { tree, best, dirty } = this;
    const { pathNode, pathSlot } = tree;
    let start = first;
    let end = last;
    for (let level = from; level >= 0; level--) {
      const node = pathNode[level] as number;
      const slot = pathSlot[level] as number;
      // What is above is dirty as well then, and is computed from here on when it is asked for.
      if (dirty[node] !== 0) {
        dirty[node] = (dirty[node] as number) | (1 << slot);
        return;
      }
      const old = best[node] as number;
      const rightmost = slot === (tree.nodes.counts[node] as number) - 1;
      this.setSlot(node, slot);
      if (end && !rightmost) this.setSlot(node, slot + 1);
      start &&= slot === 0;
      end &&= rightmost;
      if (best[node] === old && !start && !end) return;
    }
  }

  /** Compute one slot of a clean inner node again, and the node's largest hole with it. */
  private setSlot(node: number, slot: number): void {
    const { best, slotBest } = this;
    const target = (this.innerIndex[node] as number) * FAN_OUT + slot;
    const at = node * FAN_OUT + slot;
    const below = best[this.tree.nodes.refs[at] as number] as number;
    const gap = slot === 0 ? below : Math.max(below, this.holeBefore(at));
    const old = slotBest[target] as number;
    slotBest[target] = gap;
    if (gap >= (best[node] as number)) best[node] = gap;
    else if (old === best[node]) best[node] = this.largestSlot(node, target - slot, old);
  }

  /** @param enough as for `computeLeaf` */
  private largestSlot(node: number, base: number, enough: number): number {
    const { slotBest } = this;
    const end = base + (this.tree.nodes.counts[node] as number);
    let best = 0;
    for (let at = base; at < end; at++) {
      const gap = slotBest[at] as number;
      if (gap > best) {
        best = gap;
        if (gap >= enough) return gap;
      }
    }
    return best;
  }

  private compute(node: number, level: number): number {
    if (node >= this.best.length) this.grow();
    const best =
      level < this.tree.height - 1 ? this.computeInner(node, level) : this.computeLeaf(node);
    this.best[node] = best;
    this.dirty[node] = 0;
    return best;
  }

  /**
   * Largest hole between the areas of a leaf.
   *
   * @param enough the caller knows that none is larger: the first of that size ends the search
   */
  private computeLeaf(node: number, enough = Number.POSITIVE_INFINITY): number {
    const base = node * FAN_OUT;
    const end = base + (this.tree.nodes.counts[node] as number);
    if (this.alignPages === 0) return this.largestPlain(base, end, enough);
    let best = 0;
    for (let at = base + 1; at < end; at++) {
      const gap = this.holeBefore(at);
      if (gap > best) best = gap;
    }
    return best;
  }

  /** Every map into the largest hole of its leaf comes here: no call and no array twice. @hot */
  private largestPlain(from: number, end: number, enough: number): number {
    const { startPfn, lastPfn, lows } = this.tree.nodes;
    let best = 0;
    let left = lows[from] as number;
    for (let at = from + 1; at < end; at++) {
      const low = lows[at] as number;
      const pages = (startPfn[at] as number) - (lastPfn[at - 1] as number);
      const gap = pages * PAGE_SIZE + ((low & LOW_MASK) - (left >>> 12) - 1);
      left = low;
      if (gap > best) {
        best = gap;
        if (gap >= enough) return gap;
      }
    }
    return best;
  }

  private computeInner(node: number, level: number): number {
    const count = this.tree.nodes.counts[node] as number;
    const inner = this.innerBase(node);
    const dirty = this.dirty[node] as number;
    // The hole in front of a slot also changes with the slot to its left.
    const stale = dirty | (dirty << 1);
    for (let slot = 0; slot < count; slot++) {
      if (stale & (1 << slot)) this.computeSlot(node, slot, level, inner + slot);
    }
    return this.largestSlot(node, inner, Number.POSITIVE_INFINITY);
  }

  private computeSlot(node: number, slot: number, level: number, target: number): void {
    const at = node * FAN_OUT + slot;
    const below = this.of(this.tree.nodes.refs[at] as number, level + 1);
    this.slotBest[target] = slot === 0 ? below : Math.max(below, this.holeBefore(at));
  }

  /** Usable bytes between a slot and the one on its left; 0 or less = none. */
  private holeBefore(at: number): number {
    return this.holeBetween(at - 1, at);
  }

  /** Usable bytes between the areas of two slots. */
  private holeBetween(left: number, at: number): number {
    const { startPfn, lastPfn, lows } = this.tree.nodes;
    const { alignPages } = this;
    const last = lastPfn[left] as number;
    const startLow = (lows[at] as number) & LOW_MASK;
    if (alignPages === 0) {
      const low = startLow - ((lows[left] as number) >>> 12) - 1;
      return ((startPfn[at] as number) - last) * PAGE_SIZE + low;
    }
    const aligned = Math.ceil((last + 1) / alignPages) * alignPages;
    return ((startPfn[at] as number) - aligned) * PAGE_SIZE + startLow;
  }

  private innerBase(node: number): number {
    let index = this.innerIndex[node] as number;
    if (index === 0) {
      index = this.innerCount++;
      this.innerIndex[node] = index;
      if ((index + 1) * FAN_OUT > this.slotBest.length) {
        const larger = new Float64Array(2 * this.slotBest.length);
        larger.set(this.slotBest);
        this.slotBest = larger;
      }
    }
    return index * FAN_OUT;
  }

  private grow(): void {
    const { capacity } = this.tree.nodes;
    const best = new Float64Array(capacity);
    best.set(this.best);
    this.best = best;
    const innerIndex = new Uint32Array(capacity);
    innerIndex.set(this.innerIndex);
    this.innerIndex = innerIndex;
  }
}
