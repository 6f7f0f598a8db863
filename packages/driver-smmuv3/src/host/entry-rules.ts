/**
 * Which bits of STEs and CDs hardware looks at, so that the others can change under it.
 *
 * @spec SMMUv3 5.2, 5.4
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_get_ste_used, arm_smmu_get_cd_used)
 */
import { maskOf } from '@iommukit/bits';
import { CD } from '../spec/context-descriptor.ts';
import { EATS, S1_DSS, STE, STE_CONFIG } from '../spec/stream-table-entry.ts';
import type { EntryRules } from './entry-writer.ts';

const STE_VALID = maskOf(STE, 'V');
const STE_KIND = maskOf(STE, 'V', 'CONFIG');
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
  'MEV',
  'S2VMID',
);
const STAGE2 = maskOf(
  STE,
  'S2FWB',
  'EATS',
  'MEV',
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
const { V, CONFIG, S1DSS, MEV, S2S } = STE.fields;
/** Full ATS, the lower bit of EATS. */
const EATS_FULL = (EATS.FULL << STE.fields.EATS.shift) >>> 0;

const add = (used: Uint32Array, masks: readonly number[]): void => {
  masks.forEach((mask, at) => {
    used[at] = (used[at] as number) | mask;
  });
};

const fieldOf = (
  words: Uint32Array,
  { word, mask, shift }: { readonly word: number; readonly mask: number; readonly shift: number },
): number => ((words[word] as number) & mask) >>> shift;

const usedBitsOfSte = (words: Uint32Array): Uint32Array => {
  const used = Uint32Array.from(STE_VALID);
  if (fieldOf(words, V) === 0) return used;
  const config = fieldOf(words, CONFIG);
  add(used, STE_KIND);
  if (config < STE_CONFIG.BYPASS) return used;
  if (config === STE_CONFIG.BYPASS) add(used, BYPASSED);
  if ((config & 1) !== 0) {
    add(used, STAGE1);
    if (fieldOf(words, S1DSS) === S1_DSS.BYPASS) add(used, BYPASSED);
  }
  if ((config & 2) !== 0) add(used, STAGE2);
  return used;
};

/**
 * MEV changes only what is merged. EATS goes on or off at any time, unless one of the entries
 * would make the pair illegal: split-stage ATS, or stage-2 stalls, which exclude full ATS.
 */
const safeBitsOfSte = (from: Uint32Array, to: Uint32Array): Uint32Array => {
  const safe = new Uint32Array(from.length);
  safe[MEV.word] = MEV.mask;
  const excludes = (words: Uint32Array) =>
    fieldOf(words, STE.fields.EATS) === EATS.SPLIT_STAGE || fieldOf(words, S2S) === 1;
  if (!excludes(from) && !excludes(to)) safe[STE.fields.EATS.word] = (MEV.mask | EATS_FULL) >>> 0;
  return safe;
};

/** Rules of stream table entries. */
export const STE_RULES: EntryRules = { usedBits: usedBitsOfSte, safeBits: safeBitsOfSte };

const CD_VALID = maskOf(CD, 'V');
/** What describes the lower half of the address space. */
const LOWER_HALF = maskOf(CD, 'T0SZ', 'TG0', 'IR0', 'OR0', 'SH0', 'TTB0');

const usedBitsOfCd = (words: Uint32Array): Uint32Array => {
  if (fieldOf(words, CD.fields.V) === 0) return Uint32Array.from(CD_VALID);
  const used = new Uint32Array(words.length).fill(0xffff_ffff);
  if (fieldOf(words, CD.fields.EPD0) === 0) return used;
  return used.map((mask, at) => mask & ~(LOWER_HALF[at] ?? 0));
};

/** Rules of context descriptors. */
export const CD_RULES: EntryRules = {
  usedBits: usedBitsOfCd,
  safeBits: (from) => new Uint32Array(from.length),
};
