import { refuse } from '@iommukit/core';

/** 0 is left for streams that have no tag of the kind. */
const FIRST = 1;

/**
 * Tags of cached translations on one unit, VMIDs or ASIDs: the lowest free one.
 *
 * @spec SMMUv3 3.17: equal tags must mean equal tables
 */
export class TagAllocator {
  readonly #name: string;
  readonly #exhausted: 'ENOSPC' | 'EBUSY';
  readonly #taken: Uint8Array;
  #lowest = FIRST;

  /**
   * @param name `VMID` or `ASID`, for messages
   * @param widthBits at most 16
   * @param exhausted errno when all are in use: Linux's ida (VMIDs) says ENOSPC, its xarray (ASIDs)
   *   EBUSY
   */
  constructor(name: string, widthBits: number, exhausted: 'ENOSPC' | 'EBUSY') {
    this.#name = name;
    this.#exhausted = exhausted;
    this.#taken = new Uint8Array(2 ** widthBits);
  }

  /** @throws {IommuError} ENOSPC or EBUSY when all are in use */
  take(op: string): number {
    let tag = this.#lowest;
    while (tag < this.#taken.length && this.#taken[tag] === 1) tag++;
    if (tag === this.#taken.length) {
      const most = this.#taken.length - FIRST;
      const name = this.#name;
      throw refuse(this.#exhausted, op, 'tags', `all ${most} ${name}s are in use`, {
        accepted: `at most ${most} domains with a ${name}: free one first`,
      });
    }
    this.#taken[tag] = 1;
    this.#lowest = tag + 1;
    return tag;
  }

  /** Which are in use, for a snapshot. */
  save(): Uint8Array {
    return this.#taken.slice();
  }

  /** Put a state of the same width in place. */
  load(taken: Uint8Array): void {
    this.#taken.set(taken);
    this.#lowest = FIRST;
  }

  /** Give one back; nothing may be cached under it any more. */
  release(tag: number): void {
    this.#taken[tag] = 0;
    this.#lowest = Math.min(this.#lowest, tag);
  }
}
