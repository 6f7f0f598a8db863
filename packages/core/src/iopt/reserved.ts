/**
 * Which IOVAs may be used: ranges reserved by devices and domains, and the list a program allows
 * for automatic choice. Both are short; they are kept sorted, with the merged form beside them.
 * @module
 */
import { hex } from '@iommukit/bits';
import { refuse } from '../errors.ts';
import type { AllocationHook } from '../memory/index.ts';
import {
  checkU64,
  fromPair,
  LOW_MASK,
  lowOf,
  MAX_PFN,
  pfnOf,
  rangeText,
  type U64,
} from './address.ts';

/** A range of IOVAs, `last` inclusive. */
export interface IovaRange {
  readonly start: U64;
  readonly last: U64;
}

/** A reserved range and whose it is. */
export interface ReservedRange extends IovaRange {
  /** The device or domain that goes with it. */
  readonly owner: unknown;
  /** What it is, for people: `'MSI window of nic0'`, `'below the aperture of HWPT 3'`. */
  readonly label: string;
}

/** Sorted, disjoint, non-touching ranges as arrays of pairs. */
export class RangeArrays {
  readonly startPfn: number[] = [];
  readonly startLow: number[] = [];
  readonly lastPfn: number[] = [];
  readonly lastLow: number[] = [];

  /** Ranges there are. */
  get count(): number {
    return this.startPfn.length;
  }

  /** Append a range at or behind the last one; touching ranges become one. */
  append(range: IovaRange): void {
    const end = this.count - 1;
    const pfn = pfnOf(range.start);
    const low = lowOf(range.start);
    const lastPfn = pfnOf(range.last);
    const lastLow = lowOf(range.last);
    if (end >= 0 && !isBehind(pfn, low, this.lastPfn[end] as number, this.lastLow[end] as number)) {
      const grows = isAbove(
        lastPfn,
        lastLow,
        this.lastPfn[end] as number,
        this.lastLow[end] as number,
      );
      if (grows) {
        this.lastPfn[end] = lastPfn;
        this.lastLow[end] = lastLow;
      }
      return;
    }
    this.startPfn.push(pfn);
    this.startLow.push(low);
    this.lastPfn.push(lastPfn);
    this.lastLow.push(lastLow);
  }

  /** Index of the first range that ends at or above an address. */
  indexFrom(pfn: number, low: number): number {
    let from = 0;
    let to = this.count;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (isAbove(pfn, low, this.lastPfn[middle] as number, this.lastLow[middle] as number)) {
        from = middle + 1;
      } else to = middle;
    }
    return from;
  }
}

const isAbove = (aPfn: number, aLow: number, bPfn: number, bLow: number): boolean =>
  aPfn > bPfn || (aPfn === bPfn && aLow > bLow);

/** Whether `a` is more than one above `b` (so that a range at `a` does not touch one ending at `b`). */
const isBehind = (aPfn: number, aLow: number, bPfn: number, bLow: number): boolean =>
  bLow === LOW_MASK ? isAbove(aPfn, aLow, bPfn + 1, 0) : isAbove(aPfn, aLow, bPfn, bLow + 1);

const overlaps = (a: IovaRange, b: IovaRange): boolean => a.start <= b.last && b.start <= a.last;

const byStart = (a: IovaRange, b: IovaRange): number =>
  a.start < b.start ? -1 : a.start > b.start ? 1 : 0;

const mergedOf = (sorted: readonly IovaRange[]): RangeArrays => {
  const merged = new RangeArrays();
  for (const range of sorted) merged.append(range);
  return merged;
};

/** Reserved ranges of one I/O address space; they may overlap each other. */
export class ReservedRanges {
  /** Union of all ranges. */
  merged = new RangeArrays();
  private sorted: ReservedRange[] = [];

  /** All ranges, ascending by start. */
  get all(): readonly ReservedRange[] {
    return this.sorted;
  }

  /** Reserve a range (overlaps with other reservations are fine). */
  add(range: ReservedRange): void {
    this.sorted.push(range);
    this.rebuild();
  }

  /** Drop every range of an owner. */
  removeOwner(owner: unknown): void {
    const kept = this.sorted.filter((range) => range.owner !== owner);
    if (kept.length === this.sorted.length) return;
    this.sorted = kept;
    this.rebuild();
  }

  /** The lowest reservation that touches a range. */
  conflict(range: IovaRange): ReservedRange | undefined {
    return this.sorted.find((reserved) => overlaps(reserved, range));
  }

  /** Whether a range touches a reservation. @hot */
  touches(startPfn: number, startLow: number, lastPfn: number, lastLow: number): boolean {
    const { merged } = this;
    const at = merged.indexFrom(startPfn, startLow);
    if (at === merged.count) return false;
    return !isAbove(merged.startPfn[at] as number, merged.startLow[at] as number, lastPfn, lastLow);
  }

  /** What is not reserved, over all 64 bits (`IOMMU_IOAS_IOVA_RANGES`). */
  holes(): IovaRange[] {
    const { merged } = this;
    const holes: IovaRange[] = [];
    let pfn = 0;
    let low = 0;
    for (let i = 0; i < merged.count; i++) {
      const startPfn = merged.startPfn[i] as number;
      const startLow = merged.startLow[i] as number;
      if (isAbove(startPfn, startLow, pfn, low)) {
        const borrow = startLow === 0;
        const last = fromPair(borrow ? startPfn - 1 : startPfn, borrow ? LOW_MASK : startLow - 1);
        holes.push({ start: fromPair(pfn, low), last });
      }
      pfn = merged.lastPfn[i] as number;
      low = (merged.lastLow[i] as number) + 1;
      if (low > LOW_MASK) {
        low = 0;
        pfn++;
      }
    }
    if (pfn <= MAX_PFN) {
      holes.push({ start: fromPair(pfn, low), last: fromPair(MAX_PFN, LOW_MASK) });
    }
    return holes;
  }

  /** Replace all, for a snapshot. */
  load(ranges: readonly ReservedRange[]): void {
    this.sorted = [...ranges];
    this.rebuild();
  }

  private rebuild(): void {
    this.sorted.sort(byStart);
    this.merged = mergedOf(this.sorted);
  }
}

/** The ranges a program allows for automatic choice; an empty list allows everything. */
export class AllowedRanges {
  /** Union of all ranges, touching ones as one. */
  readonly merged: RangeArrays;
  /** Ascending, disjoint. */
  readonly all: readonly IovaRange[];

  constructor(ranges: readonly IovaRange[] = []) {
    this.all = [...ranges].sort(byStart);
    this.merged = mergedOf(this.all);
  }

  /** The lowest entry that touches a range. */
  conflict(range: IovaRange): IovaRange | undefined {
    return this.all.find((allowed) => overlaps(allowed, range));
  }
}

/** Takes the entries of `IOMMU_IOAS_ALLOW_IOVAS` one by one, as Linux reads them. */
export class AllowedListBuilder {
  private readonly sorted: IovaRange[] = [];
  private readonly op: string;
  private readonly shouldFail: AllocationHook;

  constructor(shouldFail: AllocationHook, op = 'IOMMU_IOAS_ALLOW_IOVAS') {
    this.shouldFail = shouldFail;
    this.op = op;
  }

  /**
   * Add an entry.
   *
   * @throws {IommuError} EINVAL for `start >= last` (also a single byte), or over an earlier entry;
   * ENOMEM
   */
  add(start: U64, last: U64): void {
    checkU64(this.op, 'start', start);
    checkU64(this.op, 'last', last);
    if (start >= last) {
      throw refuse(
        'EINVAL',
        this.op,
        'range-order',
        `start ${hex(start)} is not below last ${hex(last)}`,
        {
          range: { start, last },
          accepted: 'start < last',
        },
      );
    }
    const at = this.indexFrom(start);
    const next = this.sorted[at];
    if (next && next.start <= last) {
      throw refuse(
        'EINVAL',
        this.op,
        'range-overlap',
        `${rangeText(start, last)} touches another entry`,
        {
          range: next,
          accepted: 'entries that do not overlap (they may touch)',
        },
      );
    }
    if (this.shouldFail('allowed')) {
      throw refuse('ENOMEM', this.op, 'out-of-memory', 'no memory for an allowed range');
    }
    this.sorted.splice(at, 0, { start, last });
  }

  /** The list so far. */
  build(): AllowedRanges {
    return new AllowedRanges(this.sorted);
  }

  /** Index of the first entry that ends at or above an address. */
  private indexFrom(start: U64): number {
    let low = 0;
    let high = this.sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.sorted[middle] as IovaRange).last < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
