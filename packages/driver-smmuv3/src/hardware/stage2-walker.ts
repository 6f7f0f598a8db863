/**
 * Walks stage-2 tables: three granules, concatenated start tables, blocks.
 *
 * @spec SMMUv3 3.4, 3.12; Arm ARM D8.2
 */
import { EVENT, EVENT_CLASS } from '../spec/events.ts';
import { DESCRIPTOR_TYPE, S2_LEAF } from '../spec/translation-descriptor.ts';
import type { Stage2Config } from './configuration.ts';
import { type Fault, setFault } from './faults.ts';
import { descriptorAddress, entryLg2, isBlockLevel, pageFrames, tableIndex } from './geometry.ts';
import type { HardwareMemory } from './memory.ts';

/** Rights at stage 2 and of a request. */
export const RIGHT = { READ: 1, WRITE: 2, EXEC: 4 } as const;

const AF = S2_LEAF.fields.AF.mask;
const READ_SHIFT = S2_LEAF.fields.S2AP_READ.shift;
const XN1 = S2_LEAF.fields.XN1.mask;
const MEM_ATTR_SHIFT = S2_LEAF.fields.MEM_ATTR.shift;
const FRAME_BYTES = 4096;
const LAST_LEVEL = 3;

/** One walker per unit; the result of the last walk stands in its fields. */
export class Stage2Walker {
  /** 4 KiB frame of the result. */
  pfn = 0;
  /** {@link RIGHT} bits of the leaf. */
  rights = 0;
  /** lg2 of the leaf's bytes. */
  sizeLg2 = 12;
  readonly #memory: HardwareMemory;
  readonly #fault: Fault;

  /** @param fault filled when a walk faults */
  constructor(memory: HardwareMemory, fault: Fault) {
    this.#memory = memory;
    this.#fault = fault;
  }

  /**
   * Walk. @hot
   *
   * @param pfn 4 KiB frame of the IPA
   * @param need {@link RIGHT} bits
   * @param eventClass one of EVENT_CLASS: CD or TT for the unit's own accesses
   * @returns true when it faulted
   */
  walk(config: Stage2Config, pfn: number, need: number, eventClass: number): boolean {
    if (pfn >= config.inputFrames) return this.#fails(EVENT.F_TRANSLATION, config, pfn, eventClass);
    const { granuleLg2, startLevel, wide } = config;
    let table = config.root;
    for (let level = startLevel; ; level++) {
      const address = table + 8 * tableIndex(pfn, granuleLg2, level, level === startLevel);
      const region = this.#memory.regionAt(address);
      if (region === undefined) {
        return setFault(this.#fault, EVENT.F_WALK_EABT, true, eventClass, address, true);
      }
      const at = (address - region.base) >>> 2;
      const lo = region.i32[at] as number;
      const hi = region.i32[at + 1] as number;
      const type = lo & 3;
      const page = level === LAST_LEVEL;
      if (type === DESCRIPTOR_TYPE.TABLE_OR_PAGE && !page) {
        table = descriptorAddress(lo, hi, granuleLg2, granuleLg2, wide);
        if (table >= config.outputBytes) {
          return this.#fails(EVENT.F_ADDR_SIZE, config, pfn, eventClass);
        }
        continue;
      }
      const leaf = page
        ? type === DESCRIPTOR_TYPE.TABLE_OR_PAGE
        : type === DESCRIPTOR_TYPE.BLOCK && isBlockLevel(granuleLg2, level, wide);
      if (!leaf) return this.#fails(EVENT.F_TRANSLATION, config, pfn, eventClass);
      return this.#leaf(config, lo, hi, level, pfn, need, eventClass);
    }
  }

  /** Address size, access flag, permission: in this order. */
  #leaf(
    config: Stage2Config,
    lo: number,
    hi: number,
    level: number,
    pfn: number,
    need: number,
    eventClass: number,
  ): boolean {
    const { granuleLg2, wide } = config;
    const sizeLg2 = entryLg2(granuleLg2, level);
    const output = descriptorAddress(lo, hi, granuleLg2, sizeLg2, wide);
    if (output >= config.outputBytes)
      return this.#fails(EVENT.F_ADDR_SIZE, config, pfn, eventClass);
    if ((lo & AF) === 0 && !config.affd)
      return this.#fails(EVENT.F_ACCESS, config, pfn, eventClass);
    let rights = (lo >>> READ_SHIFT) & (RIGHT.READ | RIGHT.WRITE);
    if ((rights & RIGHT.READ) !== 0 && (hi & XN1) === 0) rights |= RIGHT.EXEC;
    const device = (lo >>> (MEM_ATTR_SHIFT + 2)) & 3;
    const forbidden = config.protectWalks && device === 0 && eventClass !== EVENT_CLASS.IN;
    if ((need & ~rights) !== 0 || forbidden) {
      this.#fails(EVENT.F_PERMISSION, config, pfn, eventClass);
      this.#fault.tableRead = eventClass === EVENT_CLASS.TT;
      return true;
    }
    this.pfn = output / FRAME_BYTES + (pfn % pageFrames(sizeLg2));
    this.rights = rights;
    this.sizeLg2 = sizeLg2;
    return false;
  }

  #fails(code: number, config: Stage2Config, pfn: number, eventClass: number): true {
    return setFault(this.#fault, code, true, eventClass, pfn * FRAME_BYTES, config.record);
  }
}
