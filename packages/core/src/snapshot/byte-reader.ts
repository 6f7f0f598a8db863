/**
 * The reverse of the writer, for bytes that nobody vouches for: every size is checked against what
 * is left before anything is made of it.
 * @module
 */
import { u64 } from '@iommukit/bits';
import { refuse } from '../errors.ts';

const TWO_32 = 2 ** 32;

/** Takes the bytes of a snapshot apart. */
export class ByteReader {
  readonly #op: string;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  /** @param op the call that is refused when the bytes are bad */
  constructor(bytes: Uint8Array, op: string) {
    this.#op = op;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Bytes not read yet. */
  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  /** A safe integer of 64 bits, two's complement. */
  int(): number {
    const at = this.#take(8);
    const value = this.#view.getInt32(at + 4, true) * TWO_32 + this.#view.getUint32(at, true);
    return Number.isSafeInteger(value) ? value : this.#bad('no exact integer', String(value));
  }

  u64(): bigint {
    const at = this.#take(8);
    return u64(this.#view.getUint32(at, true), this.#view.getUint32(at + 4, true));
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  /** A copy of the next bytes. */
  raw(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.slice(at, at + count);
  }

  /**
   * How many elements follow.
   *
   * @param minBytes the least that one of them takes
   * @throws {IommuError} EINVAL when so many cannot be left
   */
  count(minBytes: number): number {
    const count = this.u32();
    if (count * minBytes <= this.left) return count;
    return this.#bad(`${count} elements do not fit into ${this.left} bytes`, String(count));
  }

  /** Fail unless `condition` holds. @throws {IommuError} EINVAL */
  check(condition: boolean, message: string, value: number | string = ''): void {
    if (!condition) this.#bad(message, String(value));
  }

  #take(count: number): number {
    const at = this.#at;
    if (count > this.left) this.#bad(`${count} bytes more are needed`, String(this.left));
    this.#at = at + count;
    return at;
  }

  #bad(message: string, value: string): never {
    throw refuse('EINVAL', this.#op, 'snapshot-format', `byte ${this.#at}: ${message}`, {
      value,
      accepted: 'the bytes of a snapshot, whole and unchanged',
    });
  }
}
