/**
 * Accessed and dirty updates that a walk owes: collected on the way, done when the request
 * succeeded, so that a refused request changes nothing.
 *
 * @spec AMD IOMMU 2.2.3, 2.2.6 (accessed and dirty bits)
 */
import { atomicSetBits, type HardwareMemory } from './memory.ts';

/**
 * Most that one request can owe: three GCR3 levels, five guest levels, their updates and the page,
 * each through six host levels, and the guest entries themselves.
 */
const CAPACITY = 128;

/** The list of owed updates; emptied for every request. */
export class PendingUpdates {
  count = 0;
  readonly address = new Float64Array(CAPACITY);
  readonly bits = new Int32Array(CAPACITY);

  /** Owe one update: byte address of the entry's low dword, bits to set there. @hot */
  add(address: number, bits: number): void {
    const at = this.count;
    if (at === CAPACITY) return;
    this.address[at] = address;
    this.bits[at] = bits;
    this.count = at + 1;
  }

  /** Do them in order, each in one atomic operation. @hot */
  commit(memory: HardwareMemory): void {
    for (let at = 0; at < this.count; at++) {
      atomicSetBits(memory, this.address[at] as number, this.bits[at] as number);
    }
  }
}
