/**
 * Index arithmetic of the queues: an index and a wrap bit in each register.
 *
 * @spec SMMUv3 3.5.1
 */
import { decode } from '@iommukit/bits';
import type { CMDQ_BASE } from '../spec/registers.ts';
import type { RegisterBank } from './register-bank.ts';

const INDEX_MASK = 0xf_ffff;

/** View of one queue's registers. */
export class Queue {
  readonly #bank: RegisterBank;
  readonly #base: typeof CMDQ_BASE;
  readonly #prod: Uint32Array;
  readonly #cons: Uint32Array;
  readonly #entryBytes: number;
  readonly #maxLg2: number;
  readonly #oaBits: number;
  #address = 0;
  #lg2 = 0;

  constructor(
    bank: RegisterBank,
    base: typeof CMDQ_BASE,
    prod: Uint32Array,
    cons: Uint32Array,
    entryBytes: number,
    maxLg2: number,
    oaBits: number,
  ) {
    this.#bank = bank;
    this.#base = base;
    this.#prod = prod;
    this.#cons = cons;
    this.#entryBytes = entryBytes;
    this.#maxLg2 = maxLg2;
    this.#oaBits = oaBits;
    this.reload();
  }

  /** Take over the base register; address bits below the queue's size, and beyond OAS, are zero. */
  reload(): void {
    const { ADDR, LOG2SIZE } = decode(this.#base, this.#bank.words(this.#base));
    this.#lg2 = Math.min(LOG2SIZE, this.#maxLg2);
    const align = Math.max(this.#entryBytes * 2 ** this.#lg2, 32);
    const base = ADDR % 2 ** this.#oaBits;
    this.#address = base - (base % align);
  }

  /** Mask of index and wrap bit. */
  get #mask(): number {
    return 2 ** (this.#lg2 + 1) - 1;
  }

  /** Entries in the queue; more than its size is an inconsistent state. */
  get used(): number {
    return ((this.#prod[0] as number) - (this.#cons[0] as number)) & this.#mask;
  }

  /** Nothing to consume; an inconsistent state counts as empty. */
  get isEmpty(): boolean {
    const { used } = this;
    return used === 0 || used > 2 ** this.#lg2;
  }

  /** No room to produce; an inconsistent state counts as full. */
  get isFull(): boolean {
    return this.used >= 2 ** this.#lg2;
  }

  /** Byte address of the entry that the consumer reads next. */
  get consumerAddress(): number {
    return this.#addressOf(this.#cons[0] as number);
  }

  /** Byte address of the entry that the producer writes next. */
  get producerAddress(): number {
    return this.#addressOf(this.#prod[0] as number);
  }

  #addressOf(index: number): number {
    return this.#address + (index & (2 ** this.#lg2 - 1)) * this.#entryBytes;
  }

  /** Step behind a consumed entry; the other bits of the register stay. */
  advanceConsumer(): void {
    this.#cons[0] = this.#advanced(this.#cons[0] as number);
  }

  /** Step behind a produced entry; the other bits of the register stay. */
  advanceProducer(): void {
    this.#prod[0] = this.#advanced(this.#prod[0] as number);
  }

  #advanced(register: number): number {
    return ((register & ~INDEX_MASK) | (((register & INDEX_MASK) + 1) & this.#mask)) >>> 0;
  }
}
