/**
 * Walks stage-1 tables: three granules, both halves, 52-bit addresses, hierarchical permissions,
 * access flag and dirty state, each descriptor through stage 2 when there is one.
 *
 * @spec SMMUv3 3.4, 3.13; Arm ARM D8.2, D8.4
 */
import { EVENT, EVENT_CLASS } from '../spec/events.ts';
import { DESCRIPTOR_TYPE, S1_LEAF, TABLE_DESCRIPTOR } from '../spec/translation-descriptor.ts';
import type { Stage1Config, Stage1Half, Stage2Config } from './configuration.ts';
import { type Fault, setFault, TERMS } from './faults.ts';
import {
  contiguousLg2,
  descriptorAddress,
  entryLg2,
  isBlockLevel,
  pageFrames,
  tableIndex,
} from './geometry.ts';
import { type HardwareMemory, swapBytes, updateDescriptor } from './memory.ts';
import { INHERITED, READ_ONLY_TABLE, stage1Rights } from './stage1-rights.ts';
import {
  MAX_WALKS,
  PRIVILEGED_SHIFT,
  RIGHT,
  type Stage2Walker,
  WALK,
  WRITE_RIGHTS,
} from './stage2-walker.ts';

const AF = S1_LEAF.fields.AF.mask;
const TABLE_AF = TABLE_DESCRIPTOR.fields.AF.mask;
const NG = S1_LEAF.fields.NG.mask;
const AP2 = S1_LEAF.fields.AP2.mask;
const DBM = S1_LEAF.fields.DBM.mask;
const CONTIGUOUS = S1_LEAF.fields.CONTIGUOUS.mask;
const USER_RIGHTS = (1 << PRIVILEGED_SHIFT) - 1;

const FRAME_BYTES = 4096;
const PAGE_MASK = 0xfff;
const LAST_LEVEL = 3;
const LINEAR_FRAMES = 2 ** 52;

/** One walker per unit; the result of the last walk stands in its fields. */
export class Stage1Walker {
  /** 4 KiB frame of the result: HPA, or IPA when there is a stage 2. */
  pfn = 0;
  /** User rights in bits 2:0, privileged in 5:3. */
  rights = 0;
  /** lg2 of the bytes that translate alike: the leaf's, or those of its contiguous group. */
  sizeLg2 = 12;
  /** The leaf is for every ASID (nG = 0). */
  global = false;
  /** False: the first write has to make the leaf dirty. */
  dirtyKnown = true;
  readonly #memory: HardwareMemory;
  readonly #fault: Fault;
  readonly #stage2: Stage2Walker;
  readonly #contiguous: boolean;
  /** The descriptor that was read last: its address before stage 2, place and words. */
  #address = 0;
  #i32: Int32Array = new Int32Array(2);
  #at = 0;
  #lo = 0;
  #hi = 0;

  /**
   * @param fault filled when a walk faults
   * @param contiguous whether the result covers contiguous groups
   */
  constructor(memory: HardwareMemory, fault: Fault, stage2: Stage2Walker, contiguous: boolean) {
    this.#memory = memory;
    this.#fault = fault;
    this.#stage2 = stage2;
    this.#contiguous = contiguous;
  }

  /**
   * Walk, and update access flag and dirty state as the access asks. @hot
   *
   * @param pfn 4 KiB frame with its ignored top byte replaced ({@link canonicalFrame})
   * @param need rights in place: user or privileged bits; a write makes the leaf dirty
   * @param nested stage 2 of the table accesses, if any
   * @returns true when it faulted
   */
  walk(config: Stage1Config, pfn: number, need: number, nested: Stage2Config | undefined): boolean {
    const upper = isUpperHalf(pfn);
    const half = upper ? config.upper : config.lower;
    if (half === undefined) return this.#fails(EVENT.F_TRANSLATION, config);
    const input = upper ? pfn - (LINEAR_FRAMES - half.inputFrames) : pfn;
    if (input < 0 || input >= half.inputFrames) return this.#fails(EVENT.F_TRANSLATION, config);
    if (half.e0pd && (need & USER_RIGHTS) !== 0) return this.#fails(EVENT.F_TRANSLATION, config);
    for (let walks = 0; walks < MAX_WALKS; walks++) {
      const end = this.#descend(config, half, input, need, nested);
      if (end !== WALK.CHANGED) return end === WALK.FAULTED;
    }
    return this.#aborts(half.root);
  }

  #descend(
    config: Stage1Config,
    half: Stage1Half,
    input: number,
    need: number,
    nested: Stage2Config | undefined,
  ): number {
    const { granuleLg2, startLevel, wide } = half;
    let table = half.root;
    let inherited = 0;
    for (let level = startLevel; ; level++) {
      const address = table + 8 * tableIndex(input, granuleLg2, level, level === startLevel);
      if (this.#fetch(address, RIGHT.READ, config.bigEndian, nested)) return WALK.FAULTED;
      const lo = this.#lo;
      const hi = this.#hi;
      const type = lo & 3;
      const page = level === LAST_LEVEL;
      if (type === DESCRIPTOR_TYPE.TABLE_OR_PAGE && !page) {
        table = descriptorAddress(lo, hi, granuleLg2, granuleLg2, wide);
        if (table >= config.outputBytes) return +this.#fails(EVENT.F_ADDR_SIZE, config);
        if (config.haft && (lo & TABLE_AF) === 0) {
          const end = this.#update(lo | TABLE_AF, config.bigEndian, nested);
          if (end !== WALK.DONE) return end;
        }
        if (!half.had) inherited |= hi & INHERITED;
        continue;
      }
      const leaf = page
        ? type === DESCRIPTOR_TYPE.TABLE_OR_PAGE
        : type === DESCRIPTOR_TYPE.BLOCK && isBlockLevel(granuleLg2, level, wide);
      if (!leaf) return +this.#fails(EVENT.F_TRANSLATION, config);
      return this.#leaf(config, half, level, input, need, inherited, nested);
    }
  }

  /** Read a descriptor, through stage 2 when there is one. @returns true when that faulted */
  #fetch(
    address: number,
    need: number,
    bigEndian: boolean,
    nested: Stage2Config | undefined,
  ): boolean {
    let pa = address;
    if (nested !== undefined) {
      const frame = Math.floor(address / FRAME_BYTES);
      if (this.#stage2.walk(nested, frame, need, EVENT_CLASS.TT)) return true;
      pa = this.#stage2.pfn * FRAME_BYTES + (address & PAGE_MASK);
    }
    const region = this.#memory.regionAt(pa);
    if (region === undefined) return this.#aborts(pa);
    const at = (pa - region.base) >>> 2;
    const first = region.i32[at] as number;
    const second = region.i32[at + 1] as number;
    this.#address = address;
    this.#i32 = region.i32;
    this.#at = at;
    this.#lo = bigEndian ? swapBytes(second) : first;
    this.#hi = bigEndian ? swapBytes(first) : second;
    return false;
  }

  /**
   * Replace the low dword of the descriptor that was read last. Stage 2 must let it be written.
   *
   * @returns one of WALK
   */
  #update(updated: number, bigEndian: boolean, nested: Stage2Config | undefined): number {
    const lo = this.#lo;
    const hi = this.#hi;
    if (nested !== undefined && this.#fetch(this.#address, RIGHT.WRITE, bigEndian, nested))
      return WALK.FAULTED;
    const done = updateDescriptor(this.#i32, this.#at, bigEndian, lo, hi, updated);
    return done ? WALK.DONE : WALK.CHANGED;
  }

  /** Address size, access flag, permission: in this order; then the updates. */
  #leaf(
    config: Stage1Config,
    half: Stage1Half,
    level: number,
    input: number,
    need: number,
    inherited: number,
    nested: Stage2Config | undefined,
  ): number {
    const { granuleLg2 } = half;
    const lo = this.#lo;
    const hi = this.#hi;
    const sizeLg2 = entryLg2(granuleLg2, level);
    const output = descriptorAddress(lo, hi, granuleLg2, sizeLg2, half.wide);
    if (output >= config.outputBytes) return +this.#fails(EVENT.F_ADDR_SIZE, config);
    if ((lo & AF) === 0 && !config.ha && !config.affd) return +this.#fails(EVENT.F_ACCESS, config);
    const clean =
      config.hd && (hi & DBM) !== 0 && (lo & AP2) !== 0 && (inherited & READ_ONLY_TABLE) === 0;
    const rights = stage1Rights(config, half, clean ? lo & ~AP2 : lo, hi, inherited);
    if ((need & ~rights) !== 0) return +this.#fails(EVENT.F_PERMISSION, config);
    const writes = (need & WRITE_RIGHTS) !== 0;
    let updated = config.ha ? lo | AF : lo;
    if (clean && writes) updated &= ~AP2;
    if (updated !== lo) {
      const end = this.#update(updated, config.bigEndian, nested);
      if (end !== WALK.DONE) return end;
    }
    this.pfn = output / FRAME_BYTES + (input % pageFrames(sizeLg2));
    this.rights = rights;
    this.dirtyKnown = !clean || writes;
    this.global = (lo & NG) === 0;
    const grouped = this.#contiguous && (hi & CONTIGUOUS) !== 0;
    this.sizeLg2 = grouped ? sizeLg2 + contiguousLg2(granuleLg2, level) : sizeLg2;
    return WALK.DONE;
  }

  #fails(code: number, config: Stage1Config): true {
    return setFault(this.#fault, code, false, EVENT_CLASS.IN, 0, config.terms);
  }

  #aborts(address: number): true {
    return setFault(this.#fault, EVENT.F_WALK_EABT, false, EVENT_CLASS.TT, address, TERMS.RECORD);
  }
}

const BIT_55 = 2 ** 43;
const TOP_BYTE = 2 ** 44;

/** Whether address bit 55 selects TTB1. @hot */
const isUpperHalf = (pfn: number): boolean => Math.floor(pfn / BIT_55) % 2 === 1;

/** The frame with its top byte equal to bit 55, where the half ignores that byte. @hot */
export const canonicalFrame = (config: Stage1Config, pfn: number): number => {
  const upper = isUpperHalf(pfn);
  if (!(upper ? config.tbi1 : config.tbi0)) return pfn;
  const low = pfn % TOP_BYTE;
  return upper ? low + 0xff * TOP_BYTE : low;
};
