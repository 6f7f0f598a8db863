/**
 * A B+tree of non-overlapping address ranges, with a cursor. Ranges are inclusive and have all 64
 * bits; every inner slot knows the exact range of its child.
 * @module
 */
import { AreaCursor } from './area-cursor.ts';
import { type AreaNodes, FAN_OUT, type Slot } from './area-nodes.ts';

/** A node with fewer slots is merged with, or filled from, a neighbour. */
const MIN_SLOTS = 8;

/** The tree. Its cursor is where the last `seek` or `advance` left it; changes invalidate it. */
export class AreaTree extends AreaCursor {
  private readonly slot: Slot = { startPfn: 0, startLow: 0, lastPfn: 0, lastLow: 0, ref: 0 };

  /** Add a range that overlaps no other. */
  insert(startPfn: number, startLow: number, lastPfn: number, lastLow: number, id: number): void {
    const { slot } = this;
    slot.startPfn = startPfn;
    slot.startLow = startLow;
    slot.lastPfn = lastPfn;
    slot.lastLow = lastLow;
    slot.ref = id;
    this.size++;
    if (this.height === 0) {
      this.root = this.nodes.take();
      this.height = 1;
    }
    if (!this.isAimed || !this.isAtPath(startPfn, startLow, lastPfn, lastLow)) {
      this.descendForInsert(startPfn, startLow);
    }
    this.isAimed = false;
    this.insertAt(this.height - 1);
  }

  /** Remove the area at the cursor. */
  remove(): void {
    const { nodes, pathNode, pathSlot } = this;
    let level = this.height - 1;
    const leaf = pathNode[level] as number;
    const index = pathSlot[level] as number;
    nodes.remove(leaf, index);
    this.size--;
    this.at = -1;
    const count = nodes.counts[leaf] as number;
    if (count >= MIN_SLOTS) {
      this.refreshEdges(index === 0, index === count);
      nodes.noteRemoved();
      return;
    }
    nodes.markAll(leaf);
    while (level > 0 && (nodes.counts[pathNode[level] as number] as number) < MIN_SLOTS) {
      if (!this.rebalance(level)) break;
      level--;
    }
    this.refreshAbove(level);
    this.shrinkRoot();
  }

  /** Path to where a range goes: in front of the first slot that ends above it. */
  private descendForInsert(pfn: number, low: number): void {
    const { nodes, pathNode, pathSlot } = this;
    let node = this.root;
    const leaf = this.height - 1;
    for (let level = 0; level <= leaf; level++) {
      let index = nodes.lowerBound(node, pfn, low);
      const count = nodes.counts[node] as number;
      if (level < leaf && index === count) index = count - 1;
      pathNode[level] = node;
      pathSlot[level] = index;
      node = nodes.refs[node * FAN_OUT + index] as number;
    }
  }

  /** Insert `this.slot` at the path's position of `level`, splitting full nodes up to the root. */
  private insertAt(leaf: number): void {
    const { nodes, pathNode, pathSlot, slot } = this;
    let level = leaf;
    let index = pathSlot[level] as number;
    let node = pathNode[level] as number;
    const count = nodes.counts[node] as number;
    if (count < FAN_OUT) {
      nodes.insert(node, index, slot);
      this.refreshEdges(index === 0, index === count);
      nodes.noteInserted();
      return;
    }
    while (nodes.counts[node] === FAN_OUT) {
      const right = this.splitInsert(node, index);
      if (level === 0) {
        this.growRoot(node, right);
        return;
      }
      level--;
      const parent = pathNode[level] as number;
      nodes.copyRange(parent * FAN_OUT + (pathSlot[level] as number), node);
      readRange(nodes, right, slot);
      index = (pathSlot[level] as number) + 1;
      node = parent;
    }
    nodes.insert(node, index, slot);
    nodes.markAll(node);
    this.refreshAbove(level);
  }

  /** Split a full node and insert the slot on the proper side; returns the new right node. */
  private splitInsert(node: number, index: number): number {
    const { nodes, slot } = this;
    const right = nodes.take();
    // Appending leaves the left node full: ascending maps would otherwise half-fill every node.
    const moved = index === FAN_OUT ? 0 : FAN_OUT / 2;
    nodes.moveToRight(node, right, moved);
    const leftCount = FAN_OUT - moved;
    if (index < leftCount) nodes.insert(node, index, slot);
    else nodes.insert(right, index - leftCount, slot);
    return right;
  }

  private growRoot(left: number, right: number): void {
    const { nodes } = this;
    const root = nodes.take();
    nodes.counts[root] = 2;
    nodes.copyRange(root * FAN_OUT, left);
    nodes.copyRange(root * FAN_OUT + 1, right);
    this.root = root;
    this.height++;
  }

  private shrinkRoot(): void {
    const { nodes } = this;
    while (this.height > 1 && nodes.counts[this.root] === 1) {
      const child = nodes.refs[this.root * FAN_OUT] as number;
      nodes.give(this.root);
      this.root = child;
      this.height--;
    }
    if (this.size === 0 && this.height > 0) {
      nodes.give(this.root);
      this.height = 0;
    }
  }

  /** Merge a small node with a neighbour (true), or take slots from it (false). */
  private rebalance(level: number): boolean {
    const { nodes, pathNode, pathSlot } = this;
    const parent = pathNode[level - 1] as number;
    const at = pathSlot[level - 1] as number;
    if (nodes.counts[parent] === 1) return this.passUp(parent, pathNode[level] as number);
    const leftIndex = at > 0 ? at - 1 : 0;
    const base = parent * FAN_OUT;
    const left = nodes.refs[base + leftIndex] as number;
    const right = nodes.refs[base + leftIndex + 1] as number;
    const leftCount = nodes.counts[left] as number;
    const rightCount = nodes.counts[right] as number;
    const merge = leftCount + rightCount <= FAN_OUT;
    if (merge) {
      nodes.moveToLeft(left, right, rightCount);
      nodes.remove(parent, leftIndex + 1);
      nodes.markAll(parent);
      nodes.give(right);
    } else {
      const half = (leftCount + rightCount) >>> 1;
      if (leftCount < half) nodes.moveToLeft(left, right, half - leftCount);
      else nodes.moveToRight(left, right, leftCount - half);
      nodes.copyRange(base + leftIndex + 1, right);
      nodes.markAll(parent);
    }
    nodes.copyRange(base + leftIndex, left);
    pathNode[level] = left;
    pathSlot[level - 1] = leftIndex;
    return merge;
  }

  /** An only child has no neighbour: leave it to its parent, without it when it is empty. */
  private passUp(parent: number, child: number): boolean {
    const { nodes } = this;
    if (nodes.counts[child] === 0) {
      nodes.remove(parent, 0);
      nodes.give(child);
    } else nodes.copyRange(parent * FAN_OUT, child);
    nodes.markAll(parent);
    return true;
  }

  /**
   * Bring the ranges above the leaf up to date with the path, as far as its first or last area is
   * another one now. Most changes are between two areas of a leaf: nothing above is touched.
   */
  private refreshEdges(first: boolean, last: boolean): void {
    const { nodes, pathNode, pathSlot } = this;
    let start = first;
    let end = last;
    for (let up = this.height - 2; up >= 0 && (start || end); up--) {
      const node = pathNode[up] as number;
      const slot = pathSlot[up] as number;
      nodes.copyRange(node * FAN_OUT + slot, pathNode[up + 1] as number);
      start &&= slot === 0;
      end &&= slot === (nodes.counts[node] as number) - 1;
    }
  }

  /** Bring ranges and summaries above `level` up to date with the path. */
  private refreshAbove(level: number): void {
    const { nodes, pathNode, pathSlot } = this;
    for (let up = level - 1; up >= 0; up--) {
      const node = pathNode[up] as number;
      const slot = pathSlot[up] as number;
      nodes.copyRange(node * FAN_OUT + slot, pathNode[up + 1] as number);
      nodes.markSlot(node, slot);
    }
  }
}

const readRange = (nodes: AreaNodes, node: number, slot: Slot): void => {
  const first = node * FAN_OUT;
  const last = first + (nodes.counts[node] as number) - 1;
  slot.startPfn = nodes.startPfn[first] as number;
  slot.startLow = nodes.startLow(first);
  slot.lastPfn = nodes.lastPfn[last] as number;
  slot.lastLow = nodes.lastLow(last);
  slot.ref = node;
};
