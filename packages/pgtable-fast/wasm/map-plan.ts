// The first pass of a mapping: nothing is changed.
import { isLeaf } from './format';
import { GRANULE, itemLg2, slot, tableOffset } from './walk';
import { EADDRINUSE, liveCount } from './pool';
import { anyPresent } from './fill';
import { isEmptyTree } from './freed';
import { before, bestSize, largePossible } from './map-state';

/** Tables missing for `[va, end)` below `table` (0: the table itself is missing), or EADDRINUSE. */
export function plan(table: u32, level: i32, va: u64, end: u64): i32 {
  if (level == 0) {
    if (table == 0 || liveCount(table) == 0) return 0;
    return anyPresent(slot(table, 0, va), slot(table, 0, end - GRANULE) + 8) ? EADDRINUSE : 0;
  }
  const item = itemLg2(level);
  if (table != 0 && liveCount(table) == 0) table = 0;
  if (table == 0 && level == 1 && !largePossible(1)) {
    const shared = before >> item == va >> item ? 1 : 0;
    return <i32>(((end - 1) >> item) - (va >> item) + 1) - shared;
  }
  let missing = 0;
  do {
    const next = min(((va >> item) + 1) << item, end);
    const entry = table != 0 ? load<u64>(slot(table, level, va)) : 0;
    if (entry != 0 && isLeaf(entry, level)) return EADDRINUSE;
    const child = entry != 0 ? tableOffset(entry) : 0;
    if (bestSize(va, end) >= item) {
      if (child != 0 && !isEmptyTree(child, level - 1)) return EADDRINUSE;
    } else {
      if (child == 0 && before >> item != va >> item) missing++;
      const below = plan(child, level - 1, va, next);
      if (below < 0) return below;
      missing += below;
    }
    va = next;
  } while (va < end);
  return missing;
}
