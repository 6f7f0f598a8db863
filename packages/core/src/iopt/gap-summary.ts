/**
 * The largest hole in every subtree of areas, for one alignment. Computed when first asked for;
 * afterwards only what changed is computed again, from arrays that lie side by side.
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
    let slot = from;
    if (level < this.tree.height - 1) {
      const { slotBest } = this;
      const base = (this.innerIndex[node] as number) * FAN_OUT;
      while (slot < count && (slotBest[base + slot] as number) < bytes) slot++;
    } else {
      const base = node * FAN_OUT;
      while (slot < count && this.holeBefore(base + slot) < bytes) slot++;
    }
    return slot;
  }

  private compute(node: number, level: number): number {
    if (node >= this.best.length) this.grow();
    const best =
      level < this.tree.height - 1 ? this.computeInner(node, level) : this.computeLeaf(node);
    this.best[node] = best;
    this.dirty[node] = 0;
    return best;
  }

  private computeLeaf(node: number): number {
    const base = node * FAN_OUT;
    const end = base + (this.tree.nodes.counts[node] as number);
    let best = 0;
    for (let at = base + 1; at < end; at++) {
      const gap = this.holeBefore(at);
      if (gap > best) best = gap;
    }
    return best;
  }

  private computeInner(node: number, level: number): number {
    const count = this.tree.nodes.counts[node] as number;
    const inner = this.innerBase(node);
    const dirty = this.dirty[node] as number;
    // The hole in front of a slot also changes with the slot to its left.
    const stale = dirty | (dirty << 1);
    let best = 0;
    for (let slot = 0; slot < count; slot++) {
      if (stale & (1 << slot)) this.computeSlot(node, slot, level, inner + slot);
      const gap = this.slotBest[inner + slot] as number;
      if (gap > best) best = gap;
    }
    return best;
  }

  private computeSlot(node: number, slot: number, level: number, target: number): void {
    const at = node * FAN_OUT + slot;
    const below = this.of(this.tree.nodes.refs[at] as number, level + 1);
    this.slotBest[target] = slot === 0 ? below : Math.max(below, this.holeBefore(at));
  }

  /** Usable bytes between a slot and the one on its left; 0 or less = none. */
  private holeBefore(at: number): number {
    const { startPfn, lastPfn, lows } = this.tree.nodes;
    const { alignPages } = this;
    const last = lastPfn[at - 1] as number;
    const startLow = (lows[at] as number) & LOW_MASK;
    if (alignPages === 0) {
      const low = startLow - ((lows[at - 1] as number) >>> 12) - 1;
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
