/**
 * The side of a page table that reads: look-ups, walks, read-back.
 * @module
 */
import type { Engine } from '../engine/engine.ts';
import type { PageTableFormat } from '../formats/format.ts';
import { levelsOf, rootOf, SCRATCH_BYTES } from '../pool/pool-layout.ts';
import type { Shard } from '../pool/shard.ts';
import type { WalkTrace } from '../walk/walk-trace.ts';
import { createWalker, type Walker, type WalkMemory } from '../walk/walker.ts';
import { isCount } from './count.ts';
import { defineLookUp, type LookUp } from './look-up.ts';
import type { LeafRecord, PageTable } from './page-table.ts';

/** Runs that fit in the scratch area. */
const SCRATCH_RUNS = SCRATCH_BYTES / 16;
/** Frames that fit in the scratch area. */
const SCRATCH_FRAMES = SCRATCH_BYTES / 8;
/** From here on a copy by subarray is faster than one by a loop, its two small objects included. */
const BULK_FRAMES = 256;

/** The members of a page table that are here. */
export type ReadSide = LookUp &
  Pick<
    PageTable,
    | 'rootPa'
    | 'levels'
    | 'iovaBits'
    | 'oaBits'
    | 'pageSizesLg2'
    | 'translateBatch'
    | 'readRuns'
    | 'walk'
    | 'nextLeaf'
  >;

/** The shard's memory for walks in the thread that changes it. */
function ownMemory(shard: Shard): WalkMemory {
  return {
    regionAt: (pa) => (pa >= shard.base && pa < shard.base + shard.size ? shard : undefined),
  };
}

/**
 * The same for shared memory, entry by entry: each is read in one, because another thread could write one
 * half of it between two readings. No entry of a pool's table is a NaN, which might not keep its bits.
 */
function sharedMemory(shard: Shard): WalkMemory {
  const entry = new Float64Array(1);
  const region = { base: 0, size: 8, i32: new Int32Array(entry.buffer) };
  return {
    regionAt(pa) {
      const offset = pa - shard.base;
      if (!(offset >= 0 && offset < shard.maxBytes)) return undefined;
      if (offset >= shard.size) shard.refresh(); // another thread may have made it grow
      entry[0] = shard.doubles[(offset + shard.byteOffset) / 8] as number;
      region.base = pa;
      return region;
    },
  };
}

/** Defines the reading side of the tables of `engine` on `shard`. */
export function defineReadSide(
  shard: Shard,
  engine: Engine,
): new (
  format: PageTableFormat,
  block: number,
) => ReadSide {
  const memory = shard.build === 'shared' ? sharedMemory(shard) : ownMemory(shard);

  const rootAddress = (top: number) => shard.base - shard.byteOffset + rootOf(top);

  return class TableReader extends defineLookUp(shard, engine) implements ReadSide {
    #walker: Walker | undefined;

    get rootPa(): number {
      return rootAddress(this.topWord);
    }

    get levels(): number {
      return levelsOf(this.topWord);
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

    translateBatch(iovaPfns: Float64Array, out: Float64Array, count: number): void {
      if (!(isCount(count, iovaPfns.length) && count <= out.length)) {
        throw new RangeError(
          `translateBatch: count is ${count}, must be whole and at most ${iovaPfns.length} in and ${out.length} out`,
        );
      }
      for (let at = 0; at < count; at += SCRATCH_FRAMES) {
        const n = Math.min(SCRATCH_FRAMES, count - at);
        const scratch = shard.scratchF64;
        if (n >= BULK_FRAMES) scratch.set(iovaPfns.subarray(at, at + n));
        else for (let i = 0; i < n; i++) scratch[i] = iovaPfns[at + i] as number;
        engine.translateBatch(this.translateHandle, n);
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
        const n = engine.readRuns(this.block, iovaPfn + done, countPages - done, room);
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

    walk(iovaPfn: number, trace: WalkTrace): number {
      this.#walker ??= createWalker(this.format);
      const top = this.topWord; // once: another thread may make a table grow in between
      return this.#walker.walk(memory, rootAddress(top), levelsOf(top), iovaPfn, trace);
    }

    nextLeaf(iovaPfn: number, endPfn: number, leaf: LeafRecord): boolean {
      if (engine.nextLeaf(this.block, iovaPfn, endPfn) === 0) return false;
      const scratch = shard.scratchF64;
      leaf.iovaPfn = scratch[0] as number;
      leaf.oaPfn = scratch[1] as number;
      leaf.pages = scratch[2] as number;
      leaf.level = scratch[3] as number;
      leaf.wordLo = scratch[4] as number;
      leaf.wordHi = scratch[5] as number;
      return true;
    }
  };
}
