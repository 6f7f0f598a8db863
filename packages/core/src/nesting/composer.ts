/**
 * Child over parent: keeps a shadow equal to the composition of both, whichever of them changes.
 * Shadow areas are copies of the parent's areas, cut to the child's ranges: they share the parent's
 * pinned pages, so nothing is pinned or charged twice.
 * @module
 */
import type { IoPagetable, IoptDependent } from '../iopt/index.ts';
import type { ChildRange } from './child-ranges.ts';
import type { ShadowPagetable } from './shadow-pagetable.ts';

interface Span {
  readonly start: bigint;
  readonly last: bigint;
}

interface Area extends Span {
  readonly prot: number;
}

/** Keeps `shadow` in step with its children over `parent`. */
export class ShadowComposer implements IoptDependent {
  readonly parent: IoPagetable;
  readonly shadow: ShadowPagetable;

  constructor(parent: IoPagetable, shadow: ShadowPagetable) {
    this.parent = parent;
    this.shadow = shadow;
    parent.dependents.push(this);
  }

  /** Forget the parent and empty the shadow. */
  close(op: string): void {
    const { dependents } = this.parent;
    const at = dependents.indexOf(this);
    if (at >= 0) dependents.splice(at, 1);
    this.shadow.edit(() => this.shadow.unmapAll(op));
  }

  /** Add a child range where there is none; what the parent maps of it works at once. */
  add(op: string, child: ChildRange): void {
    this.shadow.edit(() => this.#fill(op, child, child.parentStart, child.parentLast));
    this.shadow.children.add(child);
  }

  /** Remove whole child ranges that stand one behind the other. When refused, all stay. */
  remove(op: string, children: readonly ChildRange[]): void {
    this.shadow.edit(() => {
      try {
        for (const { start, last } of children) this.#clear(op, { start, last });
      } catch (error) {
        this.#refill(op, children);
        throw error;
      }
    });
    this.shadow.children.remove(children);
  }

  mapped(op: string, start: bigint, last: bigint): void {
    this.shadow.edit(() => {
      for (const child of this.shadow.children.naming(start, last)) {
        this.#fill(op, child, max(start, child.parentStart), min(last, child.parentLast));
      }
    });
  }

  unmapping(op: string, start: bigint, last: bigint): void {
    const children = this.shadow.children.naming(start, last);
    this.shadow.edit(() => {
      try {
        for (const child of children) this.#withdraw(op, child, start, last);
      } catch (error) {
        this.#refill(op, children);
        throw error;
      }
    });
  }

  /**
   * Take the part of a child out that names the parent's `[start, last]`. A shadow area reaches
   * beyond it when the parent's area was cut after it was copied: the rest is copied anew.
   */
  #withdraw(op: string, child: ChildRange, start: bigint, last: bigint): void {
    const { parentStart, parentLast } = child;
    const toIova = child.start - parentStart;
    const gone = { start: max(start, parentStart), last: min(last, parentLast) };
    const removed = this.#clear(op, { start: gone.start + toIova, last: gone.last + toIova });
    for (const area of removed) {
      const from = area.start - toIova;
      const to = area.last - toIova;
      if (from < gone.start) this.#fill(op, child, from, gone.start - 1n);
      if (to > gone.last) this.#fill(op, child, gone.last + 1n, to);
    }
  }

  /** Copy what the parent maps in `[from, to]`, a part of what the child names; all or nothing. */
  #fill(op: string, child: ChildRange, from: bigint, to: bigint): void {
    const { parent, shadow } = this;
    const done: Span[] = [];
    try {
      for (const area of areasIn(parent, from, to)) {
        const start = max(area.start, from);
        const last = min(area.last, to);
        const prot = area.prot & child.prot;
        const iova = child.start + (start - child.parentStart);
        const end = iova + (last - start);
        if (prot === 0 || areasIn(shadow, iova, end).length > 0) continue;
        const length = last - start + 1n;
        shadow.mapPages(parent.getPages(start, length, op), length, prot, iova, op);
        done.push({ start: iova, last: end });
      }
    } catch (error) {
      for (const { start, last } of done) shadow.unmap(start, last - start + 1n, op);
      throw error;
    }
  }

  /** Unmap every shadow area that touches a span. */
  #clear(op: string, { start, last }: Span): readonly Area[] {
    const areas = areasIn(this.shadow, start, last);
    const [first] = areas;
    const end = areas.at(-1);
    if (first && end) this.shadow.unmap(first.start, end.last - first.start + 1n, op);
    return areas;
  }

  /** Give children back what a refused change took from them. */
  #refill(op: string, children: readonly ChildRange[]): void {
    for (const child of children) {
      try {
        this.#fill(op, child, child.parentStart, child.parentLast);
      } catch {
        // The refusal that counts is the one being reported; the range waits until it can be filled.
      }
    }
  }
}

const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);

/** Areas that touch `[start, last]`, ascending. */
const areasIn = ({ areas }: IoPagetable, start: bigint, last: bigint): Area[] => {
  const found: Area[] = [];
  const { tree } = areas;
  for (
    let more = tree.seek(Number(start >> 12n), Number(start & 0xfffn));
    more;
    more = tree.advance()
  ) {
    const areaStart = BigInt(areas.start);
    if (areaStart > last) break;
    found.push({ start: areaStart, last: BigInt(areas.last), prot: areas.prot(tree.id) });
  }
  return found;
};
