/**
 * The mappings of a child table: ordered by IOVA, and findable by the parent's addresses they name.
 * @module
 */

/** One mapping of a child: `[start, last]` to the parent's addresses from `parentStart` on. */
export interface ChildRange {
  readonly start: bigint;
  readonly last: bigint;
  readonly parentStart: bigint;
  readonly parentLast: bigint;
  /** `IOPT_PROT` bits. */
  readonly prot: number;
}

/**
 * Ranges that do not overlap by IOVA, and may overlap by parent address. Looking up by parent
 * address costs what it finds: a range stands in at most two buckets of its own size class.
 */
export class ChildRanges {
  readonly #byIova: ChildRange[] = [];
  /** By lg2 of the bucket size, then by bucket. */
  readonly #classes = new Map<number, Map<bigint, Set<ChildRange>>>();

  get count(): number {
    return this.#byIova.length;
  }

  /** Every range, ascending. */
  get all(): readonly ChildRange[] {
    return this.#byIova;
  }

  add(range: ChildRange): void {
    this.#byIova.splice(this.#lowerBound(range.start), 0, range);
    const { lg2, first, last } = bucketsOf(range);
    let buckets = this.#classes.get(lg2);
    if (!buckets) {
      buckets = new Map();
      this.#classes.set(lg2, buckets);
    }
    for (let at = first; at <= last; at++) {
      const bucket = buckets.get(at);
      if (bucket) bucket.add(range);
      else buckets.set(at, new Set([range]));
    }
  }

  /** Remove ranges that stand one behind the other. */
  remove(ranges: readonly ChildRange[]): void {
    const [head] = ranges;
    if (!head) return;
    this.#byIova.splice(this.#lowerBound(head.start), ranges.length);
    for (const range of ranges) this.#unlink(range);
  }

  /** Ranges that touch `[start, last]`, ascending. */
  overlapping(start: bigint, last: bigint): ChildRange[] {
    const all = this.#byIova;
    const from = this.#lowerBound(start);
    let end = from;
    while (end < all.length && (all[end] as ChildRange).start <= last) end++;
    return all.slice(from, end);
  }

  /** Ranges that name a parent address in `[start, last]`, in no order. */
  naming(start: bigint, last: bigint): ChildRange[] {
    const found = new Set<ChildRange>();
    const look = (bucket: ReadonlySet<ChildRange> | undefined) => {
      for (const range of bucket ?? []) {
        if (range.parentStart <= last && range.parentLast >= start) found.add(range);
      }
    };
    for (const [lg2, buckets] of this.#classes) {
      const first = start >> BigInt(lg2);
      const end = last >> BigInt(lg2);
      if (end - first >= BigInt(buckets.size)) for (const bucket of buckets.values()) look(bucket);
      else for (let at = first; at <= end; at++) look(buckets.get(at));
    }
    return [...found];
  }

  #unlink(range: ChildRange): void {
    const { lg2, first, last } = bucketsOf(range);
    const buckets = this.#classes.get(lg2) as Map<bigint, Set<ChildRange>>;
    for (let at = first; at <= last; at++) {
      const bucket = buckets.get(at) as Set<ChildRange>;
      bucket.delete(range);
      if (bucket.size === 0) buckets.delete(at);
    }
    if (buckets.size === 0) this.#classes.delete(lg2);
  }

  /** Index of the first range that ends at `start` or behind. */
  #lowerBound(start: bigint): number {
    let low = 0;
    let high = this.#byIova.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#byIova[middle] as ChildRange).last < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const bucketsOf = ({ parentStart, parentLast }: ChildRange) => {
  const lg2 = (parentLast - parentStart).toString(2).length;
  return { lg2, first: parentStart >> BigInt(lg2), last: parentLast >> BigInt(lg2) };
};
