/**
 * Tables: from a pool and a format to a {@link PageTable}.
 * @module
 */
import type { PageTableFormat } from '../formats/format.ts';
import type { PageTablePool } from '../pool/pool.ts';
import { CONTROL, topWord } from '../pool/pool-layout.ts';
import type { Shard } from '../pool/shard.ts';
import type { PageTable } from './page-table.ts';
import { defineTableClass, type TableClass } from './table-class.ts';

/** Where a table of another thread is: {@link tableHandle}. Structured-cloneable. */
export interface TableHandle {
  readonly shard: number;
  /** Offset of the control block. */
  readonly block: number;
}

const handles = new WeakMap<PageTable, TableHandle>();

function classOf(shard: Shard, format: PageTableFormat): TableClass {
  let defined = shard.classes.get(format.engine) as TableClass | undefined;
  if (!defined) {
    const granule = 2 ** (format.granuleLg2 - format.frameLg2);
    defined = defineTableClass(shard, shard.engine(format.engine), granule);
    shard.classes.set(format.engine, defined);
  }
  return defined;
}

/** Writes a u64 given as a number below 2^53. */
function store64(i32: Int32Array, at: number, value: number): void {
  i32[at] = (value % 0x1_0000_0000) | 0;
  i32[at + 1] = Math.floor(value / 0x1_0000_0000) | 0;
}

/** Fills the control block of a new table whose root is at offset `root`. */
function initialise(shard: Shard, format: PageTableFormat, block: number, root: number): void {
  const i32 = shard.words;
  const at = block >>> 2;
  const { frameLg2 } = format;
  i32.fill(0, root >>> 2, (root >>> 2) + 1024 * 2 ** format.rootOrder);
  store64(i32, at + CONTROL.OA_LIMIT, 2 ** (format.oaBits - frameLg2));
  let sizes = 0;
  for (const lg2 of format.pageSizesLg2) sizes += 2 ** (lg2 - frameLg2);
  store64(i32, at + CONTROL.PAGE_SIZES, sizes);
  i32[at + CONTROL.ORDER] = format.order;
  i32[at + CONTROL.ROOT_ORDER] = format.rootOrder;
  i32[at + CONTROL.ROOT_ENTRIES] = format.rootEntries;
  i32[at + CONTROL.MAX_LEVELS] = format.maxLevels;
  i32[at + CONTROL.TABLES] = 1;
  i32[at + CONTROL.TOP] = topWord(root, format.iovaBits - frameLg2, format.options, format.levels);
}

/** Control block with an empty root in one shard; 0 when it has no room. */
function build(shard: Shard, format: PageTableFormat): number {
  const engine = shard.engine(format.engine);
  if (engine.reserve(1, format.rootOrder) !== 0) return 0;
  const block = shard.takeControlBlock(engine);
  if (block === 0) return 0;
  if (engine.reserve(1, format.rootOrder) !== 0) {
    shard.releaseControlBlock(block);
    return 0;
  }
  initialise(shard, format, block, engine.allocate(format.rootOrder) >>> 0);
  return block;
}

/** Whether entries of the format can point to every table of the shard. */
const isInReach = (shard: Shard, format: PageTableFormat): boolean =>
  shard.base + shard.maxBytes <= 2 ** format.tableBits;

/** Shard with the most room left, by what it could still grow; undefined when none is in reach. */
function roomiest(pool: PageTablePool, format: PageTableFormat): Shard | undefined {
  let best: Shard | undefined;
  for (const shard of pool.shards) {
    if (isInReach(shard, format) && shard.room() > (best?.room() ?? -1)) best = shard;
  }
  return best;
}

/** The shard for a new table: a further one when less than half of the emptiest is left. */
function chooseShard(pool: PageTablePool, format: PageTableFormat): Shard {
  const shard = roomiest(pool, format);
  if (shard === undefined) {
    throw new RangeError(
      `createTable: the pool lies at 0x${pool.base.toString(16)}, entries of ${format.name} hold ` +
        `table addresses of ${format.tableBits} bits; give the pool a lower base`,
    );
  }
  if (shard.room() >= shard.maxBytes / 2) return shard;
  const added = pool.addShard();
  return added !== undefined && isInReach(added, format) ? added : shard;
}

/**
 * Creates an empty table. It stays in the shard with the most room at this moment.
 * @throws {Error} ENOMEM when the pool is at its maximum
 * @throws {RangeError} the pool lies where entries of the format cannot point to
 */
export function createTable(pool: PageTablePool, format: PageTableFormat): PageTable {
  const shard = chooseShard(pool, format);
  const block = build(shard, format);
  if (block === 0) {
    throw new Error(
      `createTable: no memory for a ${format.name} root of ${4096 * 2 ** format.rootOrder} bytes, ` +
        `pool is at ${pool.stats().totalBytes} bytes; raise maxBytes or destroy tables`,
    );
  }
  const table = new (classOf(shard, format))(format, block);
  handles.set(table, { shard: pool.shards.indexOf(shard), block });
  return table;
}

/** What another thread passes to {@link attachTable} to read this table. */
export function tableHandle(table: PageTable): TableHandle {
  const handle = handles.get(table);
  if (!handle) throw new TypeError('tableHandle: not a table of createTable()');
  return handle;
}

/**
 * A table that another thread created, in a pool from `attachPool`. It may be read here while one other
 * thread changes it: `translate`, `translateBatch`, `walk`, `readRuns`, `setAccessedDirty`.
 */
export function attachTable(
  pool: PageTablePool,
  format: PageTableFormat,
  handle: TableHandle,
): PageTable {
  const shard = pool.shards[handle.shard];
  if (!shard)
    throw new RangeError(
      `attachTable: shard ${handle.shard} of ${pool.shards.length} does not exist`,
    );
  const table = new (classOf(shard, format))(format, handle.block);
  handles.set(table, handle);
  return table;
}
