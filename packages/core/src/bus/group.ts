/**
 * An IOMMU group: the devices that cannot be told apart or kept apart by isolation, so that they
 * share one owner and one domain.
 *
 * @linux drivers/iommu/iommu.c (iommu_group)
 */
export interface IommuGroup {
  /** Number as under `/sys/kernel/iommu_groups`. */
  readonly id: number;
  /** RIDs of its members, in the order they were added. */
  readonly rids: number[];
}

/** Groups of a machine; ids count up from 0 as devices appear. */
export class IommuGroups {
  readonly #byKey = new Map<string, IommuGroup>();
  #nextId = 0;

  /** Put a device into the group named `key`, made on first use. */
  join(key: string, rid: number): IommuGroup {
    const group = this.#byKey.get(key) ?? { id: this.#nextId++, rids: [] };
    this.#byKey.set(key, group);
    group.rids.push(rid);
    return group;
  }

  /** Take a device out of its group; an empty group goes. */
  leave(group: IommuGroup, rid: number): void {
    group.rids.splice(group.rids.indexOf(rid), 1);
    if (group.rids.length > 0) return;
    for (const [key, known] of this.#byKey) if (known === group) this.#byKey.delete(key);
  }
}
