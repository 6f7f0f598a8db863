/**
 * Storage of a register page: values, and what a software write leaves of them.
 */
import { type Register, readHalf, resetValue, writeHalf } from '@iommukit/bits';

/** Registers by offset. Offsets without a register read 0 and ignore writes. */
export class RegisterBank {
  readonly #registers = new Map<number, { readonly register: Register; readonly half: number }>();
  readonly #values = new Map<Register, Uint32Array>();

  /**
   * @param known registers with storage
   * @param visible those of them that software can reach
   */
  constructor(known: readonly Register[], visible: readonly Register[]) {
    for (const register of known) this.#values.set(register, resetValue(register));
    for (const register of visible) {
      for (let half = 0; half < register.words; half++) {
        this.#registers.set(register.offset + 4 * half, { register, half });
      }
    }
  }

  /** The register of a dword offset. */
  at(offset: number): Register | undefined {
    return this.#registers.get(offset)?.register;
  }

  /** What software reads from a dword. */
  read(offset: number): number {
    const place = this.#registers.get(offset);
    if (place === undefined) return 0;
    const held = (this.#values.get(place.register) as Uint32Array)[place.half] as number;
    return readHalf(place.register, place.half, held);
  }

  /** Let software write a dword: access types and reserved bits apply. */
  write(offset: number, value: number): void {
    const place = this.#registers.get(offset);
    if (place === undefined) return;
    const words = this.#values.get(place.register) as Uint32Array;
    const old = words[place.half] as number;
    words[place.half] = writeHalf(place.register, place.half, old, value >>> 0);
  }

  /** u32 halves of a register; hardware changes them in place. */
  words(register: Register): Uint32Array {
    return this.#values.get(register) as Uint32Array;
  }

  /** Values of all registers in the order of declaration, for a snapshot. */
  save(): Uint32Array {
    return Uint32Array.from([...this.#values.values()].flatMap((words) => [...words]));
  }

  /** @throws {RangeError} when the values are not those of such a bank */
  check(saved: ArrayLike<number>): void {
    let length = 0;
    for (const words of this.#values.values()) length += words.length;
    if (saved.length === length) return;
    throw new RangeError(`snapshot has ${saved.length} register dwords, this unit ${length}`);
  }

  /** Put values back that {@link check} has found right. */
  load(saved: ArrayLike<number>): void {
    let at = 0;
    for (const words of this.#values.values()) {
      for (let half = 0; half < words.length; half++) words[half] = saved[at++] as number;
    }
  }

  /** Put every register back to its reset value. */
  reset(): void {
    for (const [register, words] of this.#values) words.set(resetValue(register));
  }
}
