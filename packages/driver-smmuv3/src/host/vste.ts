/**
 * The stream table entry of a guest (vSTE), as far as a guest may have a say: what it asks for, and
 * the entry of the hardware that comes of it.
 *
 * @spec SMMUv3 5.2
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c (arm_smmu_validate_vste,
 *   arm_smmu_make_nested_domain_ste)
 */
import { decode, maskOf } from '@iommukit/bits';
import { refuse } from '@iommukit/core';
import { S1_DSS, STE, STE_BYTES, STE_CONFIG } from '../spec/stream-table-entry.ts';
import type { GuestFeatures } from './guest-features.ts';

/** Bytes of `struct iommu_hwpt_arm_smmuv3`: two 64-bit words. */
export const VSTE_BYTES = 16;

const OP = 'IOMMU_HWPT_ALLOC';
const STE_WORDS = STE_BYTES / 4;
const VSTE_WORDS = VSTE_BYTES / 4;

/** The bits that a guest may set; the rest of an entry is the host's. */
const ALLOWED = maskOf(
  STE,
  'V',
  'CONFIG',
  'S1FMT',
  'S1CONTEXTPTR',
  'S1CDMAX',
  'S1DSS',
  'S1CIR',
  'S1COR',
  'S1CSH',
  'S1STALLD',
  'EATS',
);
/** What the guest's words bring into a nested entry. */
const FROM_GUEST = maskOf(
  STE,
  'S1FMT',
  'S1CONTEXTPTR',
  'S1CDMAX',
  'S1DSS',
  'S1CIR',
  'S1COR',
  'S1CSH',
  'S1STALLD',
);
const EATS = { OFF: 0, FULL: 1 } as const;
const EATS_MASK = maskOf(STE, 'EATS');
/** SHCFG counts only where requests pass stage 1 untranslated. */
const EATS_AND_SHCFG = maskOf(STE, 'EATS', 'SHCFG');
const { V, CONFIG, MEV } = STE.fields;

/** What a guest asks for: abort, bypass of stage 1, or its own CD table. */
export type VsteConfig = 'abort' | 'bypass' | 's1';

/** A vSTE that was found good. */
export interface Vste {
  readonly config: VsteConfig;
  /** Its four u32 words. */
  readonly words: Uint32Array;
  /** The guest knows that ATS is on and will invalidate its device's TLB. */
  readonly ats: boolean;
}

const ABORT: Vste = { config: 'abort', words: new Uint32Array(VSTE_WORDS), ats: false };
const CONFIGS: Readonly<Record<number, VsteConfig>> = {
  [STE_CONFIG.ABORT]: 'abort',
  [STE_CONFIG.BYPASS]: 'bypass',
  [STE_CONFIG.S1]: 's1',
};

/**
 * Read a guest's entry. One that is not valid (V=0) aborts, whatever else it says. S1CDMax above
 * SSIDSIZE, which hardware would answer with C_BAD_STE for every request, is refused at once.
 *
 * @param bytes two 64-bit words, little endian
 * @throws {IommuError} EIO for a bit, a Config or an EATS that a guest cannot have
 */
export const readVste = (bytes: Uint8Array, features: GuestFeatures): Vste => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const words = Uint32Array.from({ length: VSTE_WORDS }, (_, at) => view.getUint32(at * 4, true));
  if (((words[0] as number) & V.mask) === 0) return ABORT;
  checkBits(words);
  const ste = decode(STE, padded(words));
  const config = CONFIGS[ste.CONFIG];
  if (!config) {
    throw bad('vste-config', `Config ${ste.CONFIG} is not the guest's to choose`, {
      value: ste.CONFIG,
      accepted: '0 (abort), 4 (bypass) or 5 (stage 1)',
    });
  }
  if (ste.EATS !== EATS.OFF && ste.EATS !== EATS.FULL) {
    throw bad('vste-eats', `EATS ${ste.EATS} is not offered to guests`, {
      value: ste.EATS,
      accepted: '0 (no ATS) or 1 (full ATS)',
    });
  }
  const { ssidBits } = features;
  if (config === 's1' && ssidBits > 0 && ste.S1CDMAX > ssidBits) {
    throw bad('vste-s1cdmax', `S1CDMax ${ste.S1CDMAX} is above the unit's SSIDSIZE`, {
      value: ste.S1CDMAX,
      accepted: `0 to ${ssidBits}`,
    });
  }
  return { config, words, ats: config === 's1' && ste.EATS === EATS.FULL };
};

/**
 * The entry that nested translation needs: the guest's words over the host's stage 2.
 *
 * @param stage2 16 u32 words of a stage-2 entry with the VMID to use
 * @param ats ATS is on in the device
 * @returns 16 u32 words; events of one kind may be merged (MEV), so that a guest cannot flood the
 *   event queue
 */
export const nestedEntry = (vste: Vste, stage2: Uint32Array, ats: boolean): Uint32Array => {
  const words = stage2.slice();
  words[0] = V.mask | (STE_CONFIG.NESTED << CONFIG.shift);
  words[1] = 0;
  const bypassesS1 = decode(STE, padded(vste.words)).S1DSS === S1_DSS.BYPASS;
  const withheld = bypassesS1 ? EATS_MASK : EATS_AND_SHCFG;
  for (let at = 0; at < VSTE_WORDS; at++) {
    const mine = (words[at] as number) & ~(withheld[at] as number);
    words[at] = mine | ((vste.words[at] as number) & (FROM_GUEST[at] as number));
  }
  words[MEV.word] = ((words[MEV.word] as number) | MEV.mask) >>> 0;
  if (ats) words[STE.fields.EATS.word] = eats(words[STE.fields.EATS.word] as number);
  return words;
};

const eats = (word: number): number => (word | (EATS.FULL << STE.fields.EATS.shift)) >>> 0;

const checkBits = (words: Uint32Array): void => {
  const at = words.findIndex((word, index) => (word & ~(ALLOWED[index] as number)) !== 0);
  if (at < 0) return;
  const extra = ((words[at] as number) & ~(ALLOWED[at] as number)) >>> 0;
  throw bad('vste-bits', `bits 0x${extra.toString(16)} of dword ${at} are not the guest's`, {
    value: words[at] as number,
    accepted: 'V, Config, S1Fmt, S1ContextPtr, S1CDMax, S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS',
  });
};

const padded = (words: Uint32Array): Uint32Array => {
  const all = new Uint32Array(STE_WORDS);
  all.set(words);
  return all;
};

const bad = (rule: string, message: string, details: { value: number; accepted: string }) =>
  refuse('EIO', OP, rule, message, details);
