/**
 * TLBI commands: which cached translations each of them reaches.
 *
 * @spec SMMUv3 4.4 (TLB invalidation), 3.17 (tags of worlds), 6.3.9.5 (VMID wildcards)
 */
import { ALL_KINDS, ANY_TAG, ENTRY_KIND, FIRST_STAGE_KINDS } from '@iommukit/pgtable-fast';
import { COMMAND, TLBI } from '../spec/commands.ts';
import { type Caches, WORLD_TAG } from './caches.ts';
import type { Features } from './capabilities.ts';
import { WORLD } from './configuration.ts';
import { granuleOfRange } from './geometry.ts';
import type { UnitState } from './unit-state.ts';

/** Tag of entries that are for every ASID. */
export const GLOBAL_TAG = -1;

const { NUM, SCALE, TTL, TG } = TLBI.fields;
const LOW_PFN_BITS = 2 ** 20;
const FRAME_LG2 = 12;
/** SCALE without 52-bit addresses. */
const SHORT_SCALE = 31;
/** Tag bits that are the VMID: the others tell worlds apart. */
const VMID_MASK = 0xffff;
const EXACT = -1;
/** Entries keyed by an IPA. */
const STAGE2_ONLY = ENTRY_KIND.SECOND_STAGE;

/** Executes TLBI commands. */
export class TranslationCommands {
  readonly #features: Features;
  readonly #state: UnitState;
  readonly #caches: Caches;

  constructor(features: Features, state: UnitState, caches: Caches) {
    this.#features = features;
    this.#state = state;
    this.#caches = caches;
  }

  /**
   * Execute a command.
   *
   * @param words four dwords
   * @returns false for an illegal command, or one of an absent feature
   */
  execute(opcode: number, words: Int32Array): boolean {
    switch (opcode) {
      case COMMAND.TLBI_NH_ALL:
      case COMMAND.TLBI_NH_ASID:
      case COMMAND.TLBI_NH_VA:
      case COMMAND.TLBI_NH_VAA:
        return this.#features.stage1 && this.#stage1(opcode, words);
      case COMMAND.TLBI_EL2_ALL:
      case COMMAND.TLBI_EL2_ASID:
      case COMMAND.TLBI_EL2_VA:
      case COMMAND.TLBI_EL2_VAA:
        return this.#features.hyp && this.#el2(opcode, words);
      case COMMAND.TLBI_S12_VMALL:
      case COMMAND.TLBI_S2_IPA:
        return this.#features.stage2 && this.#stage2(opcode, words);
      case COMMAND.TLBI_NSNH_ALL:
        this.#dropTag(0, ANY_TAG, ALL_KINDS, ~VMID_MASK);
        return true;
      default:
        return false;
    }
  }

  /** NS-EL1: by VMID. */
  #stage1(opcode: number, words: Int32Array): boolean {
    const vmid = this.#vmidOf(words);
    const asid = (words[1] as number) >>> 16;
    const mask = this.#vmidMask;
    switch (opcode) {
      case COMMAND.TLBI_NH_ALL:
        return this.#dropTag(vmid, ANY_TAG, FIRST_STAGE_KINDS, mask);
      case COMMAND.TLBI_NH_ASID:
        return this.#dropTag(vmid, asid, FIRST_STAGE_KINDS, mask);
      case COMMAND.TLBI_NH_VA:
        return this.#dropPages(words, vmid, asid, FIRST_STAGE_KINDS, mask);
      default:
        return this.#dropPages(words, vmid, ANY_TAG, FIRST_STAGE_KINDS, mask);
    }
  }

  /** EL2 and EL2-E2H: CR2.E2H says which of them commands by address mean. */
  #el2(opcode: number, words: Int32Array): boolean {
    const asid = (words[1] as number) >>> 16;
    const e2h = WORLD_TAG[WORLD.EL2_E2H];
    const el2 = WORLD_TAG[WORLD.EL2];
    const chosen = this.#state.e2h ? e2h : el2;
    switch (opcode) {
      case COMMAND.TLBI_EL2_ALL:
        this.#dropTag(el2, ANY_TAG, FIRST_STAGE_KINDS, EXACT);
        return this.#dropTag(e2h, ANY_TAG, FIRST_STAGE_KINDS, EXACT);
      case COMMAND.TLBI_EL2_ASID:
        return this.#dropTag(e2h, asid, FIRST_STAGE_KINDS, EXACT);
      case COMMAND.TLBI_EL2_VA:
        return this.#dropPages(
          words,
          chosen,
          this.#state.e2h ? asid : ANY_TAG,
          FIRST_STAGE_KINDS,
          EXACT,
        );
      default:
        return this.#dropPages(words, chosen, ANY_TAG, FIRST_STAGE_KINDS, EXACT);
    }
  }

  #stage2(opcode: number, words: Int32Array): boolean {
    const vmid = this.#vmidOf(words);
    return opcode === COMMAND.TLBI_S12_VMALL
      ? this.#dropTag(vmid, ANY_TAG, ALL_KINDS, this.#vmidMask)
      : this.#dropPages(words, vmid, ANY_TAG, STAGE2_ONLY, this.#vmidMask);
  }

  #vmidOf(words: Int32Array): number {
    return this.#features.stage2 ? (words[1] as number) & VMID_MASK : 0;
  }

  get #vmidMask(): number {
    return EXACT << this.#state.vmidWildcardBits;
  }

  #dropTag(tag: number, asid: number, kinds: number, mask: number): true {
    const { tlb } = this.#caches;
    tlb.tagAMask = mask;
    tlb.invalidateTag(tag, asid, kinds);
    return true;
  }

  /** Entries of an ASID (global ones too) that overlap the page or range of a command. */
  #dropPages(words: Int32Array, tag: number, asid: number, kinds: number, mask: number): boolean {
    const [w0 = 0, , w2 = 0, w3 = 0] = words;
    const pages = this.#features.rangeInvalidation ? rangePages(w0, w2, this.#features.ds) : 1;
    if (pages === undefined) return false;
    const pfn = (w3 >>> 0) * LOW_PFN_BITS + (w2 >>> FRAME_LG2);
    const { tlb } = this.#caches;
    tlb.tagAMask = mask;
    tlb.invalidatePages(tag, asid, pfn, pages, kinds);
    if (asid !== ANY_TAG) tlb.invalidatePages(tag, GLOBAL_TAG, pfn, pages, kinds);
    return true;
  }
}

/**
 * 4 KiB pages of a TLBI by address.
 *
 * @returns undefined for a range of granule TG without any size
 * @spec SMMUv3 4.4.1.1
 */
const rangePages = (w0: number, w2: number, ds: boolean): number | undefined => {
  const granuleLg2 = granuleOfRange((w2 & TG.mask) >>> TG.shift);
  if (granuleLg2 === undefined) return 1;
  const num = (w0 & NUM.mask) >>> NUM.shift;
  const field = (w0 & SCALE.mask) >>> SCALE.shift;
  const scale = ds ? field : field & SHORT_SCALE;
  if (num === 0 && scale === 0 && (w2 & TTL.mask) === 0) return undefined;
  return (num + 1) * 2 ** (scale + granuleLg2 - FRAME_LG2);
};
