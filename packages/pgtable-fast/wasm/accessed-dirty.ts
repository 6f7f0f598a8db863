// What hardware does to entries on an access.
import { ACCESSED_TABLE, DYNAMIC_TOP, accessedLeaf, dirtied, isLeaf, writable } from './format';
import { inputFrame, isOut, itemLg2, levelsOf, rootOf, setRootLevel, slot, tableOffset, whole } from './walk';
import { EACCES, ENOENT, ERANGE } from './pool';
import { top } from './control-block';

@inline function update(at: u32, entry: u64, bits: u64): void {
  if (bits == entry) return;
  if (!ASC_FEATURE_THREADS) store<u64>(at, bits);
  else if (bits > entry || (bits & entry) == entry) atomic.or<u64>(at, bits ^ entry);
  else atomic.and<u64>(at, ~(bits ^ entry));
}

/** What hardware does on an access: accessed in every entry used, dirty in the leaf on a write. */
export function setAccessedDirty(block: u32, iova: f64, write: bool): i32 {
  const word = top(block);
  const va = inputFrame(word, whole(iova));
  if (isOut(va)) return ERANGE;
  let level = levelsOf(word) - 1;
  let table = rootOf(word);
  setRootLevel(level);
  if (DYNAMIC_TOP && va >> itemLg2(level + 1) != 0) return ENOENT;
  while (true) {
    const at = slot(table, level, va);
    const entry = load<u64>(at);
    if (entry == 0) return ENOENT;
    if (isLeaf(entry, level)) {
      if (write && !writable(entry)) return EACCES;
      if (ACCESSED_TABLE != 0) markPath(block, va, level);
      update(at, entry, accessedLeaf(entry));
      const accessed = load<u64>(at);
      if (write) update(at, accessed, dirtied(accessed));
      return 0;
    }
    table = tableOffset(entry);
    level--;
  }
}

/** Accessed in the table entries above the leaf at `leafLevel`; only after the access is known to succeed. */
@inline function markPath(block: u32, va: u64, leafLevel: i32): void {
  const word = top(block);
  let table = rootOf(word);
  for (let level = levelsOf(word) - 1; level > leafLevel; level--) {
    const at = slot(table, level, va);
    const entry = load<u64>(at);
    update(at, entry, entry | ACCESSED_TABLE);
    table = tableOffset(entry);
  }
}
