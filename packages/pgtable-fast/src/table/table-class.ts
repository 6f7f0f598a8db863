/**
 * The class of the page tables of one engine on one shard. Engine functions are constants of the
 * enclosing functions: measured, a call through them costs 5 ns, through an interface of closures 10-14 ns.
 * @module
 */
import type { Engine } from '../engine/engine.ts';
import type { PageTableFormat } from '../formats/format.ts';
import { CONTROL, rootOf } from '../pool/pool-layout.ts';
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
      this.forgetFreed();
      return count * HANDLE_PAGES + page;
    }

    freeTables(handle: number): void {
      if (handle === 0) return;
      const page = handle % HANDLE_PAGES;
      engine.releaseList(page * 4096, (handle - page) / HANDLE_PAGES, this.format.order);
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
