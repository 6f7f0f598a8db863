/** Physical memory for tests: RAM ranges of any size, backed by pages that appear when touched. */
import type { HardwareMemory, HardwareRegion } from '../src/hardware/memory.ts';

const CHUNK = 0x1_0000;

export interface RamRange {
  readonly base: number;
  readonly size: number;
}

export class SparseMemory implements HardwareMemory {
  readonly #chunks = new Map<number, HardwareRegion>();
  readonly #ranges: readonly RamRange[];
  /** Ranges that refuse writes by the unit. */
  readonly readOnly: RamRange[] = [];
  readonly #fill: ((address: number) => number) | undefined;

  /** @param fill dword that untouched memory holds at an address; default 0 */
  constructor(ranges: readonly RamRange[], fill?: (address: number) => number) {
    this.#ranges = ranges;
    this.#fill = fill;
  }

  regionAt(pa: number): HardwareRegion | undefined {
    const index = Math.floor(pa / CHUNK);
    const known = this.#chunks.get(index);
    if (known !== undefined) return known;
    if (!this.#ranges.some(({ base, size }) => pa >= base && pa < base + size)) return undefined;
    const base = index * CHUNK;
    const i32 = new Int32Array(CHUNK / 4);
    if (this.#fill) for (let i = 0; i < i32.length; i++) i32[i] = this.#fill(base + i * 4);
    const readOnly = this.readOnly.some((r) => base >= r.base && base < r.base + r.size);
    const region = { base, size: CHUNK, i32, readOnly };
    this.#chunks.set(index, region);
    return region;
  }

  /** A dword, or undefined where there is no RAM. */
  read32(pa: number): number | undefined {
    const region = this.regionAt(pa);
    return region && (region.i32[(pa - region.base) >>> 2] as number) >>> 0;
  }

  write32(pa: number, value: number): void {
    const region = this.regionAt(pa);
    if (region) region.i32[(pa - region.base) >>> 2] = value;
  }

  read64(pa: number): bigint {
    return (BigInt(this.read32(pa + 4) ?? 0) << 32n) | BigInt(this.read32(pa) ?? 0);
  }

  write64(pa: number, value: bigint): void {
    this.write32(pa, Number(value & 0xffff_ffffn));
    this.write32(pa + 4, Number(value >> 32n));
  }

  /** Little-endian bytes as hexadecimal digits, any alignment. */
  writeHex(pa: number, hex: string): void {
    for (let i = 0; i * 2 < hex.length; i++) {
      const at = pa + i;
      const shift = (at % 4) * 8;
      const old = this.read32(at - (at % 4)) ?? 0;
      const byte = Number.parseInt(hex.slice(i * 2, i * 2 + 2), 16);
      this.write32(at - (at % 4), (old & ~(0xff << shift)) | (byte << shift));
    }
  }

  readHex(pa: number, length: number): string {
    let text = '';
    for (let i = 0; i < length; i++) {
      const at = pa + i;
      const word = this.read32(at - (at % 4)) ?? 0;
      text += ((word >>> ((at % 4) * 8)) & 0xff).toString(16).padStart(2, '0');
    }
    return text;
  }
}
