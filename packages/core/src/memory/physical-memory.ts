/**
 * Host physical memory of a machine: RAM regions at physical addresses, and the page frames in
 * them. Addresses are byte addresses below 2^53, as `number`.
 * @module
 */
import { hex } from '@iommukit/bits';
import { refuse } from '../errors.ts';
import type { MemoryState, RegionState } from '../snapshot/memory-state.ts';
import { type AllocationHook, failsAllocation } from './allocation.ts';
import type { FrameBitmap } from './frame-bitmap.ts';
import {
  type BackedRegion,
  type BackedRegionOptions,
  type MemoryRegion,
  PAGE_BYTES,
  Ram,
  type RegionOptions,
} from './memory-region.ts';
import { PageFrames } from './page-frames.ts';
import { usersOf } from './user-account.ts';

const MAX_REGION_BYTES = 2 ** 32;
const ENOMEM = -12;
/** Allocations up to this many frames are always cleared, larger ones only where used before. */
const ALWAYS_CLEAR_FRAMES = 256;

/** What `regionAt` looks at when no region was hit yet: contains no address. */
const NO_REGION = { base: 0, size: 0 } as Ram;

/** Copies up to this size go byte by byte: 4 bytes are there before a view of them is made. */
const BYTEWISE = 16;

/**
 * RAM at physical addresses. Control calls throw; reads and writes answer a bus error as data.
 */
export class PhysicalMemory {
  /** Counts of pins and owners per frame, machine-wide. */
  readonly pages = new PageFrames();
  /** Called after writes that pass through this class, for sanitizers; costs nothing when unset. */
  onWrite: ((pa: number, lengthBytes: number) => void) | undefined = undefined;
  /**
   * Asked before every allocation on this machine that a kernel could fail, `allocPages` among
   * them; for tests that fail each in turn. Nothing is asked when unset.
   */
  shouldFail: AllocationHook | undefined = undefined;
  private readonly regions: Ram[] = [];
  private lastHit: Ram = NO_REGION;

  /**
   * Add zeroed RAM.
   *
   * @throws {IommuError} EINVAL for a misaligned or too large range; EEXIST over another region
   */
  addRegion(options: RegionOptions): MemoryRegion {
    this.checkRange('addRegion', options);
    const region = new Ram(options);
    this.insert(region);
    this.pages.addRange(region.base / PAGE_BYTES, region.size / PAGE_BYTES);
    return region;
  }

  /**
   * Add a region over a buffer that belongs to somebody else, a page-table pool in WebAssembly
   * memory for instance. `allocPages` takes nothing from it.
   *
   * @throws {IommuError} EINVAL for a misaligned or too large range; EEXIST over another region
   */
  addBackedRegion(options: BackedRegionOptions): BackedRegion {
    this.checkRange('addBackedRegion', options);
    if (options.byteOffset % 4 !== 0) {
      throw refuse('EINVAL', 'addBackedRegion', 'buffer-offset', 'byteOffset must be 4-aligned', {
        value: options.byteOffset,
        accepted: 'a multiple of 4',
      });
    }
    const region = new Ram(options, options);
    this.insert(region);
    return region;
  }

  /**
   * The region that holds a byte address; undefined = nothing answers (bus error).
   * @hot
   */
  regionAt(pa: number): MemoryRegion | undefined {
    const last = this.lastHit;
    const offset = pa - last.base;
    if (offset >= 0 && offset < last.size) return last;
    return this.search(pa);
  }

  /**
   * @param pa 4-aligned byte address
   * @returns the u32, or -1 when nothing answers
   * @hot
   */
  read32(pa: number): number {
    const region = this.regionAt(pa);
    return region === undefined ? -1 : (region.i32[(pa - region.base) >>> 2] as number) >>> 0;
  }

  /**
   * @param pa 4-aligned byte address
   * @param value low 32 bits count
   * @returns false when nothing answers
   * @hot
   */
  write32(pa: number, value: number): boolean {
    const region = this.regionAt(pa);
    if (region === undefined) return false;
    region.i32[(pa - region.base) >>> 2] = value;
    if (this.onWrite !== undefined) this.onWrite(pa, 4);
    return true;
  }

  /**
   * Read the u64 at `pa` (8-aligned) into `out[at]` (low half) and `out[at + 1]`.
   *
   * @returns false when nothing answers
   * @hot
   */
  read64(pa: number, out: Uint32Array | Int32Array, at = 0): boolean {
    const region = this.regionAt(pa);
    if (region === undefined) return false;
    const index = (pa - region.base) >>> 2;
    out[at] = region.i32[index] as number;
    out[at + 1] = region.i32[index + 1] as number;
    return true;
  }

  /**
   * Write a u64 at `pa` (8-aligned) from its halves.
   *
   * @returns false when nothing answers
   * @hot
   */
  write64(pa: number, lo: number, hi: number): boolean {
    const region = this.regionAt(pa);
    if (region === undefined) return false;
    const index = (pa - region.base) >>> 2;
    region.i32[index] = lo;
    region.i32[index + 1] = hi;
    if (this.onWrite !== undefined) this.onWrite(pa, 8);
    return true;
  }

  /** Copy memory to `target`; returns bytes done before the first hole. */
  copyOut(pa: number, target: Uint8Array): number {
    let done = 0;
    while (done < target.length) {
      const region = this.regionAt(pa + done);
      if (region === undefined) break;
      const from = pa + done - region.base;
      const count = Math.min(target.length - done, region.size - from);
      const { u8 } = region;
      if (count <= BYTEWISE)
        for (let i = 0; i < count; i++) target[done + i] = u8[from + i] as number;
      else target.set(u8.subarray(from, from + count), done);
      done += count;
    }
    return done;
  }

  /** Copy `source` to memory; returns bytes done before the first hole. */
  copyIn(pa: number, source: Uint8Array): number {
    let done = 0;
    while (done < source.length) {
      const region = this.regionAt(pa + done);
      if (region === undefined) break;
      const to = pa + done - region.base;
      const count = Math.min(source.length - done, region.size - to);
      const { u8 } = region;
      if (count <= BYTEWISE)
        for (let i = 0; i < count; i++) u8[to + i] = source[done + i] as number;
      else u8.set(source.subarray(done, done + count), to);
      done += count;
    }
    if (done > 0 && this.onWrite !== undefined) this.onWrite(pa, done);
    return done;
  }

  /** The bytes themselves, when `[pa, pa + length)` lies inside one region. */
  view(pa: number, length: number): Uint8Array | undefined {
    const region = this.regionAt(pa);
    if (region === undefined || pa - region.base + length > region.size) return undefined;
    return region.u8.subarray(pa - region.base, pa - region.base + length);
  }

  /**
   * Take physically contiguous page frames: the lowest hole that is large enough. The frames are
   * zero. (Above 1 MiB only frames that were handed out before are cleared: RAM starts zeroed, and
   * touching gigabytes of it would commit them.)
   *
   * @param count frames of 4096 bytes
   * @param options `alignPages`: the base is a multiple of this many frames
   * @returns byte address of the first frame, or -12 (ENOMEM)
   */
  allocPages(count: number, options: { readonly alignPages?: number } = {}): number {
    const align = options.alignPages ?? 1;
    if (!(count >= 1) || !(align >= 1)) return ENOMEM;
    if (failsAllocation(this, 'frames')) return ENOMEM;
    for (const region of this.regions) {
      if (region.frames === undefined) continue;
      const start = region.frames.take(count, align, (region.base / PAGE_BYTES) % align);
      if (start < 0) continue;
      clearFrames(region, start, count);
      return region.base + start * PAGE_BYTES;
    }
    return ENOMEM;
  }

  /**
   * Give frames back.
   *
   * @throws {IommuError} EINVAL when some of them are not taken or are no RAM
   */
  freePages(base: number, count: number): void {
    const region = this.search(base);
    const start = region ? (base - region.base) / PAGE_BYTES : 0;
    if (
      !region?.frames ||
      !Number.isInteger(start) ||
      start + count > region.frames.count ||
      !region.frames.isTaken(start, count)
    ) {
      throw frameRefusal('freePages', base, count, 'frames that allocPages gave out');
    }
    region.frames.mark(start, count, false);
  }

  /**
   * Keep frames out of `allocPages`, for an image placed at a fixed address for instance.
   *
   * @throws {IommuError} EINVAL when some of them are taken or are no RAM
   */
  reservePages(base: number, count: number): void {
    const region = this.search(base);
    const start = region ? (base - region.base) / PAGE_BYTES : 0;
    if (
      !region?.frames ||
      !Number.isInteger(start) ||
      start + count > region.frames.count ||
      !region.frames.isFree(start, count)
    ) {
      throw frameRefusal('reservePages', base, count, 'free frames of one RAM region');
    }
    region.frames.mark(start, count, true);
    region.stale?.mark(start, count, true);
  }

  /** Frames that `allocPages` can still give out. */
  get freePageCount(): number {
    let free = 0;
    for (const { frames } of this.regions) if (frames) free += frames.count - frames.usedCount;
    return free;
  }

  /** Regions whose bytes a snapshot carries, ascending. */
  get carriedRegions(): {
    readonly name: string;
    readonly base: number;
    readonly size: number;
    readonly isRam: boolean;
  }[] {
    return this.regions
      .filter(({ carried }) => carried)
      .map(({ name, base, size, frames }) => ({ name, base, size, isRam: frames !== undefined }));
  }

  /** Regions whose bytes a snapshot carries, with their frames, counts and accounts. */
  save(): MemoryState {
    const regions = this.regions.filter(({ carried }) => carried).map((region) => region.save());
    return { regions, counts: this.pages.save(), users: usersOf(this).save() };
  }

  /**
   * Put a state of the same regions back.
   *
   * @param now the state of this memory as it is
   */
  load({ regions, counts, users }: MemoryState, now: MemoryState): void {
    const carried = this.regions.filter((region) => region.carried);
    regions.forEach((state, index) => {
      (carried[index] as Ram).load(state, now.regions[index] as RegionState);
    });
    this.pages.load(counts);
    usersOf(this).load(users);
  }

  private search(pa: number): Ram | undefined {
    let low = 0;
    let high = this.regions.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const region = this.regions[middle] as Ram;
      if (pa < region.base) high = middle - 1;
      else if (pa >= region.base + region.size) low = middle + 1;
      else {
        this.lastHit = region;
        return region;
      }
    }
    return undefined;
  }

  private insert(region: Ram): void {
    const after = this.regions.findIndex((other) => other.base > region.base);
    this.regions.splice(after < 0 ? this.regions.length : after, 0, region);
  }

  private checkRange(op: string, { name, base, size }: RegionOptions): void {
    const aligned = base >= 0 && base % PAGE_BYTES === 0 && size > 0 && size % PAGE_BYTES === 0;
    if (!aligned || size > MAX_REGION_BYTES || !Number.isSafeInteger(base + size)) {
      throw refuse('EINVAL', op, 'region-range', `region '${name}' has a bad base or size`, {
        range: { start: base, last: base + size - 1 },
        accepted: 'base and size multiples of 4096, size 4096 to 2^32 bytes',
      });
    }
    const other = this.regions.find((r) => base < r.base + r.size && r.base < base + size);
    if (other) {
      throw refuse('EEXIST', op, 'region-overlap', `region '${name}' lies over '${other.name}'`, {
        range: { start: base, last: base + size - 1 },
        owner: other.name,
        accepted: `a range that does not touch ${hex(other.base)}..${hex(other.base + other.size - 1)}`,
      });
    }
  }
}

const clearFrames = (region: Ram, start: number, count: number): void => {
  const stale = region.stale as FrameBitmap;
  if (count <= ALWAYS_CLEAR_FRAMES || stale.isTaken(start, count)) {
    region.u8.fill(0, start * PAGE_BYTES, (start + count) * PAGE_BYTES);
  } else if (!stale.isFree(start, count)) {
    for (let at = start; at < start + count; at++) {
      if (stale.isTaken(at, 1)) region.u8.fill(0, at * PAGE_BYTES, (at + 1) * PAGE_BYTES);
    }
  }
  stale.mark(start, count, true);
};

const frameRefusal = (op: string, base: number, count: number, accepted: string) =>
  refuse('EINVAL', op, 'page-frames', `${count} frames at ${hex(base)} cannot be taken that way`, {
    range: { start: base, last: base + count * PAGE_BYTES - 1 },
    accepted,
  });
