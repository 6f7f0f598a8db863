// Tables with a dynamic top: levels added for a mapping beyond their reach, and taken back when it fails.
import { TABLE_BYTES, itemLg2, levelsOf, rootOf, tableOffset } from './walk';
import { addTables, maxLevels, setTop, top } from './control-block';
import { ENOMEM, addLive, release, reserve } from './pool';
import { install, newTable } from './map-fill';
import { setTable } from './map-state';

/** Adds levels on top until `last` fits. 0 or -12; the caller restores the old top on later errors. */
export function grow(block: u32, last: u64): i32 {
  let word = top(block);
  let levels = levelsOf(word);
  let wanted = levels;
  while (wanted < <i32>maxLevels(block) && last >> itemLg2(wanted) != 0) wanted++;
  if (wanted == levels) return 0;
  if (reserve(wanted - levels, 0) != 0) return ENOMEM;
  setTable(block);
  for (; levels < wanted; levels++) {
    const root = newTable();
    memory.fill(root, 0, TABLE_BYTES);
    install(root, rootOf(word), levels - 1);
    addLive(root, 1);
    word = root | (word & 0xff8) | (levels + 1);
  }
  setTop(block, word);
  return 0;
}

/** Takes back what `grow` added. */
export function shrink(block: u32, old: u32): void {
  let table = rootOf(top(block));
  setTop(block, old);
  while (table != rootOf(old)) {
    const below = tableOffset(load<u64>(table));
    addTables(block, -1);
    release(table, 0);
    table = below;
  }
}
