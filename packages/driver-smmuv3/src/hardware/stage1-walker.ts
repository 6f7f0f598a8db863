/**
 * Walks stage-1 tables: three granules, both halves, hierarchical permissions, each descriptor
 * through stage 2 when there is one.
 *
 * @spec SMMUv3 3.4, 3.13; Arm ARM D8.2, D8.4
 */
import { EVENT, EVENT_CLASS } from '../spec/events.ts';
import { DESCRIPTOR_TYPE, S1_LEAF, TABLE_DESCRIPTOR } from '../spec/translation-descriptor.ts';
import type { Stage1Config, Stage1Half, Stage2Config } from './configuration.ts';
import { type Fault, setFault } from './faults.ts';
import { descriptorAddress, entryLg2, isBlockLevel, pageFrames, tableIndex } from './geometry.ts';
import type { HardwareMemory } from './memory.ts';
import { RIGHT, type Stage2Walker } from './stage2-walker.ts';

/** Rights of a stage-1 leaf: {@link RIGHT} bits for user, and three bits up for privileged. */
export const PRIVILEGED_SHIFT = 3;

const AF = S1_LEAF.fields.AF.mask;
const NG = S1_LEAF.fields.NG.mask;
const AP1 = S1_LEAF.fields.AP1.mask;
const AP2 = S1_LEAF.fields.AP2.mask;
const PXN = S1_LEAF.fields.PXN.mask;
const UXN = S1_LEAF.fields.UXN.mask;
const PXN_TABLE = TABLE_DESCRIPTOR.fields.PXN_TABLE.mask;
const XN_TABLE = TABLE_DESCRIPTOR.fields.XN_TABLE.mask;
const NO_EL0_TABLE = 1 << TABLE_DESCRIPTOR.fields.AP_TABLE.shift;
const READ_ONLY_TABLE = 2 << TABLE_DESCRIPTOR.fields.AP_TABLE.shift;
/** Bits of table descriptors that the leaf inherits. */
const INHERITED = PXN_TABLE | XN_TABLE | NO_EL0_TABLE | READ_ONLY_TABLE | 0;

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
  sizeLg2 = 12;
  /** The leaf is for every ASID (nG = 0). */
  global = false;
  readonly #memory: HardwareMemory;
  readonly #fault: Fault;
  readonly #stage2: Stage2Walker;

  /** @param fault filled when a walk faults */
  constructor(memory: HardwareMemory, fault: Fault, stage2: Stage2Walker) {
    this.#memory = memory;
    this.#fault = fault;
    this.#stage2 = stage2;
  }

  /**
   * Walk. @hot
   *
   * @param pfn 4 KiB frame with its ignored top byte replaced ({@link canonicalFrame})
   * @param need rights in place: user or privileged bits
   * @param nested stage 2 of the table accesses, if any
   * @returns true when it faulted
   */
  walk(config: Stage1Config, pfn: number, need: number, nested: Stage2Config | undefined): boolean {
    const upper = isUpperHalf(pfn);
    const half = upper ? config.upper : config.lower;
    if (half === undefined) return this.#fails(EVENT.F_TRANSLATION, config);
    const input = upper ? pfn - (LINEAR_FRAMES - half.inputFrames) : pfn;
    if (input < 0 || input >= half.inputFrames) return this.#fails(EVENT.F_TRANSLATION, config);
    return this.#descend(config, half, input, need, nested);
  }

  #descend(
    config: Stage1Config,
    half: Stage1Half,
    input: number,
    need: number,
    nested: Stage2Config | undefined,
  ): boolean {
    const { granuleLg2, startLevel, wide } = half;
    let table = half.root;
    let inherited = 0;
    for (let level = startLevel; ; level++) {
      let address = table + 8 * tableIndex(input, granuleLg2, level, level === startLevel);
      if (nested !== undefined) {
        const frame = Math.floor(address / FRAME_BYTES);
        if (this.#stage2.walk(nested, frame, RIGHT.READ, EVENT_CLASS.TT)) return true;
        address = this.#stage2.pfn * FRAME_BYTES + (address & PAGE_MASK);
      }
      const region = this.#memory.regionAt(address);
      if (region === undefined) {
        return setFault(this.#fault, EVENT.F_WALK_EABT, false, EVENT_CLASS.TT, address, true);
      }
      const at = (address - region.base) >>> 2;
      const lo = region.i32[at] as number;
      const hi = region.i32[at + 1] as number;
      const type = lo & 3;
      const page = level === LAST_LEVEL;
      if (type === DESCRIPTOR_TYPE.TABLE_OR_PAGE && !page) {
        table = descriptorAddress(lo, hi, granuleLg2, granuleLg2, wide);
        if (table >= config.outputBytes) return this.#fails(EVENT.F_ADDR_SIZE, config);
        if (!half.had) inherited |= hi & INHERITED;
        continue;
      }
      const leaf = page
        ? type === DESCRIPTOR_TYPE.TABLE_OR_PAGE
        : type === DESCRIPTOR_TYPE.BLOCK && isBlockLevel(granuleLg2, level, wide);
      if (!leaf) return this.#fails(EVENT.F_TRANSLATION, config);
      return this.#leaf(config, half, lo, hi, level, input, need, inherited);
    }
  }

  /** Address size, access flag, permission: in this order. */
  #leaf(
    config: Stage1Config,
    half: Stage1Half,
    lo: number,
    hi: number,
    level: number,
    input: number,
    need: number,
    inherited: number,
  ): boolean {
    const sizeLg2 = entryLg2(half.granuleLg2, level);
    const output = descriptorAddress(lo, hi, half.granuleLg2, sizeLg2, half.wide);
    if (output >= config.outputBytes) return this.#fails(EVENT.F_ADDR_SIZE, config);
    if ((lo & AF) === 0 && !config.affd) return this.#fails(EVENT.F_ACCESS, config);
    const rights = leafRights(config, lo, hi, inherited);
    if ((need & ~rights) !== 0) return this.#fails(EVENT.F_PERMISSION, config);
    this.pfn = output / FRAME_BYTES + (input % pageFrames(sizeLg2));
    this.rights = rights;
    this.sizeLg2 = sizeLg2;
    this.global = (lo & NG) === 0;
    return false;
  }

  #fails(code: number, config: Stage1Config): true {
    return setFault(this.#fault, code, false, EVENT_CLASS.IN, 0, config.record);
  }
}

/**
 * Rights of user and privileged accesses.
 *
 * @spec Arm ARM D8.4 (EL1&0 regime)
 */
const leafRights = (config: Stage1Config, lo: number, hi: number, inherited: number): number => {
  const writable = (lo & AP2) === 0 && (inherited & READ_ONLY_TABLE) === 0;
  const el0 = (lo & AP1) !== 0 && (inherited & NO_EL0_TABLE) === 0;
  const executeNever = config.wxn && writable;
  const uxn = (hi & UXN) !== 0 || (inherited & XN_TABLE) !== 0 || executeNever;
  const pxn = (hi & PXN) !== 0 || (inherited & PXN_TABLE) !== 0 || executeNever;
  let rights = 0;
  if (el0) {
    rights |= RIGHT.READ | (writable ? RIGHT.WRITE : 0) | (uxn ? 0 : RIGHT.EXEC);
  }
  if (!(config.pan && el0)) {
    rights |= (RIGHT.READ | (writable ? RIGHT.WRITE : 0)) << PRIVILEGED_SHIFT;
  }
  if (!pxn && !(el0 && writable)) rights |= RIGHT.EXEC << PRIVILEGED_SHIFT;
  return rights;
};

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
