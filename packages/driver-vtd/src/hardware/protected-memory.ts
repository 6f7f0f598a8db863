/**
 * Protected low and high memory: stretches of host memory that no DMA reaches.
 *
 * @spec VT-d 11.4.8
 */
import { PHMBASE, PHMLIMIT, PLMBASE, PLMLIMIT, PMEN } from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import { joinAddress } from './page-index.ts';
import type { RegisterFile } from './register-file.ts';

const EPM = PMEN.fields.EPM.mask;
const PRS = PMEN.fields.PRS.mask;
const GRANULE_LO = 0xf_ffff;

/** The two regions, as 4 KiB frames; empty ones have `last` below `first`. */
export class ProtectedMemory {
  /** Protection is on. */
  active = false;
  #lowFirst = 0;
  #lowLast = -1;
  #highFirst = 0;
  #highLast = -1;

  /** Software wrote PMEN: protection follows EPM. */
  update(registers: RegisterFile, features: Features): void {
    this.active = (registers.get(PMEN.offset) & EPM) !== 0;
    registers.change(PMEN.offset, this.active ? PRS : 0, PRS);
    this.#lowFirst = registers.get(PLMBASE.offset) / 4096;
    this.#lowLast = features.plmr
      ? (registers.get(PLMLIMIT.offset) + GRANULE_LO + 1) / 4096 - 1
      : -1;
    this.#highFirst =
      joinAddress(registers.get(PHMBASE.offset), registers.get(PHMBASE.offset + 4)) / 4096;
    const highLimit = joinAddress(
      registers.get(PHMLIMIT.offset),
      registers.get(PHMLIMIT.offset + 4),
    );
    this.#highLast = features.phmr ? (highLimit + GRANULE_LO + 1) / 4096 - 1 : -1;
  }

  /** Whether a register must not change now: it describes a region in use. */
  locks(offset: number): boolean {
    if (!this.active) return false;
    return (
      offset === PLMBASE.offset ||
      offset === PLMLIMIT.offset ||
      (offset >= PHMBASE.offset && offset < PHMLIMIT.offset + 8)
    );
  }

  /** Whether DMA to a host frame is blocked. */
  blocks(pfn: number): boolean {
    if (!this.active) return false;
    if (pfn >= this.#lowFirst && pfn <= this.#lowLast) return true;
    return pfn >= this.#highFirst && pfn <= this.#highLast;
  }
}
