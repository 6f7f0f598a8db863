/**
 * The side of a page table that maps and unmaps.
 * @module
 */
import type { Engine } from '../engine/engine.ts';
import { ERRNO } from '../errno.ts';
import type { PageTableFormat } from '../formats/format.ts';
import type { Shard } from '../pool/shard.ts';
import { defineLastLeaf, type LastLeaf } from './last-leaf.ts';
import { createListMapper } from './map-list.ts';
import { type PageTable, PROT } from './page-table.ts';

const ACCESS = PROT.READ | PROT.WRITE;
const UNKNOWN = ~Object.values(PROT).reduce((all, bit) => all | bit, 0);

/** Result of the engine's `unmapRange`: the frames are in the scratch area, too many for an int32. */
const IN_SCRATCH = -0x8000_0000;

/** The members of a page table that are here, and those that it reads with. */
export type MapSide = LastLeaf &
  Pick<PageTable, 'mapRange' | 'mapRuns' | 'mapList' | 'unmapRange' | 'splitLeaf' | 'mergeLeaves'>;

/** Defines the mapping side of the tables of `engine` on `shard`, upon their reading side. */
export function defineMapSide(
  shard: Shard,
  engine: Engine,
  granule: number,
): new (
  format: PageTableFormat,
  block: number,
) => MapSide {
  const { mapOne, mapRange, unmapInRegion, unmapOne, unmapRange } = engine;
  const lists = createListMapper(shard, engine, granule);

  return class TableMapper extends defineLastLeaf(shard, engine) implements MapSide {
    mapRange(iovaPfn: number, oaPfn: number, countPages: number, prot: number): number {
      if (countPages !== granule) return this.#mapMany(iovaPfn, oaPfn, countPages, prot);
      const index = iovaPfn - this.leafFirst;
      if (!(index >= 0 && index < this.leafFrames && (index | 0) === index)) {
        return this.#mapNear(iovaPfn, oaPfn, prot);
      }
      if (!(prot === this.leafProt && oaPfn >= 0 && oaPfn <= this.leafOaLast)) {
        return this.#mapOne(iovaPfn, oaPfn, prot);
      }
      if (Math.floor(oaPfn) !== oaPfn) return ERRNO.EINVAL;
      const { words } = shard;
      const word = (this.leafSlot + index) << 1;
      if (words[word] !== 0) return ERRNO.EADDRINUSE;
      words[word] = this.leafLo | (oaPfn << 12);
      words[word + 1] = this.leafHi | (oaPfn / 0x10_0000);
      this.leafDelta++;
      return 0;
    }

    /** One granule that is not in the known leaf table. */
    #mapNear(iovaPfn: number, oaPfn: number, prot: number): number {
      const slot = this.nearSlot(iovaPfn);
      if (!(slot >= 0 && prot === this.leafProt && oaPfn >= 0 && oaPfn <= this.leafOaLast)) {
        return this.#mapOne(iovaPfn, oaPfn, prot);
      }
      if (Math.floor(oaPfn) !== oaPfn) return ERRNO.EINVAL;
      const { words } = shard;
      const word = slot << 1;
      if (words[word] !== 0) return ERRNO.EADDRINUSE;
      words[word] = this.leafLo | (oaPfn << 12);
      words[word + 1] = this.leafHi | (oaPfn / 0x10_0000);
      this.addLive(slot, 1);
      return 0;
    }

    #mapOne(iovaPfn: number, oaPfn: number, prot: number): number {
      if ((prot & ACCESS) === 0 || (prot & UNKNOWN) !== 0) return ERRNO.EINVAL;
      this.settleLeaf();
      const result = mapOne(this.block, iovaPfn, oaPfn, prot);
      this.noteSlot(iovaPfn);
      if (prot !== this.leafProt && this.parentFrames !== 0) this.learnProt(prot);
      return result;
    }

    #mapMany(iovaPfn: number, oaPfn: number, countPages: number, prot: number): number {
      if ((prot & ACCESS) === 0 || (prot & UNKNOWN) !== 0) return ERRNO.EINVAL;
      this.settleLeaf();
      const result = mapRange(this.block, iovaPfn, oaPfn, countPages, prot);
      this.forgetFreed();
      return result;
    }

    mapRuns(iovaPfn: number, runs: Float64Array, runCount: number, prot: number): number {
      if ((prot & ACCESS) === 0 || (prot & UNKNOWN) !== 0) return ERRNO.EINVAL;
      this.settleLeaf();
      const result = lists.mapRuns(this.block, iovaPfn, runs, runCount, prot);
      this.forgetFreed();
      return result;
    }

    mapList(iovaPfn: number, oaPfns: Float64Array, count: number, prot: number): number {
      if ((prot & ACCESS) === 0 || (prot & UNKNOWN) !== 0) return ERRNO.EINVAL;
      this.settleLeaf();
      const result = lists.mapList(this.block, iovaPfn, oaPfns, count, prot);
      this.forgetFreed();
      return result;
    }

    unmapRange(iovaPfn: number, countPages: number): number {
      if (countPages !== granule) return this.#unmapMany(iovaPfn, countPages);
      const index = iovaPfn - this.leafFirst;
      if (!(index >= 0 && index < this.leafFrames && (index | 0) === index)) {
        return this.#unmapNear(iovaPfn);
      }
      const slot = this.leafSlot + index;
      if (this.groupMask !== 0) return this.#unmapInLeaf(iovaPfn, slot);
      const { doubles } = shard;
      if (doubles[slot] === 0) return 0;
      doubles[slot] = 0;
      this.leafDelta--;
      return 1;
    }

    /** One granule of the known leaf table, where leaves may have several slots. */
    #unmapInLeaf(iovaPfn: number, slot: number): number {
      const { words } = shard;
      const word = slot << 1;
      const lo = words[word] as number;
      if (lo === 0) return 0;
      const half = this.groupHalf === 0 ? lo : (words[word + 1] as number);
      if ((half & this.groupMask) !== 0) return this.#unmapMany(iovaPfn, granule);
      words[word] = 0;
      words[word + 1] = 0;
      this.leafDelta--;
      return 1;
    }

    /** Whether an entry belongs to a leaf of several slots. */
    #isGroup(slot: number): boolean {
      const half = shard.words[(slot << 1) + this.groupHalf] as number;
      return (half & this.groupMask) !== 0;
    }

    /** One granule that is not in the known leaf table. */
    #unmapNear(iovaPfn: number): number {
      const slot = this.nearSlot(iovaPfn);
      if (slot < 0) return this.#unmapOne(iovaPfn);
      if (this.groupMask !== 0 && this.#isGroup(slot)) return this.#unmapMany(iovaPfn, granule);
      const { words } = shard;
      const word = slot << 1;
      if (words[word] === 0) return 0;
      words[word] = 0;
      words[word + 1] = 0;
      this.addLive(slot, -1);
      return 1;
    }

    #unmapOne(iovaPfn: number): number {
      this.settleLeaf();
      const frames = unmapOne(this.block, iovaPfn);
      this.noteSlot(iovaPfn);
      return frames >= 0 ? frames : this.#unmapMany(iovaPfn, granule);
    }

    #unmapMany(iovaPfn: number, countPages: number): number {
      this.settleLeaf();
      const quick = this.#unmapTwo(iovaPfn, countPages);
      if (quick !== 0) return quick;
      const frames = unmapRange(this.block, iovaPfn, countPages);
      this.forgetFreed();
      return frames === IN_SCRATCH ? (shard.scratchF64[0] as number) : frames;
    }

    /** A range in two neighbouring leaf tables of a known region. Frames, or 0: the engine must look. */
    #unmapTwo(iovaPfn: number, countPages: number): number {
      const last = iovaPfn + countPages - 1;
      // Known regions have tables of 512 entries.
      if ((iovaPfn >>> 9) + 1 !== last >>> 9 || (countPages | 0) !== countPages) return 0;
      const entries = this.regionEntries(iovaPfn);
      return entries === 0 ? 0 : unmapInRegion(entries, iovaPfn, countPages);
    }

    splitLeaf(iovaPfn: number, pageLg2 = this.format.granuleLg2): number {
      const { frameLg2, pageSizesLg2 } = this.format;
      if (!pageSizesLg2.includes(pageLg2)) return ERRNO.EINVAL;
      this.settleLeaf();
      return engine.splitLeaf(this.block, iovaPfn, pageLg2 - frameLg2);
    }

    mergeLeaves(iovaPfn: number, countPages: number, maxPageLg2 = 63): number {
      const { frameLg2, granuleLg2 } = this.format;
      if (!(maxPageLg2 >= granuleLg2 && maxPageLg2 <= 63)) return ERRNO.EINVAL;
      this.settleLeaf();
      const made = engine.mergeLeaves(
        this.block,
        iovaPfn,
        countPages,
        Math.min(maxPageLg2 - frameLg2, 52),
      );
      this.forgetFreed();
      return made;
    }
  };
}
