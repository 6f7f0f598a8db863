/**
 * The side of a page table that maps and unmaps.
 * @module
 */
import type { Engine } from '../engine/engine.ts';
import { ERRNO } from '../errno.ts';
import type { PageTableFormat } from '../formats/format.ts';
import type { Shard } from '../pool/shard.ts';
import { createListMapper } from './map-list.ts';
import { type PageTable, PROT } from './page-table.ts';
import { defineReadSide, type ReadSide } from './read-side.ts';

const ACCESS = PROT.READ | PROT.WRITE;
const UNKNOWN = ~Object.values(PROT).reduce((all, bit) => all | bit, 0);

/** The members of a page table that are here, and those that it reads with. */
export type MapSide = ReadSide &
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
  const { mapOne, mapRange, unmapOne, unmapRange } = engine;
  const lists = createListMapper(shard, engine, granule);

  return class TableMapper extends defineReadSide(shard, engine) implements MapSide {
    mapRange(iovaPfn: number, oaPfn: number, countPages: number, prot: number): number {
      if ((prot & ACCESS) === 0 || (prot & UNKNOWN) !== 0) return ERRNO.EINVAL;
      return countPages === granule
        ? mapOne(this.block, iovaPfn, oaPfn, prot)
        : mapRange(this.block, iovaPfn, oaPfn, countPages, prot);
    }

    mapRuns(iovaPfn: number, runs: Float64Array, runCount: number, prot: number): number {
      if ((prot & ACCESS) === 0 || (prot & UNKNOWN) !== 0) return ERRNO.EINVAL;
      return lists.mapRuns(this.block, iovaPfn, runs, runCount, prot);
    }

    mapList(iovaPfn: number, oaPfns: Float64Array, count: number, prot: number): number {
      if ((prot & ACCESS) === 0 || (prot & UNKNOWN) !== 0) return ERRNO.EINVAL;
      return lists.mapList(this.block, iovaPfn, oaPfns, count, prot);
    }

    unmapRange(iovaPfn: number, countPages: number): number {
      return countPages === granule
        ? unmapOne(this.block, iovaPfn)
        : unmapRange(this.block, iovaPfn, countPages);
    }

    splitLeaf(iovaPfn: number, pageLg2 = this.format.granuleLg2): number {
      const { frameLg2, pageSizesLg2 } = this.format;
      if (!pageSizesLg2.includes(pageLg2)) return ERRNO.EINVAL;
      return engine.splitLeaf(this.block, iovaPfn, pageLg2 - frameLg2);
    }

    mergeLeaves(iovaPfn: number, countPages: number, maxPageLg2 = 63): number {
      const { frameLg2, granuleLg2 } = this.format;
      if (!(maxPageLg2 >= granuleLg2 && maxPageLg2 <= 63)) return ERRNO.EINVAL;
      return engine.mergeLeaves(
        this.block,
        iovaPfn,
        countPages,
        Math.min(maxPageLg2 - frameLg2, 52),
      );
    }
  };
}
