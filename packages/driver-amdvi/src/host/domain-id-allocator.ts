import { refuse } from '@iommukit/core';

/**
 * DomainIDs of one unit, the tag of cached translations: the lowest free one.
 *
 * @spec AMD IOMMU 2.2.2.1 (DomainID): equal ids must mean equal tables
 */
export class DomainIdAllocator {
  readonly #taken: Uint8Array;
  #lowest = FIRST;

  /** @param widthBits width of DomainID, at most 16 */
  constructor(widthBits: number) {
    this.#taken = new Uint8Array(2 ** widthBits);
  }

  /** @throws {IommuError} ENOSPC when all are in use */
  take(op: string): number {
    let tag = this.#lowest;
    while (tag < this.#taken.length && this.#taken[tag] === 1) tag++;
    if (tag === this.#taken.length) {
      const most = this.#taken.length - FIRST;
      throw refuse('ENOSPC', op, 'domain-ids', `all ${most} DomainIDs are in use`, {
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

/** 0 is what unused entries carry, 1 what identity entries do, which translate nothing. */
export const IDENTITY_DOMAIN_ID = 1;
const FIRST = 2;
