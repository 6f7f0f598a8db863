/**
 * The class of the page tables of one engine on one shard. Engine functions are constants of the
 * enclosing functions: measured, a call through them costs 5 ns, through an interface of closures 10-14 ns.
 * @module
 */
import type { Engine } from '../engine/engine.ts';
import type { PageTableFormat } from '../formats/format.ts';
import { CONTROL, recordOf, rootOf } from '../pool/pool-layout.ts';
import type { Shard } from '../pool/shard.ts';
import { defineDirtySide } from './dirty-side.ts';
import type { PageTable, TableStats } from './page-table.ts';

/** A freed-tables handle: count * 2^20 + page of the first. */
const HANDLE_PAGES = 2 ** 20;

/** Constructor of a table class. */
export type TableClass = new (format: PageTableFormat, block: number) => PageTable;

/** Defines the class for `engine` on `shard`. Formats that share an engine have equal granules. */
export function defineTableClass(shard: Shard, engine: Engine, granule: number): TableClass {
  return class Table extends defineDirtySide(shard, engine, granule) implements PageTable {
    takeFreedTables(): number {
      const at = this.block >>> 2;
      const { words } = shard;
      const count = words[at + CONTROL.FREED_COUNT] as number;
      if (count === 0) return 0;
      const page = (words[at + CONTROL.FREED_HEAD] as number) >>> 12;
      words[at + CONTROL.FREED_COUNT] = 0;
      words[at + CONTROL.FREED_HEAD] = 0;
      words[at + CONTROL.FREED_TAKEN] = (words[at + CONTROL.FREED_TAKEN] as number) + count;
      this.forgetFreed();
      return count * HANDLE_PAGES + page;
    }

    freeTables(handle: number): void {
      if (handle === 0) return;
      const page = handle % HANDLE_PAGES;
      const count = (handle - page) / HANDLE_PAGES;
      this.#takeBack(handle, page * 4096, count);
      engine.releaseList(page * 4096, count, this.format.order);
      shard.words[recordOf(page * 4096) >>> 2] = 0;
    }

    /** Counts tables that come back, when they are ones that were taken and did not come back before. */
    #takeBack(handle: number, first: number, count: number): void {
      const { words, byteOffset, size } = shard;
      const at = (this.block >>> 2) + CONTROL.FREED_TAKEN;
      const taken = this.block === 0 ? count : (words[at] as number);
      const isInPool = first > byteOffset && first < byteOffset + size;
      // The record of the first table of a list names the last one.
      const last = isInPool ? (words[recordOf(first) >>> 2] as number) : 0;
      const isWhole = Math.floor(handle) === handle;
      if (last === 0 || last % 4096 !== 0 || !(isWhole && count >= 1 && count <= taken)) {
        throw new RangeError(
          `freeTables: ${handle} must be what takeFreedTables() of this table gave, and only once`,
        );
      }
      if (this.block !== 0) words[at] = taken - count;
    }

    destroy(): void {
      const block = this.block;
      if (block === 0) return;
      this.settleLeaf();
      engine.freeAll(block);
      this.forgetFreed();
      this.freeTables(this.takeFreedTables());
      engine.release(rootOf(this.topWord), this.format.rootOrder);
      this.forgetRegions();
      shard.releaseControlBlock(block);
      this.block = 0;
      this.translateHandle = 0;
    }

    stats(): TableStats {
      this.settleLeaf();
      const at = this.block >>> 2;
      const { words } = shard;
      const tables = this.block === 0 ? 0 : (words[at + CONTROL.TABLES] as number);
      const { order, rootOrder } = this.format;
      const rootBytes = tables === 0 ? 0 : 4096 * 2 ** rootOrder;
      return {
        mappedPages: this.block === 0 ? 0 : engine.mappedFrames(this.block),
        tables,
        tableBytes: rootBytes + Math.max(tables - 1, 0) * 4096 * 2 ** order,
        freedTables: this.block === 0 ? 0 : (words[at + CONTROL.FREED_COUNT] as number),
      };
    }
  };
}
