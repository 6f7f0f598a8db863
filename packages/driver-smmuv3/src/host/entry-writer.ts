/**
 * Changes a live STE or CD so that hardware, which reads 64-bit words whole but entries piecemeal,
 * never acts on a mixture of old and new.
 *
 * @spec SMMUv3 3.21.3 (configuration structures and atomicity)
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_write_entry)
 */

/** Where an entry lies. */
export interface EntryPort {
  /** u32 words of the entry as it stands; kept up to date by `store`. */
  readonly words: Uint32Array;
  /** Store the 64-bit word `qword` from its halves. */
  store(qword: number, lo: number, hi: number): void;
  /** Make hardware forget what it cached, and wait. */
  sync(): void;
}

/** What hardware makes of the bits of a kind of entry. */
export interface EntryRules {
  /** Masks of the bits that it looks at, given the others. */
  usedBits(words: Uint32Array): Uint32Array;
  /** Masks of bits that may change at any time on the way from one entry to the other. */
  safeBits(from: Uint32Array, to: Uint32Array): Uint32Array;
}

/**
 * Bring an entry to `next`. When the used bits differ in at most one 64-bit word no request meets
 * anything but the old or the new entry; else the entry is invalid for a moment.
 *
 * @returns whether it was hitless
 */
export const writeEntry = (port: EntryPort, next: Uint32Array, rules: EntryRules): boolean => {
  const { staged, critical } = stage(port.words, next, rules);
  if (critical.length === 0) {
    store(port, next, 0);
    return true;
  }
  if (critical.length > 1) return writeThroughInvalid(port, next);
  const [word = 0] = critical;
  staged[2 * word] = port.words[2 * word] as number;
  staged[2 * word + 1] = port.words[2 * word + 1] as number;
  store(port, staged, 0);
  staged[2 * word] = next[2 * word] as number;
  staged[2 * word + 1] = next[2 * word + 1] as number;
  store(port, staged, 0);
  store(port, next, 0);
  return true;
};

/** The old entry with the new one in the bits that may change, and the words that still differ. */
const stage = (
  old: Uint32Array,
  next: Uint32Array,
  rules: EntryRules,
): { readonly staged: Uint32Array; readonly critical: readonly number[] } => {
  const usedNow = rules.usedBits(old);
  const usedNext = rules.usedBits(next);
  const safe = rules.safeBits(old, next);
  const staged = old.map((word, at) => {
    // A bit that the new entry does not use stays until nobody looks at it.
    const kept = (usedNow[at] as number) & ~((safe[at] as number) & (usedNext[at] as number));
    return (word & kept) | ((next[at] as number) & ~kept);
  });
  const critical: number[] = [];
  for (let qword = 0; 2 * qword < next.length; qword++) {
    const differs = [2 * qword, 2 * qword + 1].some(
      (at) => (((staged[at] as number) ^ (next[at] as number)) & (usedNext[at] as number)) !== 0,
    );
    if (differs) critical.push(qword);
  }
  return { staged, critical };
};

const writeThroughInvalid = (port: EntryPort, next: Uint32Array): false => {
  const invalid = port.words.slice();
  invalid[0] = 0;
  invalid[1] = 0;
  store(port, invalid, 0);
  store(port, next, 1);
  store(port, next, 0);
  return false;
};

/** Store the 64-bit words from `from` on that differ; one sync when there were any. */
const store = (port: EntryPort, target: Uint32Array, from: number): void => {
  let changed = false;
  for (let qword = from; 2 * qword < target.length; qword++) {
    const [lo, hi] = [target[2 * qword] as number, target[2 * qword + 1] as number];
    if (port.words[2 * qword] === lo && port.words[2 * qword + 1] === hi) continue;
    port.store(qword, lo, hi);
    changed = true;
  }
  if (changed) port.sync();
};
