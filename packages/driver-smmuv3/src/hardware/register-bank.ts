/**
 * Storage of a register page: values, and what a software write leaves of them.
 */
import { type Register, readHalf, resetValue, writeHalf } from '@iommukit/bits';

/** Registers by offset. Offsets without a register read 0 and ignore writes. */
export class RegisterBank {
  readonly #registers = new Map<number, { readonly register: Register; readonly half: number }>();
  readonly #values = new Map<Register, Uint32Array>();

  constructor(registers: readonly Register[]) {
    for (const register of registers) {
      const value = resetValue(register);
      this.#values.set(register, value);
      for (let half = 0; half < value.length; half++) {
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

  /**
   * Let software write a dword: access types and reserved bits apply.
   *
   * @param bits bits that the write changes
   */
  write(offset: number, value: number, bits: number): void {
    const place = this.#registers.get(offset);
    if (place === undefined) return;
    const words = this.#values.get(place.register) as Uint32Array;
    const old = words[place.half] as number;
    const merged = ((old & ~bits) | (value & bits)) >>> 0;
    words[place.half] = writeHalf(place.register, place.half, old, merged);
  }

  /** u32 halves of a register; hardware changes them in place. */
  words(register: Register): Uint32Array {
    return this.#values.get(register) as Uint32Array;
  }

  /** u32 halves of all registers, in the order of their declaration. */
  save(): Uint32Array {
    return Uint32Array.from([...this.#values.values()].flatMap((words) => [...words]));
  }

  /** Where {@link save} has the first half of a register. */
  placeOf(register: Register): number {
    let place = 0;
    for (const [known, words] of this.#values) {
      if (known === register) return place;
      place += words.length;
    }
    return -1;
  }

  /** Put saved values in place. */
  load(saved: Uint32Array): void {
    let at = 0;
    for (const words of this.#values.values()) {
      words.set(saved.subarray(at, at + words.length));
      at += words.length;
    }
  }

  /** Put every register back to its reset value. */
  reset(): void {
    for (const [register, words] of this.#values) words.set(resetValue(register));
  }
}
