/**
 * Mappings given as lists: runs of output frames, or one output frame per granule. They reach the engine
 * in blocks of the scratch area's size, first all of them to plan, then all of them to write.
 * @module
 */
import type { Engine } from '../engine/engine.ts';
import { ERRNO } from '../errno.ts';
import { SCRATCH_BYTES } from '../pool/pool-layout.ts';
import type { Shard } from '../pool/shard.ts';
import { isCount } from './count.ts';

/** Runs that fit in the scratch area. */
const SCRATCH_RUNS = SCRATCH_BYTES / 16;

/** `mapRuns` and `mapList` of the table with control block `block`, permissions checked. */
export interface ListMapper {
  mapRuns(
    block: number,
    iovaPfn: number,
    runs: Float64Array,
    runCount: number,
    prot: number,
  ): number;
  mapList(
    block: number,
    iovaPfn: number,
    oaPfns: Float64Array,
    count: number,
    prot: number,
  ): number;
}

/** The list mapper of `engine` on `shard`. */
export function createListMapper(shard: Shard, engine: Engine, granule: number): ListMapper {
  let listAt = 0;

  /** Plans or writes runs in blocks of the scratch area's size. */
  function eachBlockOfRuns(
    block: number,
    iovaPfn: number,
    runs: Float64Array,
    runCount: number,
    plan: boolean,
  ): number {
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
        const error = engine.planRuns(block, iova, n, at + n === runCount);
        if (error !== 0) return error;
      } else engine.writeRuns(block, iova, n);
      iova += frames;
    }
    return 0;
  }

  /** Moves list entries from `listAt` on to the scratch area as runs; returns how many. */
  function listToRuns(oaPfns: Float64Array, count: number): number {
    const scratch = shard.scratchF64;
    let at = listAt;
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
    listAt = at;
    return runs;
  }

  /** Plans or writes a list block by block; errno, or the blocks there were. One block is written at once. */
  function eachBlockOfList(
    block: number,
    iovaPfn: number,
    oaPfns: Float64Array,
    count: number,
    plan: boolean,
  ): number {
    let blocks = 0;
    listAt = 0;
    while (listAt < count) {
      const iova = iovaPfn + listAt * granule;
      const runs = listToRuns(oaPfns, count);
      const last = listAt === count;
      blocks++;
      if (plan) {
        const error = engine.planRuns(block, iova, runs, last);
        if (error !== 0) return error;
        if (!last || blocks > 1) continue;
      }
      engine.writeRuns(block, iova, runs);
    }
    return blocks;
  }

  return {
    mapRuns(block, iovaPfn, runs, runCount, prot) {
      if (runCount === 0 || !isCount(runCount, runs.length / 2)) return ERRNO.EINVAL;
      let frames = 0;
      for (let i = 0; i < runCount; i++) frames += runs[i * 2 + 1] as number;
      const begun = engine.beginRuns(block, iovaPfn, frames, prot);
      if (begun !== 0) return begun;
      const error = eachBlockOfRuns(block, iovaPfn, runs, runCount, true);
      if (error !== 0) return error;
      if (runCount <= SCRATCH_RUNS) engine.writeRuns(block, iovaPfn, runCount);
      else eachBlockOfRuns(block, iovaPfn, runs, runCount, false);
      return 0;
    },

    mapList(block, iovaPfn, oaPfns, count, prot) {
      if (count === 0 || !isCount(count, oaPfns.length)) return ERRNO.EINVAL;
      const begun = engine.beginRuns(block, iovaPfn, count * granule, prot);
      if (begun !== 0) return begun;
      const error = eachBlockOfList(block, iovaPfn, oaPfns, count, true);
      if (error < 0) return error;
      if (error > 1) eachBlockOfList(block, iovaPfn, oaPfns, count, false);
      return 0;
    },
  };
}
