/**
 * Reading an area tree: a cursor with the path that leads to it.
 * @module
 */
import { AreaNodes, FAN_OUT } from './area-nodes.ts';

/** Deep enough for 2^32 areas in quarter-full nodes. */
const MAX_HEIGHT = 12;

/** What a tree is, and where its cursor is. */
export class AreaCursor {
  readonly nodes = new AreaNodes();
  /** Areas in the tree. */
  size = 0;
  /** Levels; 0 = empty. */
  height = 0;
  root = 0;
  /** Cursor: node and slot per level, root first. */
  readonly pathNode = new Uint32Array(MAX_HEIGHT);
  readonly pathSlot = new Uint32Array(MAX_HEIGHT);
  /** Position of the cursor's slot in the node arrays; -1 = behind the last area. */
  at = -1;
  /** The path leads to the hole a search has just found, and nothing has changed since. */
  protected isAimed = false;

  /**
   * Put the cursor on the first area that ends at or above an address.
   *
   * @returns whether there is one
   * @hot
   */
  seek(pfn: number, low: number): boolean {
    const { nodes, height } = this;
    let node = this.root;
    this.isAimed = false;
    for (let level = 0; level < height; level++) {
      const index = nodes.lowerBound(node, pfn, low);
      if (index === nodes.counts[node]) break;
      this.pathNode[level] = node;
      this.pathSlot[level] = index;
      this.at = node * FAN_OUT + index;
      if (level === height - 1) return true;
      node = nodes.refs[this.at] as number;
    }
    this.at = -1;
    return false;
  }

  /** Move the cursor to the next area; false behind the last. @hot */
  advance(): boolean {
    const { nodes, pathNode, pathSlot } = this;
    let level = this.height - 1;
    while (level >= 0) {
      const next = (pathSlot[level] as number) + 1;
      if (next < (nodes.counts[pathNode[level] as number] as number)) {
        this.descendFrom(level, next);
        return true;
      }
      level--;
    }
    this.at = -1;
    return false;
  }

  /** Area id at the cursor. @hot */
  get id(): number {
    return this.nodes.refs[this.at] as number;
  }

  /** Whether some area touches `[start, last]`; the cursor is on the first one then. @hot */
  seekOverlap(startPfn: number, startLow: number, lastPfn: number, lastLow: number): boolean {
    if (!this.seek(startPfn, startLow)) return false;
    const first = this.nodes.startPfn[this.at] as number;
    return first < lastPfn || (first === lastPfn && this.nodes.startLow(this.at) <= lastLow);
  }

  /** Nothing has been found. @hot */
  unaim(): void {
    this.isAimed = false;
  }

  /**
   * Say that what is inserted next goes in front of a slot, to which the path leads down to the
   * level above: an automatic IOVA is not looked for twice. Any seek takes it back. @hot
   */
  aim(level: number, node: number, slot: number): void {
    const { pathNode, pathSlot, nodes } = this;
    pathNode[level] = node;
    pathSlot[level] = slot;
    let child = node;
    let index = slot;
    for (let below = level + 1; below < this.height; below++) {
      child = nodes.refs[child * FAN_OUT + index] as number;
      index = 0;
      pathNode[below] = child;
      pathSlot[below] = 0;
    }
    this.isAimed = true;
  }

  /** Whether a range lies between the path's slot and the one on its left in the same leaf. */
  protected isAtPath(
    startPfn: number,
    startLow: number,
    lastPfn: number,
    lastLow: number,
  ): boolean {
    const { nodes } = this;
    const leaf = this.height - 1;
    const index = this.pathSlot[leaf] as number;
    const at = (this.pathNode[leaf] as number) * FAN_OUT + index;
    const next = nodes.startPfn[at] as number;
    if (next < lastPfn || (next === lastPfn && nodes.startLow(at) <= lastLow)) return false;
    // In front of a leaf's first slot is another leaf: where its last area ends is not known here.
    if (index === 0) return false;
    const before = nodes.lastPfn[at - 1] as number;
    return before < startPfn || (before === startPfn && nodes.lastLow(at - 1) < startLow);
  }

  private descendFrom(level: number, slot: number): void {
    const { nodes, pathNode, pathSlot } = this;
    pathSlot[level] = slot;
    let at = (pathNode[level] as number) * FAN_OUT + slot;
    for (let below = level + 1; below < this.height; below++) {
      const child = nodes.refs[at] as number;
      pathNode[below] = child;
      pathSlot[below] = 0;
      at = child * FAN_OUT;
    }
    this.at = at;
  }
}
