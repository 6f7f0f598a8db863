// The 64-byte control block of one page table, in pool memory so that every thread sees the same one.

/**
 * The top word: all that a walk needs. Bits 2:0 levels, 5:3 option bits of the format, 11:6 width of the
 * input in bits of a frame number, 31:12 offset of the root.
 */
@inline export function top(block: u32): u32 {
  return ASC_FEATURE_THREADS ? atomic.load<u32>(block) : load<u32>(block);
}
@inline export function setTop(block: u32, value: u32): void {
  if (ASC_FEATURE_THREADS) atomic.store<u32>(block, value);
  else store<u32>(block, value);
}
/** Level-1 tables that ever left the tree, modulo 2^32: the host remembers where such tables are, until it changes. */
@inline export function countLeft(block: u32): void { store<u32>(block, load<u32>(block, 4) + 1, 4); }
/** Frames of output address space, exclusive limit. */
@inline export function oaLimit(block: u32): u64 { return load<u64>(block, 16); }
/** Bit s set: pages of 2^s frames may be used. */
@inline export function pageSizes(block: u32): u64 { return load<u64>(block, 24); }
@inline export function order(block: u32): u32 { return load<u32>(block, 32); }
@inline export function rootOrder(block: u32): u32 { return load<u32>(block, 36); }
/** Freed tables waiting for the caller's invalidation: first of the list, and how many. */
@inline export function freedHead(block: u32): u32 { return load<u32>(block, 40); }
@inline export function freedCount(block: u32): u32 { return load<u32>(block, 44); }
@inline export function setFreed(block: u32, head: u32, count: u32): void {
  store<u32>(block, head, 40);
  store<u32>(block, count, 44);
}
/** Entries in the root that take part (concatenated and partial roots). */
@inline export function rootEntries(block: u32): u32 { return load<u32>(block, 48); }
/** Levels the table may grow to. */
@inline export function maxLevels(block: u32): u32 { return load<u32>(block, 52); }
@inline export function tables(block: u32): u32 { return load<u32>(block, 56); }
@inline export function addTables(block: u32, n: i32): void {
  store<u32>(block, load<u32>(block, 56) + n, 56);
}
/** Entry above the leaf table where the last operation on one granule was, 0 when there is none. */
@inline export function lastSlot(block: u32): u32 { return load<u32>(block, 60); }
@inline export function setLastSlot(block: u32, slot: u32): void { store<u32>(block, slot, 60); }
