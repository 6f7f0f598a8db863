import { refuse } from '@iommukit/core';

/** Tag of pass-through entries, which translate nothing and may share one. */
export const IDENTITY_DID = 1;

/** First DID for domains: 0 tags what caching mode keeps of absent entries, 1 is identity. */
const FIRST_DID = 2;

/**
 * Domain ids of one unit: the lowest free one from 2 up, as wide as CAP.ND says.
 *
 * @spec VT-d 11.4.2 (ND), 6.2.1 (tags)
 * @linux drivers/iommu/intel/iommu.c (domain_attach_iommu)
 */
export class DidAllocator {
  readonly #count: number;
  readonly #taken: Uint8Array;
  #lowest = FIRST_DID;

  /** @param widthBits width of a DID, 4 to 16 */
  constructor(widthBits: number) {
    this.#count = 2 ** widthBits;
    this.#taken = new Uint8Array(this.#count);
  }

  /**
   * @throws {IommuError} ENOSPC when all are in use
   */
  take(op: string): number {
    let did = this.#lowest;
    while (did < this.#count && this.#taken[did] === 1) did++;
    if (did >= this.#count) {
      throw refuse(
        'ENOSPC',
        op,
        'domain-ids',
        `all ${this.#count - FIRST_DID} domain ids of this unit are in use: detach a domain first`,
        { accepted: `at most ${this.#count - FIRST_DID} attached domains` },
      );
    }
    this.#taken[did] = 1;
    this.#lowest = did + 1;
    return did;
  }

  /** Give one back; its cached entries must be gone already. */
  release(did: number): void {
    this.#taken[did] = 0;
    if (did < this.#lowest) this.#lowest = did;
  }

  /** Bytes of the whole state, for a snapshot. */
  save(): Uint8Array {
    return this.#taken.slice();
  }

  /** @param taken what {@link DidAllocator.save} gave */
  load(taken: Uint8Array): void {
    this.#taken.set(taken);
    this.#lowest = FIRST_DID;
  }
}
