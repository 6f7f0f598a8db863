/**
 * The nodes of the area tree, in typed arrays. A slot is a range of addresses (inclusive, 64 bits,
 * as page frame and low 12 bits) and a reference: an area id in a leaf, a node in an inner node.
 * @module
 */

/** Slots per node. */
export const FAN_OUT = 32;

const LAST_LOW_SHIFT = 12;
const LOW = 0xfff;

/** One slot outside the tree, on its way in. */
export interface Slot {
  startPfn: number;
  startLow: number;
  lastPfn: number;
  lastLow: number;
  ref: number;
}

/** What a search knows about nodes; told of every change. */
export interface NodeSummary {
  /**
   * Slots of each node whose summary is out of date, one bit each. A node with a bit set has one
   * set in every node above it, for the slot that leads to it.
   */
  dirty: Uint32Array;
  /** An area came into the leaf on the tree's path, at the path's slot; ranges are up to date. */
  inserted(): void;
  /** The area at the path's slot went; ranges are up to date. */
  removed(): void;
}

const ALL_SLOTS = 0xffff_ffff;

/** Pool of nodes: 24 bytes a slot. */
export class AreaNodes {
  /** Frame number of each slot's first byte. */
  startPfn: Float64Array;
  /** Frame number of each slot's last byte. */
  lastPfn: Float64Array;
  /** Low bits: 11:0 of the first byte, 23:12 of the last. */
  lows: Uint32Array;
  /** Area id or child node. */
  refs: Uint32Array;
  /** Slots in use per node. */
  counts: Uint8Array;
  /** Summaries in use. */
  private readonly summaries: NodeSummary[] = [];
  private used = 0;
  private readonly freeNodes: number[] = [];

  constructor(capacity = 16) {
    this.startPfn = new Float64Array(capacity * FAN_OUT);
    this.lastPfn = new Float64Array(capacity * FAN_OUT);
    this.lows = new Uint32Array(capacity * FAN_OUT);
    this.refs = new Uint32Array(capacity * FAN_OUT);
    this.counts = new Uint8Array(capacity);
  }

  /** Nodes there is room for. */
  get capacity(): number {
    return this.counts.length;
  }

  /** Bytes of all arrays. */
  get byteLength(): number {
    return this.capacity * (FAN_OUT * 24 + 1);
  }

  /** An empty node. */
  take(): number {
    const reused = this.freeNodes.pop();
    const node = reused ?? this.used++;
    if (node >= this.capacity) this.grow();
    this.counts[node] = 0;
    this.markAll(node);
    return node;
  }

  /** Give a node back. */
  give(node: number): void {
    this.freeNodes.push(node);
  }

  /** Keep a summary's `dirty` up to date from now on; all of it is dirty at first. */
  addSummary(summary: NodeSummary): void {
    growDirty(summary, this.capacity);
    this.summaries.push(summary);
  }

  /** Tell the summaries of an area that came without nodes being split. @hot */
  noteInserted(): void {
    const { summaries } = this;
    for (let i = 0; i < summaries.length; i++) (summaries[i] as NodeSummary).inserted();
  }

  /** Tell the summaries of an area that went without nodes being merged. @hot */
  noteRemoved(): void {
    const { summaries } = this;
    for (let i = 0; i < summaries.length; i++) (summaries[i] as NodeSummary).removed();
  }

  /** Something under one slot changed. @hot */
  markSlot(node: number, slot: number): void {
    const { summaries } = this;
    for (let i = 0; i < summaries.length; i++) {
      const { dirty } = summaries[i] as NodeSummary;
      dirty[node] = (dirty[node] as number) | (1 << slot);
    }
  }

  /** Slots came, went or moved. @hot */
  markAll(node: number): void {
    const { summaries } = this;
    for (let i = 0; i < summaries.length; i++) {
      (summaries[i] as NodeSummary).dirty[node] = ALL_SLOTS;
    }
  }

  /** Low bits of a slot's first byte. @hot */
  startLow(at: number): number {
    return (this.lows[at] as number) & LOW;
  }

  /** Low bits of a slot's last byte. @hot */
  lastLow(at: number): number {
    return (this.lows[at] as number) >>> LAST_LOW_SHIFT;
  }

  /** First slot of `node` whose last byte is at or above the address; `count` when none. @hot */
  lowerBound(node: number, pfn: number, low: number): number {
    const base = node * FAN_OUT;
    const { lastPfn } = this;
    let from = 0;
    let to = this.counts[node] as number;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const last = lastPfn[base + middle] as number;
      if (last < pfn || (last === pfn && this.lastLow(base + middle) < low)) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  /** Write a slot. @hot */
  set(at: number, slot: Slot): void {
    this.startPfn[at] = slot.startPfn;
    this.lastPfn[at] = slot.lastPfn;
    this.lows[at] = slot.startLow | (slot.lastLow << LAST_LOW_SHIFT);
    this.refs[at] = slot.ref;
  }

  /** Insert a slot at `index` of a node that has room; summaries are the caller's. @hot */
  insert(node: number, index: number, slot: Slot): void {
    const count = this.counts[node] as number;
    const base = node * FAN_OUT;
    this.move(base + index, base + index + 1, count - index);
    this.set(base + index, slot);
    this.counts[node] = count + 1;
  }

  /** Remove the slot at `index`; summaries are the caller's. @hot */
  remove(node: number, index: number): void {
    const count = this.counts[node] as number;
    const base = node * FAN_OUT;
    this.move(base + index + 1, base + index, count - index - 1);
    this.counts[node] = count - 1;
  }

  /** Append the first `count` slots of `right` to `left`, and remove them there. */
  moveToLeft(left: number, right: number, count: number): void {
    const leftCount = this.counts[left] as number;
    const rightCount = this.counts[right] as number;
    this.move(right * FAN_OUT, left * FAN_OUT + leftCount, count);
    this.move(right * FAN_OUT + count, right * FAN_OUT, rightCount - count);
    this.setCounts(left, leftCount + count, right, rightCount - count);
  }

  /** Put the last `count` slots of `left` in front of those of `right`. */
  moveToRight(left: number, right: number, count: number): void {
    const leftCount = this.counts[left] as number;
    const rightCount = this.counts[right] as number;
    this.move(right * FAN_OUT, right * FAN_OUT + count, rightCount);
    this.move(left * FAN_OUT + leftCount - count, right * FAN_OUT, count);
    this.setCounts(left, leftCount - count, right, rightCount + count);
  }

  /** Set the range of slot `at` to that of the whole (non-empty) child `node`. @hot */
  copyRange(at: number, node: number): void {
    const first = node * FAN_OUT;
    const last = first + (this.counts[node] as number) - 1;
    this.startPfn[at] = this.startPfn[first] as number;
    this.lastPfn[at] = this.lastPfn[last] as number;
    this.lows[at] = this.startLow(first) | (this.lastLow(last) << LAST_LOW_SHIFT);
    this.refs[at] = node;
  }

  private setCounts(left: number, leftCount: number, right: number, rightCount: number): void {
    this.counts[left] = leftCount;
    this.counts[right] = rightCount;
    this.markAll(left);
    this.markAll(right);
  }

  /** Measured: a loop beats four `copyWithin` calls up to the 32 slots of a node (Node 20). */
  private move(from: number, to: number, count: number): void {
    const { startPfn, lastPfn, lows, refs } = this;
    const step = from < to ? -1 : 1;
    let source = step < 0 ? from + count - 1 : from;
    let target = step < 0 ? to + count - 1 : to;
    for (let i = 0; i < count; i++, source += step, target += step) {
      startPfn[target] = startPfn[source] as number;
      lastPfn[target] = lastPfn[source] as number;
      lows[target] = lows[source] as number;
      refs[target] = refs[source] as number;
    }
  }

  private grow(): void {
    const capacity = Math.ceil(this.capacity * (this.capacity < 4096 ? 2 : 1.25));
    this.startPfn = extend(this.startPfn, new Float64Array(capacity * FAN_OUT));
    this.lastPfn = extend(this.lastPfn, new Float64Array(capacity * FAN_OUT));
    this.lows = extend(this.lows, new Uint32Array(capacity * FAN_OUT));
    this.refs = extend(this.refs, new Uint32Array(capacity * FAN_OUT));
    this.counts = extend(this.counts, new Uint8Array(capacity));
    for (const summary of this.summaries) growDirty(summary, capacity);
  }
}

const growDirty = (summary: NodeSummary, capacity: number): void => {
  const dirty = new Uint32Array(capacity).fill(ALL_SLOTS);
  dirty.set(summary.dirty);
  summary.dirty = dirty;
};

const extend = <T extends Float64Array | Uint32Array | Uint8Array>(old: T, larger: T): T => {
  larger.set(old);
  return larger;
};
