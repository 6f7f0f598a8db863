// Operations on a whole table.
import { isLeaf } from './format';
import { ENTRIES, GRANULE, itemLg2, levelsOf, rootOf, tableOffset } from './walk';
import { liveCount } from './pool';
import { rootEntries, setTop, top } from './control-block';
import { freeTree } from './freed';

/** Moves every table below the root to the freed list and clears the root's entries. */
export function freeAll(block: u32): void {
  const word = top(block);
  const level = levelsOf(word) - 1;
  const root = rootOf(word);
  const end = root + rootEntries(block) * 8;
  if (level > 0) {
    for (let p = root; p < end; p += 8) {
      const entry = load<u64>(p);
      if (entry == 0 || isLeaf(entry, level)) continue;
      store<u64>(p, 0);
      freeTree(block, tableOffset(entry), level - 1);
    }
  }
}

function countFrames(table: u32, entries: u32, level: i32): f64 {
  const live = liveCount(table);
  if (live == 0) return 0;
  if (level == 0) return <f64>live * <f64>GRANULE;
  let frames: f64 = 0;
  const end = table + entries * 8;
  for (let p = table; p < end; p += 8) {
    const entry = load<u64>(p);
    if (entry == 0) continue;
    if (isLeaf(entry, level)) frames += <f64>((<u64>1) << itemLg2(level));
    else frames += countFrames(tableOffset(entry), ENTRIES, level - 1);
  }
  return frames;
}

/** Frames mapped in the whole table. */
export function mappedFrames(block: u32): f64 {
  const word = top(block);
  return countFrames(rootOf(word), rootEntries(block), levelsOf(word) - 1);
}
