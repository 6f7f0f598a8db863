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
  readonly #byKey = new Map<string, { id: number; readonly rids: number[] }>();
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

  /** The next id, for a snapshot. */
  get nextId(): number {
    return this.#nextId;
  }

  /** Every group with its key, by age. */
  save(): { readonly key: string; readonly group: IommuGroup }[] {
    return [...this.#byKey].map(([key, group]) => ({ key, group }));
  }

  /** Give groups of the same keys their ids and order back. */
  load(
    states: readonly {
      readonly key: string;
      readonly id: number;
      readonly rids: readonly number[];
    }[],
    nextId: number,
  ): void {
    const known = new Map(this.#byKey);
    this.#byKey.clear();
    for (const { key, id, rids } of states) {
      const group = known.get(key) ?? { id, rids: [] };
      group.id = id;
      group.rids.splice(0, group.rids.length, ...rids);
      this.#byKey.set(key, group);
    }
    this.#nextId = nextId;
  }
}
