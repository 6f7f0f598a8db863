/**
 * Little-endian numbers, text and bytes into one growing buffer.
 * @module
 */
import { hi32, lo32 } from '@iommukit/bits';

const FIRST_BYTES = 1 << 16;
const TWO_32 = 2 ** 32;

/** Collects the bytes of a snapshot. */
export class ByteWriter {
  #bytes = new Uint8Array(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  u8(value: number): void {
    const at = this.#take(1);
    this.#view.setUint8(at, value);
  }

  u16(value: number): void {
    const at = this.#take(2);
    this.#view.setUint16(at, value, true);
  }

  u32(value: number): void {
    const at = this.#take(4);
    this.#view.setUint32(at, value, true);
  }

  /** A safe integer in 64 bits, two's complement. */
  int(value: number): void {
    const at = this.#take(8);
    const hi = Math.floor(value / TWO_32);
    this.#view.setUint32(at, value - hi * TWO_32, true);
    this.#view.setInt32(at + 4, hi, true);
  }

  /** An unsigned 64-bit integer. */
  u64(value: bigint): void {
    const at = this.#take(8);
    this.#view.setUint32(at, lo32(value), true);
    this.#view.setUint32(at + 4, hi32(value), true);
  }

  f64(value: number): void {
    const at = this.#take(8);
    this.#view.setFloat64(at, value, true);
  }

  /** Bytes as they are, without their count. */
  raw(bytes: Uint8Array): void {
    const at = this.#take(bytes.length);
    this.#bytes.set(bytes, at);
  }

  /** A copy of everything written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  /** Room for `count` bytes; returns where they go. Buffer and view may be others after it. */
  #take(count: number): number {
    const at = this.#length;
    if (at + count > this.#bytes.length) this.#grow(at + count);
    this.#length = at + count;
    return at;
  }

  #grow(needed: number): void {
    const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}
