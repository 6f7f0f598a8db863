import { type PhysicalMemory, refuse } from '@iommukit/core';

const TWO_32 = 2 ** 32;

/** Bits 31:0 of a physical address. */
export const addressLo = (pa: number): number => pa % TWO_32;
/** Bits 63:32 of a physical address. */
export const addressHi = (pa: number): number => Math.floor(pa / TWO_32);

/** The host's own structures in physical memory: tables and queues. */
export class HostMemory {
  readonly memory: PhysicalMemory;
  readonly #pages = new Map<number, number>();
  readonly #pair = new Uint32Array(2);

  constructor(memory: PhysicalMemory) {
    this.memory = memory;
  }

  /**
   * Take zeroed, physically contiguous frames.
   *
   * @param count frames of 4 KiB; the base is aligned to the next power of two
   * @param what for the message
   * @throws {IommuError} ENOMEM
   */
  alloc(count: number, op: string, what: string): number {
    const base = this.memory.allocPages(count, { alignPages: 2 ** Math.ceil(Math.log2(count)) });
    if (base < 0) {
      throw refuse(
        'ENOMEM',
        op,
        'host-memory',
        `no ${count} contiguous frames are left for ${what}: give the machine more RAM`,
        { value: count, accepted: `at most ${this.memory.freePageCount} frames in all` },
      );
    }
    this.#pages.set(base, count);
    return base;
  }

  /** Give back what {@link HostMemory.alloc} returned. */
  free(base: number): void {
    this.memory.freePages(base, this.#pages.get(base) ?? 0);
    this.#pages.delete(base);
  }

  /** One aligned 64-bit store. @hot */
  store64(pa: number, lo: number, hi: number): void {
    this.memory.write64(pa, lo, hi);
  }

  /** One aligned 64-bit store of the words `at` and `at + 1`. */
  storePair(pa: number, words: ArrayLike<number>, at: number): void {
    this.memory.write64(pa, words[at] as number, words[at + 1] as number);
  }

  /** u32 at a 4-aligned address. @hot */
  load32(pa: number): number {
    return this.memory.read32(pa);
  }

  /** Copy `target.length` words, an even number, from an 8-aligned address. */
  loadWords(pa: number, target: Uint32Array): void {
    for (let at = 0; at < target.length; at += 2) {
      this.memory.read64(pa + at * 4, this.#pair);
      target.set(this.#pair, at);
    }
  }
}
