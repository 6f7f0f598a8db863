/**
 * Numbers for things that refer to each other, in the order they are met.
 * @module
 */

/** Gives every thing a number from 0 up; the same thing always the same. */
export class Numbering<T extends object> {
  readonly all: T[] = [];
  readonly #numbers = new Map<T, number>();

  /** Number of a thing, a new one for a new thing. */
  of(thing: T): number {
    const known = this.#numbers.get(thing);
    if (known !== undefined) return known;
    this.#numbers.set(thing, this.all.length);
    this.all.push(thing);
    return this.all.length - 1;
  }

  /** Number of a thing that was met already; -1 = it was not. */
  find(thing: T): number {
    return this.#numbers.get(thing) ?? -1;
  }
}
