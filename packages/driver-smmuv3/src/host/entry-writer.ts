/**
 * Changes a live STE so that hardware, which reads 64-bit words whole but entries piecemeal,
 * never acts on a mixture of old and new.
 *
 * @spec SMMUv3 3.21.3 (configuration structures and atomicity)
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_write_entry)
 */
import { maskOf } from '@iommukit/bits';
import { S1_DSS, STE, STE_CONFIG } from '../spec/stream-table-entry.ts';

/** Where an entry lies. */
export interface EntryPort {
  /** u32 words of the entry as it stands; kept up to date by `store`. */
  readonly words: Uint32Array;
  /** Store the 64-bit word `qword` from its halves. */
  store(qword: number, lo: number, hi: number): void;
  /** Make hardware forget what it cached, and wait. */
  sync(): void;
}

const ALWAYS = maskOf(STE, 'V');
const VALID = maskOf(STE, 'V', 'CONFIG');
const STAGE1 = maskOf(
  STE,
  'S1FMT',
  'S1CONTEXTPTR',
  'S1CDMAX',
  'S1DSS',
  'S1CIR',
  'S1COR',
  'S1CSH',
  'S1STALLD',
  'STRW',
  'EATS',
  'S2VMID',
);
const STAGE2 = maskOf(
  STE,
  'S2FWB',
  'EATS',
  'SHCFG',
  'S2VMID',
  'S2T0SZ',
  'S2SL0',
  'S2IR0',
  'S2OR0',
  'S2SH0',
  'S2TG',
  'S2PS',
  'S2AA64',
  'S2ENDI',
  'S2PTW',
  'S2S',
  'S2R',
  'S2TTB',
);
const BYPASSED = maskOf(STE, 'SHCFG');
const { V, CONFIG, S1DSS } = STE.fields;

/** Bits of an entry that hardware looks at, given its V and Config. MEV may change at any time. */
const usedBits = (words: ArrayLike<number>): Uint32Array => {
  const used = Uint32Array.from(ALWAYS);
  const w0 = words[0] as number;
  if ((w0 & V.mask) === 0) return used;
  const config = (w0 & CONFIG.mask) >>> CONFIG.shift;
  const defaultSubstream = ((words[S1DSS.word] as number) & S1DSS.mask) >>> S1DSS.shift;
  add(used, VALID);
  if (config < STE_CONFIG.BYPASS) return used;
  if (config === STE_CONFIG.BYPASS) add(used, BYPASSED);
  if ((config & 1) !== 0) {
    add(used, STAGE1);
    if (defaultSubstream === S1_DSS.BYPASS) add(used, BYPASSED);
  }
  if ((config & 2) !== 0) add(used, STAGE2);
  return used;
};

const add = (used: Uint32Array, masks: readonly number[]): void => {
  masks.forEach((mask, at) => {
    used[at] = (used[at] as number) | mask;
  });
};

/**
 * Bring an entry to `next`. When the used bits differ in at most one 64-bit word no request meets
 * anything but the old or the new entry; else the entry is invalid for a moment.
 *
 * @returns whether it was hitless
 */
export const writeEntry = (port: EntryPort, next: Uint32Array): boolean => {
  const { staged, critical } = stage(port.words, next);
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

/** The old entry with the new one in the bits that nobody looks at, and the words that still differ. */
const stage = (
  old: Uint32Array,
  next: Uint32Array,
): { readonly staged: Uint32Array; readonly critical: readonly number[] } => {
  const usedNow = usedBits(old);
  const usedNext = usedBits(next);
  const staged = old.map(
    (word, at) =>
      (word & (usedNow[at] as number)) | ((next[at] as number) & ~(usedNow[at] as number)),
  );
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
