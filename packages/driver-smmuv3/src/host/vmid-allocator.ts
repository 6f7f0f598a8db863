import { refuse } from '@iommukit/core';

/**
 * VMIDs of one unit, the tag of stage-2 translations: the lowest free one.
 *
 * @spec SMMUv3 3.17: equal VMIDs must mean equal stage-2 tables
 */
export class VmidAllocator {
  readonly #taken: Uint8Array;
  #lowest = FIRST;

  /** @param widthBits width of VMID, at most 16 */
  constructor(widthBits: number) {
    this.#taken = new Uint8Array(2 ** widthBits);
  }

  /** @throws {IommuError} ENOSPC when all are in use */
  take(op: string): number {
    let tag = this.#lowest;
    while (tag < this.#taken.length && this.#taken[tag] === 1) tag++;
    if (tag === this.#taken.length) {
      const most = this.#taken.length - FIRST;
      throw refuse('ENOSPC', op, 'vmids', `all ${most} VMIDs are in use`, {
        accepted: `at most ${most} attached domains: detach one first`,
      });
    }
    this.#taken[tag] = 1;
    this.#lowest = tag + 1;
    return tag;
  }

  /** Give one back; nothing may be cached under it any more. */
  release(tag: number): void {
    this.#taken[tag] = 0;
    this.#lowest = Math.min(this.#lowest, tag);
  }
}

/** 0 is left for streams of stage 1 alone. */
const FIRST = 1;
