import { decode, encode, type Kinds, type Layout, type Values } from '@iommukit/bits';
import { FSTS, INV_WAIT_DSC, IQA, IQERCD, IQT } from '@iommukit/driver-vtd';
import { type Platform, poll, readRegister64, writeRegister64, writeWords } from './platform.ts';

const PAGE_BYTES = 4096;
/** Descriptors of scalable mode have 256 bits. */
const DESCRIPTOR_BYTES = 32;
const DONE = 0x600d_d0e5;

/** The queue by which a driver tells the unit what changed: one page, 128 descriptors. */
export class InvalidationQueue {
  readonly #platform: Platform;
  readonly #base: number;
  readonly #status: number;
  #tail = 0;

  constructor(platform: Platform) {
    this.#platform = platform;
    this.#base = platform.allocPages(1);
    this.#status = platform.allocPages(1);
    writeRegister64(platform, IQT.offset, new Uint32Array(2));
    writeRegister64(platform, IQA.offset, encode(IQA, { IQA: this.#base, DW: 1, QS: 0 }));
  }

  /** Put one descriptor into the queue; the unit does not see it yet. */
  push<K extends Kinds>(layout: Layout<K>, values: Values<K>): void {
    const words = new Uint32Array(DESCRIPTOR_BYTES / 4);
    words.set(encode(layout, values));
    writeWords(this.#platform, this.#base + this.#tail, words);
    this.#tail = (this.#tail + DESCRIPTOR_BYTES) % PAGE_BYTES;
  }

  /**
   * Let the unit work on everything pushed, and wait until it has.
   *
   * @throws {Error} when the unit stopped at a descriptor
   * @spec VT-d 6.5.2
   */
  flush(): void {
    const { readMemory, writeMemory } = this.#platform;
    writeMemory(this.#status, 0);
    this.push(INV_WAIT_DSC, {
      TYPE: 'INV_WAIT',
      SW: 1,
      FN: 1,
      STATUS_DATA: DONE,
      STATUS_ADDR: this.#status,
    });
    writeRegister64(this.#platform, IQT.offset, Uint32Array.of(this.#tail, 0));
    poll('invalidation wait', () => readMemory(this.#status) === DONE || this.#stopped());
    if (readMemory(this.#status) === DONE) return;
    const { IQEI } = decode(IQERCD, readRegister64(this.#platform, IQERCD.offset));
    throw new Error(`the invalidation queue stopped, IQERCD.IQEI=${IQEI}`);
  }

  #stopped(): boolean {
    const { IQE, ITE } = decode(FSTS, [this.#platform.readRegister(FSTS.offset)]);
    return IQE === 1 || ITE === 1;
  }
}
