/**
 * The class of the page tables of one engine on one shard. Engine functions are constants of the
 * enclosing function: measured, a call through them costs 5 ns, through an interface of closures 10-14 ns.
 * @module
 */
import type { Engine } from '../engine/engine.ts';
import { ERRNO } from '../errno.ts';
import type { PageTableFormat } from '../formats/format.ts';
import { CONTROL, levelsOf, rootOf, SCRATCH_BYTES } from '../pool/pool-layout.ts';
import type { Shard } from '../pool/shard.ts';
import type { WalkTrace } from '../walk/walk-trace.ts';
import { createWalker, type Walker, type WalkMemory } from '../walk/walker.ts';
import type { LeafRecord, PageTable, TableStats } from './page-table.ts';
import { DIRTY, PROT } from './page-table.ts';

/** Runs that fit in the scratch area. */
const SCRATCH_RUNS = SCRATCH_BYTES / 16;
/** Frames that fit in the scratch area. */
const SCRATCH_FRAMES = SCRATCH_BYTES / 8;
/** From here on a copy by subarray is faster than one by a loop, its two small objects included. */
const BULK_FRAMES = 256;
/** Bitmap bits of one engine call: 1 GiB of 4 KiB frames, with room for an odd first bit. */
const BITMAP_BITS = 262_144;
/** Bitmaps up to this many bytes are merged byte by byte, larger ones copied in and out. */
const SMALL_BITMAP_BYTES = 64;
/** Engine flag: leaves that reach behind the range are cleaned by the next call. */
const DIRTY_MORE = 2;
/** A freed-tables handle: count * 2^20 + page of the first. */
const HANDLE_PAGES = 2 ** 20;

const ACCESS = PROT.READ | PROT.WRITE;
const UNKNOWN = ~Object.values(PROT).reduce((all, bit) => all | bit, 0);

/** Constructor of a table class. */
export type TableClass = new (format: PageTableFormat, block: number) => PageTable;

/** Defines the class for `engine` on `shard`. Formats that share an engine have equal granules. */
export function defineTableClass(shard: Shard, engine: Engine, granule: number): TableClass {
  const { mapOne, mapRange, unmapOne, unmapRange, translate, setAccessedDirty } = engine;
  const memory: WalkMemory = {
    regionAt: (pa) => (pa >= shard.base && pa < shard.base + shard.size ? shard : undefined),
  };

  return class Table implements PageTable {
    readonly format: PageTableFormat;
    #block: number;
    /** What the engine's translate takes: the top word, or the control block of a growing table. */
    #handle: number;
    #walker: Walker | undefined;
    #listAt = 0;

    constructor(format: PageTableFormat, block: number) {
      this.format = format;
      this.#block = block;
      this.#handle = format.growing ? block : this.#top;
    }

    get #top(): number {
      return shard.words[(this.#block >>> 2) + CONTROL.TOP] as number;
    }

    get rootPa(): number {
      return shard.base - shard.byteOffset + rootOf(this.#top);
    }

    get levels(): number {
      return levelsOf(this.#top);
    }

    get iovaBits(): number {
      return this.format.iovaBits;
    }

    get oaBits(): number {
      return this.format.oaBits;
    }

    get pageSizesLg2(): readonly number[] {
      return this.format.pageSizesLg2;
    }

    mapRange(iovaPfn: number, oaPfn: number, countPages: number, prot: number): number {
      if ((prot & ACCESS) === 0 || (prot & UNKNOWN) !== 0) return ERRNO.EINVAL;
      return countPages === granule
        ? mapOne(this.#block, iovaPfn, oaPfn, prot)
        : mapRange(this.#block, iovaPfn, oaPfn, countPages, prot);
    }

    mapRuns(iovaPfn: number, runs: Float64Array, runCount: number, prot: number): number {
      if ((prot & ACCESS) === 0 || (prot & UNKNOWN) !== 0) return ERRNO.EINVAL;
      if (!(runCount >= 1 && runCount * 2 <= runs.length)) return ERRNO.EINVAL;
      let frames = 0;
      for (let i = 0; i < runCount; i++) frames += runs[i * 2 + 1] as number;
      const begun = engine.beginRuns(this.#block, iovaPfn, frames, prot);
      if (begun !== 0) return begun;
      const error = this.#eachBlockOfRuns(iovaPfn, runs, runCount, true);
      if (error !== 0) return error;
      if (runCount <= SCRATCH_RUNS) engine.writeRuns(this.#block, iovaPfn, runCount);
      else this.#eachBlockOfRuns(iovaPfn, runs, runCount, false);
      return 0;
    }

    /** Plans or writes runs in blocks of the scratch area's size. */
    #eachBlockOfRuns(iovaPfn: number, runs: Float64Array, runCount: number, plan: boolean): number {
      let iova = iovaPfn;
      for (let at = 0; at < runCount; at += SCRATCH_RUNS) {
        const n = Math.min(SCRATCH_RUNS, runCount - at);
        const scratch = shard.scratchF64;
        let frames = 0;
        for (let i = 0; i < n * 2; i += 2) {
          scratch[i] = runs[at * 2 + i] as number;
          scratch[i + 1] = runs[at * 2 + i + 1] as number;
          frames += scratch[i + 1] as number;
        }
        if (plan) {
          const error = engine.planRuns(this.#block, iova, n, at + n === runCount);
          if (error !== 0) return error;
        } else engine.writeRuns(this.#block, iova, n);
        iova += frames;
      }
      return 0;
    }

    mapList(iovaPfn: number, oaPfns: Float64Array, count: number, prot: number): number {
      if ((prot & ACCESS) === 0 || (prot & UNKNOWN) !== 0) return ERRNO.EINVAL;
      if (!(count >= 1 && count <= oaPfns.length)) return ERRNO.EINVAL;
      const begun = engine.beginRuns(this.#block, iovaPfn, count * granule, prot);
      if (begun !== 0) return begun;
      const error = this.#eachBlockOfList(iovaPfn, oaPfns, count, true);
      if (error < 0) return error;
      if (error > 1) this.#eachBlockOfList(iovaPfn, oaPfns, count, false);
      return 0;
    }

    /** Plans or writes a list block by block; errno, or the blocks there were. One block is written at once. */
    #eachBlockOfList(iovaPfn: number, oaPfns: Float64Array, count: number, plan: boolean): number {
      let blocks = 0;
      this.#listAt = 0;
      while (this.#listAt < count) {
        const from = this.#listAt;
        const runs = this.#listToRuns(oaPfns, count);
        const last = this.#listAt === count;
        const iova = iovaPfn + from * granule;
        blocks++;
        if (plan) {
          const error = engine.planRuns(this.#block, iova, runs, last);
          if (error !== 0) return error;
          if (!last || blocks > 1) continue;
        }
        engine.writeRuns(this.#block, iova, runs);
      }
      return blocks;
    }

    /** Moves list entries from `#listAt` on to the scratch area as runs; returns how many. */
    #listToRuns(oaPfns: Float64Array, count: number): number {
      const scratch = shard.scratchF64;
      let at = this.#listAt;
      let runs = 0;
      while (at < count && runs < SCRATCH_RUNS) {
        const first = oaPfns[at++] as number;
        let next = first + granule;
        while (at < count && oaPfns[at] === next) {
          next += granule;
          at++;
        }
        scratch[runs * 2] = first;
        scratch[runs * 2 + 1] = next - first;
        runs++;
      }
      this.#listAt = at;
      return runs;
    }

    unmapRange(iovaPfn: number, countPages: number): number {
      return countPages === granule
        ? unmapOne(this.#block, iovaPfn)
        : unmapRange(this.#block, iovaPfn, countPages);
    }

    translate(iovaPfn: number): number {
      return translate(this.#handle, iovaPfn);
    }

    translateBatch(iovaPfns: Float64Array, out: Float64Array, count: number): void {
      for (let at = 0; at < count; at += SCRATCH_FRAMES) {
        const n = Math.min(SCRATCH_FRAMES, count - at);
        const scratch = shard.scratchF64;
        if (n >= BULK_FRAMES) scratch.set(iovaPfns.subarray(at, at + n));
        else for (let i = 0; i < n; i++) scratch[i] = iovaPfns[at + i] as number;
        engine.translateBatch(this.#handle, n);
        if (n >= BULK_FRAMES) out.set(scratch.subarray(0, n), at);
        else for (let i = 0; i < n; i++) out[at + i] = scratch[i] as number;
      }
    }

    readRuns(iovaPfn: number, countPages: number, out: Float64Array): number {
      const capacity = out.length >>> 1;
      let runs = 0;
      let done = 0;
      do {
        const room = Math.min(SCRATCH_RUNS, capacity - runs);
        const n = engine.readRuns(this.#block, iovaPfn + done, countPages - done, room);
        if (n <= 0) return n < 0 ? n : runs;
        const scratch = shard.scratchF64;
        for (let i = 0; i < n * 2; i += 2) {
          out[runs * 2 + i] = scratch[i] as number;
          out[runs * 2 + i + 1] = scratch[i + 1] as number;
          done += scratch[i + 1] as number;
        }
        runs += n;
      } while (done < countPages && runs < capacity);
      return runs;
    }

    readAndClearDirty(
      iovaPfn: number,
      countPages: number,
      bitmap: Uint8Array,
      bitOffset: number,
      flags = 0,
      pagesPerBitLg2 = 0,
    ): number {
      if ((flags & ~DIRTY.NO_CLEAR) !== 0 || !(pagesPerBitLg2 >= 0 && pagesPerBitLg2 <= 40)) {
        return ERRNO.EINVAL;
      }
      const perBit = 2 ** pagesPerBitLg2;
      const bits = Math.ceil(countPages / perBit);
      if (!(bitOffset >= 0 && bitOffset + bits <= bitmap.length * 8)) return ERRNO.EINVAL;
      let dirty = 0;
      for (let bit = 0; bit < bits; bit += BITMAP_BITS) {
        const first = bit * perBit;
        const frames = Math.min(BITMAP_BITS * perBit, countPages - first);
        const n = Math.min(BITMAP_BITS, bits - bit);
        const last = bit + n === bits;
        const found = this.#dirtyBlock(
          iovaPfn + first,
          frames,
          bitmap,
          bitOffset + bit,
          n,
          last ? flags : flags | DIRTY_MORE,
          pagesPerBitLg2,
        );
        if (found < 0) return found;
        dirty += found;
      }
      return dirty;
    }

    /** One engine call: bits `[bit, bit + n)` of the caller's bitmap through the scratch area. */
    #dirtyBlock(
      iovaPfn: number,
      frames: number,
      bitmap: Uint8Array,
      bit: number,
      n: number,
      flags: number,
      pagesPerBitLg2: number,
    ): number {
      const block = this.#block;
      const from = Math.floor(bit / 8);
      const odd = bit % 8;
      const bytes = (odd + n + 7) >>> 3;
      const scratch = shard.scratchU8;
      if (bytes > SMALL_BITMAP_BYTES) {
        scratch.set(bitmap.subarray(from, from + bytes));
        const found = engine.readAndClearDirty(block, iovaPfn, frames, odd, pagesPerBitLg2, flags);
        if (found > 0) bitmap.set(scratch.subarray(0, bytes), from);
        return found;
      }
      for (let i = 0; i < bytes; i++) scratch[i] = 0;
      const found = engine.readAndClearDirty(block, iovaPfn, frames, odd, pagesPerBitLg2, flags);
      if (found > 0) {
        for (let i = 0; i < bytes; i++) {
          bitmap[from + i] = (bitmap[from + i] as number) | (scratch[i] as number);
        }
      }
      return found;
    }

    setAccessedDirty(iovaPfn: number, write: boolean): number {
      return setAccessedDirty(this.#block, iovaPfn, write);
    }

    splitLeaf(iovaPfn: number, pageLg2 = this.format.granuleLg2): number {
      const { frameLg2, pageSizesLg2 } = this.format;
      if (!pageSizesLg2.includes(pageLg2)) return ERRNO.EINVAL;
      return engine.splitLeaf(this.#block, iovaPfn, pageLg2 - frameLg2);
    }

    mergeLeaves(iovaPfn: number, countPages: number, maxPageLg2 = 63): number {
      const { frameLg2, granuleLg2 } = this.format;
      if (!(maxPageLg2 >= granuleLg2 && maxPageLg2 <= 63)) return ERRNO.EINVAL;
      return engine.mergeLeaves(
        this.#block,
        iovaPfn,
        countPages,
        Math.min(maxPageLg2 - frameLg2, 52),
      );
    }

    walk(iovaPfn: number, trace: WalkTrace): number {
      this.#walker ??= createWalker(this.format);
      return this.#walker.walk(memory, this.rootPa, this.levels, iovaPfn, trace);
    }

    nextLeaf(iovaPfn: number, endPfn: number, leaf: LeafRecord): boolean {
      if (engine.nextLeaf(this.#block, iovaPfn, endPfn) === 0) return false;
      const scratch = shard.scratchF64;
      leaf.iovaPfn = scratch[0] as number;
      leaf.oaPfn = scratch[1] as number;
      leaf.pages = scratch[2] as number;
      leaf.level = scratch[3] as number;
      leaf.wordLo = scratch[4] as number;
      leaf.wordHi = scratch[5] as number;
      return true;
    }

    takeFreedTables(): number {
      const at = this.#block >>> 2;
      const { words } = shard;
      const count = words[at + CONTROL.FREED_COUNT] as number;
      if (count === 0) return 0;
      const page = (words[at + CONTROL.FREED_HEAD] as number) >>> 12;
      words[at + CONTROL.FREED_COUNT] = 0;
      words[at + CONTROL.FREED_HEAD] = 0;
      return count * HANDLE_PAGES + page;
    }

    freeTables(handle: number): void {
      if (handle === 0) return;
      const page = handle % HANDLE_PAGES;
      engine.releaseList(page * 4096, (handle - page) / HANDLE_PAGES, this.format.order);
    }

    destroy(): void {
      const block = this.#block;
      if (block === 0) return;
      engine.freeAll(block);
      this.freeTables(this.takeFreedTables());
      engine.release(rootOf(this.#top), this.format.rootOrder);
      shard.releaseControlBlock(block);
      this.#block = 0;
      this.#handle = 0;
    }

    stats(): TableStats {
      const at = this.#block >>> 2;
      const { words } = shard;
      const tables = this.#block === 0 ? 0 : (words[at + CONTROL.TABLES] as number);
      const { order, rootOrder } = this.format;
      const rootBytes = tables === 0 ? 0 : 4096 * 2 ** rootOrder;
      return {
        mappedPages: this.#block === 0 ? 0 : engine.mappedFrames(this.#block),
        tables,
        tableBytes: rootBytes + Math.max(tables - 1, 0) * 4096 * 2 ** order,
        freedTables: this.#block === 0 ? 0 : (words[at + CONTROL.FREED_COUNT] as number),
      };
    }
  };
}
