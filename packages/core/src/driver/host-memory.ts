import { refuse } from '../errors.ts';
import type { PhysicalMemory } from '../memory/physical-memory.ts';

const PAGE_BYTES = 4096;
const TWO_32 = 2 ** 32;

/** Bits 31:0 of a physical byte address. */
export const addressLo = (pa: number): number => pa % TWO_32;
/** Bits 63:32 of a physical byte address. */
export const addressHi = (pa: number): number => Math.floor(pa / TWO_32);

const HOST_MEMORIES = new WeakMap<PhysicalMemory, HostMemory[]>();

/** What host halves of drivers keep in a memory, in the order they were brought up. */
export const hostMemoriesOf = (memory: PhysicalMemory): HostMemory[] => {
  let known = HOST_MEMORIES.get(memory);
  if (!known) {
    known = [];
    HOST_MEMORIES.set(memory, known);
  }
  return known;
};

/**
 * The structures that a driver's host half keeps in physical memory: device and PASID tables,
 * queues. Every page taken here is known, so that all of them can be saved, restored and given
 * back.
 */
export class HostMemory {
  readonly memory: PhysicalMemory;
  readonly #pages = new Map<number, number>();
  readonly #bytes16 = new Uint8Array(16);
  readonly #words4 = new Uint32Array(this.#bytes16.buffer);
  readonly #words2 = new Uint32Array(2);

  constructor(memory: PhysicalMemory) {
    this.memory = memory;
    hostMemoriesOf(memory).push(this);
  }

  /** Every page taken, by address: first byte and frames. */
  get pages(): { readonly base: number; readonly count: number }[] {
    return [...this.#pages].map(([base, count]) => ({ base, count }));
  }

  /**
   * Take over pages that a snapshot of the machine's memory brought, bytes and all, in place of
   * those taken so far, which went with the memory that was there before.
   */
  adopt(pages: readonly { readonly base: number; readonly count: number }[]): void {
    this.#pages.clear();
    for (const { base, count } of pages) this.#pages.set(base, count);
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
    const count = this.#pages.get(base) ?? 0;
    this.#pages.delete(base);
    this.memory.freePages(base, count);
  }

  /** One aligned 64-bit store. @hot */
  store64(pa: number, lo: number, hi: number): void {
    this.memory.write64(pa, lo, hi);
  }

  /** One aligned 64-bit store of the words `at` and `at + 1`. */
  storePair(pa: number, words: ArrayLike<number>, at: number): void {
    this.memory.write64(pa, words[at] as number, words[at + 1] as number);
  }

  /**
   * One aligned 16-byte store, the widest that hardware sees whole.
   *
   * @param words u32 words, `at` to `at + 3` are stored
   */
  store128(pa: number, words: Uint32Array, at = 0): void {
    for (let i = 0; i < 4; i++) this.#words4[i] = words[at + i] as number;
    this.memory.copyIn(pa, this.#bytes16);
  }

  /** u32 at a 4-aligned address. @hot */
  load32(pa: number): number {
    return this.memory.read32(pa);
  }

  /** Copy `target.length` words, an even number, from an 8-aligned address. @hot */
  loadWords(pa: number, target: Uint32Array): void {
    for (let i = 0; i < target.length; i += 2) {
      this.memory.read64(pa + i * 4, this.#words2);
      target[i] = this.#words2[0] as number;
      target[i + 1] = this.#words2[1] as number;
    }
  }

  /**
   * Put a saved state back: the same pages, with the same bytes.
   *
   * @throws {IommuError} EINVAL, with nothing changed, when somebody else has one of the pages
   */
  load(saved: readonly { readonly base: number; readonly bytes: Uint8Array }[]): void {
    const before = new Map(this.#pages);
    const wanted = new Map(saved.map(({ base, bytes }) => [base, bytes.length / PAGE_BYTES]));
    this.#exchange(before, wanted);
    for (const { base, bytes } of saved) this.memory.copyIn(base, bytes);
  }

  /** Give up some pages for others; on failure all is as before. */
  #exchange(before: ReadonlyMap<number, number>, wanted: ReadonlyMap<number, number>): void {
    for (const [base, count] of before) this.memory.freePages(base, count);
    const taken = new Map<number, number>();
    try {
      for (const [base, count] of wanted) {
        this.memory.reservePages(base, count);
        taken.set(base, count);
      }
    } catch (error) {
      for (const [base, count] of taken) this.memory.freePages(base, count);
      for (const [base, count] of before) this.memory.reservePages(base, count);
      throw error;
    }
    this.#pages.clear();
    for (const [base, count] of taken) this.#pages.set(base, count);
  }

  /** Every page taken, by address, with a copy of its bytes. */
  save(): { readonly base: number; readonly bytes: Uint8Array }[] {
    return [...this.#pages].map(([base, count]) => {
      const bytes = new Uint8Array(count * PAGE_BYTES);
      this.memory.copyOut(base, bytes);
      return { base, bytes };
    });
  }
}
