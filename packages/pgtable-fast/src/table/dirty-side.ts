/**
 * The side of a page table that tracks dirty pages: the engine's bitmap in the scratch area, moved into
 * the caller's.
 * @module
 */
import type { Engine } from '../engine/engine.ts';
import { ERRNO } from '../errno.ts';
import type { PageTableFormat } from '../formats/format.ts';
import type { Shard } from '../pool/shard.ts';
import { isCount } from './count.ts';
import { defineMapSide, type MapSide } from './map-side.ts';
import { DIRTY, type PageTable } from './page-table.ts';

/** Bitmap bits of one engine call: 1 GiB of 4 KiB frames, with room for an odd first bit. */
const BITMAP_BITS = 262_144;
/** Bitmaps up to this many bytes are merged byte by byte, larger ones copied in and out. */
const SMALL_BITMAP_BYTES = 64;
/** Engine flag: leaves that reach behind the range are cleaned by the next call. */
const DIRTY_MORE = 2;

/** The members of a page table that are here, and those of the sides below. */
export type DirtySide = MapSide & Pick<PageTable, 'readAndClearDirty' | 'setAccessedDirty'>;

/** Defines the dirty-tracking side of the tables of `engine` on `shard`, upon their mapping side. */
export function defineDirtySide(
  shard: Shard,
  engine: Engine,
  granule: number,
): new (
  format: PageTableFormat,
  block: number,
) => DirtySide {
  const { setAccessedDirty } = engine;

  return class TableTracker extends defineMapSide(shard, engine, granule) implements DirtySide {
    readAndClearDirty(
      iovaPfn: number,
      countPages: number,
      bitmap: Uint8Array,
      bitOffset: number,
      flags = 0,
      pagesPerBitLg2 = 0,
    ): number {
      if ((flags & ~DIRTY.NO_CLEAR) !== 0 || !isCount(pagesPerBitLg2, 40)) return ERRNO.EINVAL;
      const perBit = 2 ** pagesPerBitLg2;
      const bits = Math.ceil(countPages / perBit);
      if (!(countPages >= 0 && isCount(bitOffset, bitmap.length * 8 - bits))) return ERRNO.EINVAL;
      if (bits > BITMAP_BITS) {
        const error = engine.checkDirtyRange(this.block, iovaPfn, countPages);
        if (error !== 0) return error;
      }
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
      const block = this.block;
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
      return setAccessedDirty(this.block, iovaPfn, write);
    }
  };
}
