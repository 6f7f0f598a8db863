// The second pass of a mapping. The plan has made sure that nothing can fail.
import {
  GRANULE_LG2, HAS_GROUPS, HIGH_OUTPUT_SPLIT, groupStep, leafEntry, tableEntry,
} from './format';
import { GRANULE, TABLE_BYTES, itemLg2, slot, tableOffset } from './walk';
import { addTables, order } from './control-block';
import { addLive, allocate, liveCount, physical } from './pool';
import { clear, fillSeries } from './fill';
import { freeTree } from './freed';
import { attr, bestSize, control, delta, largePossible, opts, sizes } from './map-state';

@inline export function newTable(): u32 {
  addTables(control, 1);
  return allocate(order(control));
}

/** Makes a finished table visible. Readers of a shared pool must not see it half built. */
@inline export function install(at: u32, table: u32, childLevel: i32): void {
  const entry = tableEntry(physical(table), childLevel, opts);
  if (ASC_FEATURE_THREADS) atomic.store<u64>(at, entry);
  else store<u64>(at, entry);
}

/** Writes `n` leaves of `size` starting at `at`. */
@inline function writeLeaves(at: u32, n: u32, level: i32, size: i32, va: u64): void {
  const step: u64 = HAS_GROUPS && size > itemLg2(level) ? groupStep(level) : (<u64>4096) << itemLg2(level);
  const oa = va + delta;
  if (HIGH_OUTPUT_SPLIT && oa >> 36 != (oa + ((<u64>n) << itemLg2(level)) - 1) >> 36) {
    for (let i: u32 = 0; i < n; i++) {
      const at2 = oa + ((<u64>i) << itemLg2(level));
      store<u64>(at + i * 8, leafEntry(attr, at2, level, size, opts));
    }
    return;
  }
  fillSeries(at, n, leafEntry(attr, oa, level, size, opts), step);
}

/** Leaves of one level from `va` on, all in `table`: one run of equal sizes. Returns its end. */
@inline function fillRun(table: u32, level: i32, va: u64, end: u64, size: i32): u64 {
  const item = itemLg2(level);
  const larger = HAS_GROUPS && largePossible(level) && (sizes >> (item + 1)) != 0 && (delta & ((<u64>2 << item) - 1)) == 0;
  const n: u32 = larger ? 1 << (size - item) : <u32>((end - va) >> item);
  const at = slot(table, level, va);
  if (level > 0 && liveCount(table) != 0) {
    for (let p = at; p < at + n * 8; p += 8) {
      const entry = load<u64>(p);
      if (entry == 0) continue;
      store<u64>(p, 0);
      freeTree(control, tableOffset(entry), level - 1);
      addLive(table, -1);
    }
  }
  writeLeaves(at, n, level, size, va);
  addLive(table, n);
  return va + ((<u64>n) << item);
}

export function fillLeafTable(table: u32, va: u64, end: u64): void {
  if (HAS_GROUPS) {
    do { va = fillRun(table, 0, va, end, bestSize(va, end)); } while (va < end);
  } else {
    const n = <u32>((end - va) >> GRANULE_LG2);
    writeLeaves(slot(table, 0, va), n, 0, GRANULE_LG2, va);
    addLive(table, n);
  }
}

/** A leaf table that is not in the tree yet: only what the run leaves out needs clearing. */
@inline export function buildLeafTable(va: u64, end: u64): u32 {
  const table = newTable();
  clear(table, slot(table, 0, va));
  clear(slot(table, 0, end - GRANULE) + 8, table + TABLE_BYTES);
  fillLeafTable(table, va, end);
  return table;
}

/** Writes `[va, end)` below `table`. */
export function fill(table: u32, level: i32, va: u64, end: u64): void {
  if (level == 0) return fillLeafTable(table, va, end);
  const item = itemLg2(level);
  do {
    const size = bestSize(va, end);
    if (size >= item) {
      va = fillRun(table, level, va, end, size);
      continue;
    }
    const next = min(((va >> item) + 1) << item, end);
    const at = slot(table, level, va);
    const entry = load<u64>(at);
    if (entry != 0) fill(tableOffset(entry), level - 1, va, next);
    else if (level == 1) {
      install(at, buildLeafTable(va, next), 0);
      addLive(table, 1);
    } else {
      const child = newTable();
      memory.fill(child, 0, TABLE_BYTES);
      fill(child, level - 1, va, next);
      install(at, child, level - 1);
      addLive(table, 1);
    }
    va = next;
  } while (va < end);
}
