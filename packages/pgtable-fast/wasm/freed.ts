// Tables that left the tree wait in a list until the caller has invalidated what hardware may still
// hold of them: their contents stay untouched, the links are in the page records.
import { ENTRIES, GRANULE, itemLg2, tableOffset, rootOf } from './walk';
import { isLeaf } from './format';
import { record, liveCount } from './pool';
import { freedHead, freedCount, setFreed, addTables, countLeft } from './control-block';

function pushFreed(block: u32, table: u32): void {
  const head = freedHead(block);
  const r = record(table);
  store<u32>(r, head != 0 ? load<u32>(record(head)) : table);
  store<u32>(r + 4, head);
  setFreed(block, table, freedCount(block) + 1);
  addTables(block, -1);
}

/** Frees `table` and everything below it; returns the frames that were mapped there. */
export function freeTree(block: u32, table: u32, level: i32): u64 {
  const live = liveCount(table);
  let frames: u64 = 0;
  if (level == 0) {
    frames = <u64>live * GRANULE;
  } else if (live != 0) {
    const end = table + ENTRIES * 8;
    for (let p = table; p < end; p += 8) {
      const entry = load<u64>(p);
      if (entry == 0) continue;
      if (isLeaf(entry, level)) frames += (<u64>1) << itemLg2(level);
      else frames += freeTree(block, tableOffset(entry), level - 1);
    }
  }
  if (level == 1) countLeft(block);
  pushFreed(block, table);
  return frames;
}

/** Whether no leaf is left in `table` and below. */
export function isEmptyTree(table: u32, level: i32): bool {
  if (liveCount(table) == 0) return true;
  if (level == 0) return false;
  const end = table + ENTRIES * 8;
  for (let p = table; p < end; p += 8) {
    const entry = load<u64>(p);
    if (entry == 0) continue;
    if (isLeaf(entry, level) || !isEmptyTree(tableOffset(entry), level - 1)) return false;
  }
  return true;
}
