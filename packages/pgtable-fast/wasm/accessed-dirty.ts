// What hardware does to entries on an access.
import { ACCESSED_TABLE, DYNAMIC_TOP, accessedLeaf, dirtied, isLeaf, isTable, writable } from './format';
import { inputFrame, isOut, itemLg2, levelsOf, rootOf, setRootLevel, slot, tableOffset, whole } from './walk';
import { EACCES, ENOENT, ERANGE } from './pool';
import { top } from './control-block';

/** Another thread has changed an entry in between: start again, as hardware does. */
const CHANGED: i32 = 1;

/** Puts `bits` in the place of `entry`; false when another thread has changed it since it was read. */
@inline function update(at: u32, entry: u64, bits: u64): bool {
  if (bits == entry) return true;
  if (ASC_FEATURE_THREADS) return atomic.cmpxchg<u64>(at, entry, bits) == entry;
  store<u64>(at, bits);
  return true;
}

/** What hardware does on an access: accessed in every entry used, dirty in the leaf on a write. */
export function setAccessedDirty(block: u32, iova: f64, write: bool): i32 {
  const word = top(block);
  const va = inputFrame(word, whole(iova));
  if (isOut(va)) return ERANGE;
  const levels = levelsOf(word);
  setRootLevel(levels - 1);
  if (DYNAMIC_TOP && va >> itemLg2(levels) != 0) return ENOENT;
  while (true) {
    const result = access(word, va, write);
    if (!ASC_FEATURE_THREADS || result != CHANGED) return result;
  }
}

/** One attempt. */
@inline function access(word: u32, va: u64, write: bool): i32 {
  let level = levelsOf(word) - 1;
  let table = rootOf(word);
  while (true) {
    const at = slot(table, level, va);
    const entry = load<u64>(at);
    if (entry == 0) return ENOENT;
    if (isLeaf(entry, level)) {
      if (write && !writable(entry)) return EACCES;
      if (ACCESSED_TABLE != 0 && !markPath(word, va, level)) return CHANGED;
      const accessed = accessedLeaf(entry);
      if (!update(at, entry, write ? dirtied(accessed) : accessed)) return CHANGED;
      return !ASC_FEATURE_THREADS || leadsTo(word, va, at) ? 0 : CHANGED;
    }
    table = tableOffset(entry);
    level--;
  }
}

/** Accessed in the table entries above the leaf at `leafLevel`; only after the access is known to succeed. */
@inline function markPath(word: u32, va: u64, leafLevel: i32): bool {
  let table = rootOf(word);
  for (let level = levelsOf(word) - 1; level > leafLevel; level--) {
    const at = slot(table, level, va);
    const entry = load<u64>(at);
    if (ASC_FEATURE_THREADS && !isTable(entry, level)) return false;
    if (!update(at, entry, entry | ACCESSED_TABLE)) return false;
    table = tableOffset(entry);
  }
  return true;
}

/** Whether the walk of `va` still ends at the entry `at`: its table may have left the tree by a merge. */
function leadsTo(word: u32, va: u64, leafAt: u32): bool {
  let level = levelsOf(word) - 1;
  let table = rootOf(word);
  while (true) {
    const at = slot(table, level, va);
    if (at == leafAt) return true;
    const entry = load<u64>(at);
    if (level == 0 || !isTable(entry, level)) return false;
    table = tableOffset(entry);
    level--;
  }
}
