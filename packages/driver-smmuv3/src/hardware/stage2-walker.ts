/**
 * Walks stage-2 tables: three granules, concatenated start tables, blocks, 52-bit addresses, access
 * flag and dirty state.
 *
 * @spec SMMUv3 3.4, 3.12, 3.13; Arm ARM D8.2
 */
import { EVENT, EVENT_CLASS } from '../spec/events.ts';
import { DESCRIPTOR_TYPE, S2_LEAF } from '../spec/translation-descriptor.ts';
import type { Stage2Config } from './configuration.ts';
import { type Fault, setFault, TERMS } from './faults.ts';
import {
  contiguousLg2,
  descriptorAddress,
  entryLg2,
  isBlockLevel,
  pageFrames,
  tableIndex,
} from './geometry.ts';
import { type HardwareMemory, type HardwareRegion, swapBytes, updateDescriptor } from './memory.ts';

/** Rights of one privilege, at stage 2 and of a request. */
export const RIGHT = { READ: 1, WRITE: 2, EXEC: 4 } as const;
/** Rights of user accesses stand in bits 2:0, of privileged ones this far up. */
export const PRIVILEGED_SHIFT = 3;
/** Write rights of either privilege. */
export const WRITE_RIGHTS = 0b010_010;

/** How a walk, or a step of it, ended. */
export const WALK = {
  DONE: 0,
  FAULTED: 1,
  /** A descriptor changed under an update: walk again. */
  CHANGED: 2,
} as const;

/**
 * Walks of one request at most, when others change a descriptor each time before it is updated. Then
 * the update counts as an external abort; software alone cannot change one that often.
 */
export const MAX_WALKS = 64;

const AF = S2_LEAF.fields.AF.mask;
const READ_SHIFT = S2_LEAF.fields.S2AP_READ.shift;
const S2AP_WRITE = S2_LEAF.fields.S2AP_WRITE.mask;
const XN0 = S2_LEAF.fields.XN0.mask;
const XN1 = S2_LEAF.fields.XN1.mask;
const DBM = S2_LEAF.fields.DBM.mask;
const CONTIGUOUS = S2_LEAF.fields.CONTIGUOUS.mask;
const MEM_ATTR_SHIFT = S2_LEAF.fields.MEM_ATTR.shift;
const FRAME_BYTES = 4096;
const LAST_LEVEL = 3;

/** One walker per unit; the result of the last walk stands in its fields. */
export class Stage2Walker {
  /** 4 KiB frame of the result. */
  pfn = 0;
  /** {@link RIGHT} bits of the leaf: user in 2:0, privileged in 5:3. */
  rights = 0;
  /** lg2 of the bytes that translate alike: the leaf's, or those of its contiguous group. */
  sizeLg2 = 12;
  /** False: the first write has to make the leaf dirty. */
  dirtyKnown = true;
  readonly #memory: HardwareMemory;
  readonly #fault: Fault;
  readonly #contiguous: boolean;

  /**
   * @param fault filled when a walk faults
   * @param contiguous whether the result covers contiguous groups
   */
  constructor(memory: HardwareMemory, fault: Fault, contiguous: boolean) {
    this.#memory = memory;
    this.#fault = fault;
    this.#contiguous = contiguous;
  }

  /**
   * Walk, and update access flag and dirty state as the access asks. @hot
   *
   * @param pfn 4 KiB frame of the IPA
   * @param need {@link RIGHT} bits, user or privileged; a write makes the leaf dirty
   * @param eventClass one of EVENT_CLASS: CD or TT for the unit's own accesses
   * @returns true when it faulted
   */
  walk(config: Stage2Config, pfn: number, need: number, eventClass: number): boolean {
    if (pfn >= config.inputFrames) return this.#fails(EVENT.F_TRANSLATION, config, pfn, eventClass);
    for (let walks = 0; walks < MAX_WALKS; walks++) {
      const end = this.#descend(config, pfn, need, eventClass);
      if (end !== WALK.CHANGED) return end === WALK.FAULTED;
    }
    return this.#aborts(config.root, eventClass);
  }

  #descend(config: Stage2Config, pfn: number, need: number, eventClass: number): number {
    const { granuleLg2, startLevel, wide, bigEndian } = config;
    let table = config.root;
    for (let level = startLevel; ; level++) {
      const address = table + 8 * tableIndex(pfn, granuleLg2, level, level === startLevel);
      const region = this.#memory.regionAt(address);
      if (region === undefined) return +this.#aborts(address, eventClass);
      const at = (address - region.base) >>> 2;
      let lo = region.i32[at] as number;
      let hi = region.i32[at + 1] as number;
      if (bigEndian) {
        const first = lo;
        lo = swapBytes(hi);
        hi = swapBytes(first);
      }
      const type = lo & 3;
      const page = level === LAST_LEVEL;
      if (type === DESCRIPTOR_TYPE.TABLE_OR_PAGE && !page) {
        table = descriptorAddress(lo, hi, granuleLg2, granuleLg2, wide);
        if (table >= config.outputBytes) {
          return +this.#fails(EVENT.F_ADDR_SIZE, config, pfn, eventClass);
        }
        if (config.haft && (lo & AF) === 0) {
          if (!this.#update(config, region, at, lo, hi, lo | AF)) return WALK.CHANGED;
        }
        continue;
      }
      const leaf = page
        ? type === DESCRIPTOR_TYPE.TABLE_OR_PAGE
        : type === DESCRIPTOR_TYPE.BLOCK && isBlockLevel(granuleLg2, level, wide);
      if (!leaf) return +this.#fails(EVENT.F_TRANSLATION, config, pfn, eventClass);
      return this.#leaf(config, region, at, lo, hi, level, pfn, need, eventClass);
    }
  }

  /** Address size, access flag, permission: in this order; then the updates. */
  #leaf(
    config: Stage2Config,
    region: HardwareRegion,
    at: number,
    lo: number,
    hi: number,
    level: number,
    pfn: number,
    need: number,
    eventClass: number,
  ): number {
    const { granuleLg2, wide } = config;
    const sizeLg2 = entryLg2(granuleLg2, level);
    const output = descriptorAddress(lo, hi, granuleLg2, sizeLg2, wide);
    if (output >= config.outputBytes)
      return +this.#fails(EVENT.F_ADDR_SIZE, config, pfn, eventClass);
    if ((lo & AF) === 0 && !config.ha && !config.affd)
      return +this.#fails(EVENT.F_ACCESS, config, pfn, eventClass);
    const clean = config.hd && (hi & DBM) !== 0 && (lo & S2AP_WRITE) === 0;
    const rights = leafRights(clean ? lo | S2AP_WRITE : lo, hi, config.xnx);
    const device = ((lo >>> MEM_ATTR_SHIFT) & config.deviceMask) === 0;
    const forbidden = config.protectWalks && device && eventClass !== EVENT_CLASS.IN;
    if ((need & ~rights) !== 0 || forbidden) return this.#denies(config, pfn, need, eventClass);
    const writes = (need & WRITE_RIGHTS) !== 0;
    let updated = config.ha ? lo | AF : lo;
    if (clean && writes) updated |= S2AP_WRITE;
    if (updated !== lo && !this.#update(config, region, at, lo, hi, updated)) return WALK.CHANGED;
    this.pfn = output / FRAME_BYTES + (pfn % pageFrames(sizeLg2));
    this.rights = rights;
    this.dirtyKnown = !clean || writes;
    const grouped = this.#contiguous && (hi & CONTIGUOUS) !== 0;
    this.sizeLg2 = grouped ? sizeLg2 + contiguousLg2(granuleLg2, level) : sizeLg2;
    return WALK.DONE;
  }

  #update(
    { bigEndian }: Stage2Config,
    { i32 }: HardwareRegion,
    at: number,
    lo: number,
    hi: number,
    updated: number,
  ): boolean {
    return updateDescriptor(i32, at, bigEndian, lo, hi, updated);
  }

  /** A denied table access says which way it went. */
  #denies(config: Stage2Config, pfn: number, need: number, eventClass: number): number {
    this.#fails(EVENT.F_PERMISSION, config, pfn, eventClass);
    this.#fault.tableRead = eventClass === EVENT_CLASS.TT && (need & WRITE_RIGHTS) === 0;
    return WALK.FAULTED;
  }

  #fails(code: number, config: Stage2Config, pfn: number, eventClass: number): true {
    return setFault(this.#fault, code, true, eventClass, pfn * FRAME_BYTES, config.terms);
  }

  #aborts(address: number, eventClass: number): true {
    return setFault(this.#fault, EVENT.F_WALK_EABT, true, eventClass, address, TERMS.RECORD);
  }
}

/**
 * Rights of user and privileged accesses; they differ in execution only.
 *
 * @spec Arm ARM D8.4 (stage 2, FEAT_XNX)
 */
const leafRights = (lo: number, hi: number, xnx: boolean): number => {
  const data = (lo >>> READ_SHIFT) & (RIGHT.READ | RIGHT.WRITE);
  let rights = data | (data << PRIVILEGED_SHIFT);
  if ((data & RIGHT.READ) === 0) return rights;
  const never = (hi & XN1) !== 0;
  const swapped = xnx && (hi & XN0) !== 0;
  if (!never) rights |= RIGHT.EXEC;
  if (never === swapped) rights |= RIGHT.EXEC << PRIVILEGED_SHIFT;
  return rights;
};
