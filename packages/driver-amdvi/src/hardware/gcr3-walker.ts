/**
 * From a PASID to the guest's CR3: one to three levels of GCR3 tables.
 *
 * @spec AMD IOMMU 2.2.6.3 (GCR3 tables)
 */
import { GCR3_ENTRY, GUEST_ENTRY_BYTES } from '../spec/guest-table-entry.ts';
import type { GuestPhysical } from './guest-physical.ts';
import { WALK } from './host-table-walker.ts';
import { type HardwareMemory, joinAddress } from './memory.ts';
import type { TraceSink } from './trace.ts';

const V = GCR3_ENTRY.fields.V.mask;
const ADDR_LO = 0xffff_f000 | 0;
const ADDR_HI = GCR3_ENTRY.fields.ADDR.masks[1] as number;
const RESERVED_LO = GCR3_ENTRY.reservedMasks[0] as number;
const RESERVED_HI = GCR3_ENTRY.reservedMasks[1] as number;
const INDEX_BITS = 9;
const LAST_INDEX = 511;

/** One per unit; the result of the last walk stands in its fields. */
export class Gcr3Walker {
  /** Byte address of the guest's top table: guest physical when there is a host table. */
  cr3 = 0;
  /** Byte address (system physical) of the entry read last. */
  entryAddress = 0;
  trace: TraceSink | undefined;
  readonly #memory: HardwareMemory;
  readonly #guestPhysical: GuestPhysical;

  constructor(memory: HardwareMemory, guestPhysical: GuestPhysical) {
    this.#memory = memory;
    this.#guestPhysical = guestPhysical;
  }

  /**
   * Walk: at most three entries. @hot
   *
   * @param root byte address of the top GCR3 table
   * @param glx levels - 1
   * @param pasid 20 bits
   * @param throughHost the tables lie at guest physical addresses (GCR3TRPMode)
   * @returns one of {@link WALK}
   */
  walk(root: number, glx: number, pasid: number, throughHost: boolean): number {
    if (pasid >>> (INDEX_BITS * (glx + 1)) !== 0) return WALK.NOT_PRESENT;
    let table = root;
    for (let level = glx; level >= 0; level--) {
      const index = (pasid >>> (INDEX_BITS * level)) & LAST_INDEX;
      const result = this.#step(table + index * GUEST_ENTRY_BYTES, level, throughHost);
      if (result !== WALK.OK) return result;
      table = this.cr3;
    }
    return WALK.OK;
  }

  #step(entry: number, level: number, throughHost: boolean): number {
    const address = throughHost ? this.#guestPhysical.toSystem(entry, false) : entry;
    if (address < 0) return WALK.HOST;
    this.entryAddress = address;
    const region = this.#memory.regionAt(address);
    if (region === undefined) {
      this.trace?.busError(GCR3_ENTRY, address);
      return WALK.ABORT;
    }
    const at = (address - region.base) >>> 2;
    const lo = region.i32[at] as number;
    const hi = region.i32[at + 1] as number;
    this.trace?.read(GCR3_ENTRY, address, [lo, hi], `GCR3 table, level ${level + 1}`);
    if ((lo & V) === 0) return WALK.NOT_PRESENT;
    if ((lo & RESERVED_LO) !== 0 || (hi & RESERVED_HI) !== 0) return WALK.RESERVED;
    this.cr3 = joinAddress(lo & ADDR_LO, hi & ADDR_HI);
    return WALK.OK;
  }
}
