/**
 * A ring of 16-byte entries in memory with a head (consumer) and tail (producer) register, both
 * byte offsets. Empty when equal; one entry always stays unused.
 *
 * @spec AMD IOMMU 2.4 (command buffer), 2.5 (event log)
 */
import { decode, type Register } from '@iommukit/bits';
import type { CMD_BUF_BASE } from '../spec/registers.ts';
import type { RegisterBank } from './register-bank.ts';

const ENTRY_BYTES = 16;
const SHORTEST_LG2 = 8;

/** View of one ring's registers. */
export class Ring {
  readonly #bank: RegisterBank;
  readonly #base: typeof CMD_BUF_BASE;
  readonly #head: Uint32Array;
  readonly #tail: Uint32Array;
  /** Byte address of the first entry. */
  base = 0;
  /** Bytes; 0 while the length field is reserved (below 8). */
  bytes = 0;

  constructor(bank: RegisterBank, base: typeof CMD_BUF_BASE, head: Register, tail: Register) {
    this.#bank = bank;
    this.#base = base;
    this.#head = bank.words(head);
    this.#tail = bank.words(tail);
    this.reload();
  }

  /** Take over the base register. */
  reload(): void {
    const { BASE, LEN } = decode(this.#base, this.#bank.words(this.#base));
    this.base = BASE;
    this.bytes = LEN < SHORTEST_LG2 ? 0 : ENTRY_BYTES * 2 ** LEN;
  }

  /** Start at the first entry: what a write of the base register does. */
  rewind(): void {
    this.#head[0] = 0;
    this.#tail[0] = 0;
  }

  /** Byte offsets; not below {@link Ring.bytes} when software put them there. */
  get head(): number {
    return this.#head[0] as number;
  }

  get tail(): number {
    return this.#tail[0] as number;
  }

  /** Whether both pointers lie inside the ring. */
  get isSane(): boolean {
    return this.head < this.bytes && this.tail < this.bytes;
  }

  /** Whether one more entry would make the tail equal to the head. */
  get isFull(): boolean {
    return this.after(this.tail) === this.head;
  }

  /** Entries that still fit. */
  get free(): number {
    const used = (this.tail - this.head + this.bytes) % this.bytes;
    return (this.bytes - used) / ENTRY_BYTES - 1;
  }

  /** Behind an offset, wrapping. */
  after(offset: number): number {
    return offset + ENTRY_BYTES >= this.bytes ? 0 : offset + ENTRY_BYTES;
  }

  set head(offset: number) {
    this.#head[0] = offset;
  }

  set tail(offset: number) {
    this.#tail[0] = offset;
  }
}
