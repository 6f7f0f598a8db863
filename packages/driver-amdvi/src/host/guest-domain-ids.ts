import type { DomainIdAllocator } from './domain-id-allocator.ts';

interface Use {
  readonly hostId: number;
  users: number;
}

/**
 * DomainIDs of one guest, and the unit's that stand for them: guests pick theirs as tags of their
 * own tables, so that equal ones of two guests must not meet in the unit's caches.
 *
 * @linux drivers/iommu/amd/nested.c (gdomid_array)
 */
export class GuestDomainIds {
  readonly #ids: DomainIdAllocator;
  readonly #uses = new Map<number, Use>();

  constructor(ids: DomainIdAllocator) {
    this.#ids = ids;
  }

  /**
   * Count one more user of a guest's DomainID.
   *
   * @returns the unit's DomainID
   * @throws {IommuError} ENOSPC
   */
  take(guestId: number): number {
    const use = this.#uses.get(guestId) ?? {
      hostId: this.#ids.take('IOMMU_HWPT_ALLOC'),
      users: 0,
    };
    this.#uses.set(guestId, use);
    use.users++;
    return use.hostId;
  }

  /** The reverse of {@link GuestDomainIds.take}; nothing may be cached under it any more. */
  release(guestId: number): void {
    const use = this.#uses.get(guestId);
    if (!use || --use.users > 0) return;
    this.#uses.delete(guestId);
    this.#ids.release(use.hostId);
  }

  /** The unit's DomainID, or -1 for one that nothing was tagged with. */
  hostIdOf(guestId: number): number {
    return this.#uses.get(guestId)?.hostId ?? -1;
  }

  /** All of the unit's DomainIDs in use. */
  get hostIds(): number[] {
    return [...this.#uses.values()].map(({ hostId }) => hostId);
  }
}
