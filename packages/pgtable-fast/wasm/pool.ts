// The pool's memory: 2 MiB chunks whose first page holds one 8-byte record for every page of the chunk.
//
//   record of a table:       u32 live entries,   u32 next table in a list of freed tables
//   record of a freed table: u32 last of a list (valid in the first), u32 next
//
// The pool starts at ORIGIN, so that the low half of a host-physical address is its memory offset: walks
// need no subtraction (measured: 1.2 ns of a four-level walk). What lies before is never touched.
// The first chunk also holds the pool header (page 1) and the scratch area (pages 2..17). The same offsets
// stand in src/pool/pool-layout.ts; a test compares the two.
import { grow, BASE_HI, ORIGIN } from './env';

export const ENOMEM: i32 = -12;
export const EADDRINUSE: i32 = -98;
export const EINVAL: i32 = -22;
export const ERANGE: i32 = -34;
export const ENOENT: i32 = -2;
export const EACCES: i32 = -13;

const CHUNK_PAGES: u32 = 512;

// header fields
@inline function bumpAt(): u32 { return ORIGIN + 4096 + 4; } // first page number never handed out
@inline function limitAt(): u32 { return ORIGIN + 4096 + 8; } // page number of the end of memory
@inline function inUseAt(): u32 { return ORIGIN + 4096 + 12; } // pages handed out and not freed
@inline function freeHead(order: u32): u32 { return ORIGIN + 4096 + 64 + order * 4; }
@inline function freeCount(order: u32): u32 { return ORIGIN + 4096 + 128 + order * 4; }

@inline export function record(table: u32): u32 {
  return (table & 0xffe00000) | ((table >>> 9) & 0xff8);
}
@inline export function liveCount(table: u32): u32 {
  return load<u32>(record(table));
}
@inline export function addLive(table: u32, n: i32): void {
  const r = record(table);
  store<u32>(r, load<u32>(r) + n);
}

/** Host-physical address of a pool offset. */
@inline export function physical(offset: u32): u64 {
  return ((<u64>BASE_HI) << 32) | <u64>offset;
}

/** First page at or after `page` where a block of `1 << order` pages may start. */
function blockStart(page: u32, order: u32): u32 {
  const size: u32 = 1 << order;
  let start = (page + size - 1) & ~(size - 1);
  if ((start & (CHUNK_PAGES - 1)) == 0) start += size; // the chunk's records lie there
  return start;
}

/** Blocks of `1 << order` pages between the bump mark and the end of memory. */
function bumpBlocks(order: u32): u32 {
  const bump = load<u32>(bumpAt());
  const limit = load<u32>(limitAt());
  const perChunk: u32 = (CHUNK_PAGES >> order) - 1;
  const chunkEnd = min((bump + CHUNK_PAGES - 1) & ~(CHUNK_PAGES - 1), limit);
  const start = blockStart(bump, order);
  const here: u32 = bump < chunkEnd && start < chunkEnd ? (chunkEnd - start) >> order : 0;
  const behind = limit - chunkEnd;
  // A last chunk may lack a page; its first block holds the records, as in every chunk.
  const last = (behind & (CHUNK_PAGES - 1)) >> order;
  return here + (behind / CHUNK_PAGES) * perChunk + (last > 1 ? last - 1 : 0);
}

/** Makes sure that `count` allocations of this order will succeed. 0 or -12. */
export function reserve(count: u32, order: u32): i32 {
  while (true) {
    const free = load<u32>(freeCount(order));
    if (free >= count) return 0;
    const have = free + bumpBlocks(order);
    if (have >= count) return 0;
    const pages = ((count - have) << order) + (((count - have) << order) >> 8) + CHUNK_PAGES;
    const error = grow(pages & ~(CHUNK_PAGES - 1));
    if (error != 0) return error;
  }
}

function pushFree(offset: u32, order: u32): void {
  const head = freeHead(order);
  const r = record(offset);
  store<u32>(r, 0);
  store<u32>(r + 4, load<u32>(head));
  store<u32>(head, offset);
  store<u32>(freeCount(order), load<u32>(freeCount(order)) + 1);
}

/** Takes a block from fresh memory; the pages skipped for alignment become free single pages. */
function takeFresh(order: u32): u32 {
  let bump = load<u32>(bumpAt());
  const start = blockStart(bump, order);
  if (start + (1 << order) > load<u32>(limitAt())) return 0;
  for (; bump < start; bump++) {
    if ((bump & (CHUNK_PAGES - 1)) != 0) pushFree(bump << 12, 0);
  }
  store<u32>(bumpAt(), start + (1 << order));
  return start << 12;
}

/** A block of `1 << order` pages with stale contents, live count 0; 0 when there is none. */
export function allocate(order: u32): u32 {
  const head = freeHead(order);
  let offset = load<u32>(head);
  if (offset != 0) {
    store<u32>(head, load<u32>(record(offset) + 4));
    store<u32>(freeCount(order), load<u32>(freeCount(order)) - 1);
  } else {
    offset = takeFresh(order);
    if (offset == 0) return 0;
  }
  store<u32>(inUseAt(), load<u32>(inUseAt()) + (1 << order));
  store<u64>(record(offset), 0);
  return offset;
}

/** Gives one block back at once. */
export function release(offset: u32, order: u32): void {
  pushFree(offset, order);
  store<u32>(inUseAt(), load<u32>(inUseAt()) - (1 << order));
}

/** Gives a whole list of freed tables back: constant time. `count` is its length. */
export function releaseList(first: u32, count: u32, order: u32): void {
  const head = freeHead(order);
  const last = load<u32>(record(first));
  store<u32>(record(last) + 4, load<u32>(head));
  store<u32>(head, first);
  store<u32>(freeCount(order), load<u32>(freeCount(order)) + count);
  store<u32>(inUseAt(), load<u32>(inUseAt()) - (count << order));
}
