/**
 * Memory that answers everywhere with zeros until written: what the worked examples assume.
 */
import type { HardwareRegion } from '../src/hardware/memory.ts';

const PAGE_BYTES = 4096;

/** 4 KiB regions made at first touch. */
export class SparseMemory {
  readonly #pages = new Map<number, HardwareRegion>();

  regionAt(pa: number): HardwareRegion {
    const page = Math.floor(pa / PAGE_BYTES);
    let region = this.#pages.get(page);
    if (region === undefined) {
      region = { base: page * PAGE_BYTES, size: PAGE_BYTES, i32: new Int32Array(PAGE_BYTES / 4) };
      this.#pages.set(page, region);
    }
    return region;
  }

  /** Everything that another memory holds. */
  copyFrom(other: SparseMemory): void {
    for (const { base, i32 } of other.#pages.values()) this.regionAt(base).i32.set(i32);
  }

  /** Store a 64-bit word at an 8-aligned address. */
  store(pa: number, value: bigint): void {
    const { base, i32 } = this.regionAt(pa);
    i32[(pa - base) >>> 2] = Number(value & 0xffff_ffffn);
    i32[((pa - base) >>> 2) + 1] = Number(value >> 32n);
  }

  /** The 64-bit word at an 8-aligned address. */
  load(pa: number): bigint {
    const { base, i32 } = this.regionAt(pa);
    const half = (at: number) => BigInt((i32[((pa - base) >>> 2) + at] as number) >>> 0);
    return (half(1) << 32n) | half(0);
  }
}
