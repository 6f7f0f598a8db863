/**
 * Which cached translations hang on a domain's page table: a DomainID (and PASID) in the caches of
 * a unit, and a device (and PASID) where devices keep translations themselves. A change of the
 * table is flushed by walking the tags, all commands of a unit in one batch with one wait.
 *
 * @spec AMD IOMMU 2.4.3 and 2.4.4: the unit first, then the devices, or they refill from it
 * @linux drivers/iommu/amd/iommu.c (__domain_flush_pages)
 */

import type { PendingRanges } from '@iommukit/core';
import { NO_GUEST } from './invalidate.ts';
import type { UnitContext } from './unit-context.ts';

/** How the entries of a tag relate to the addresses of the table. */
export const REACH = {
  /** Both are the table's input addresses. */
  DIRECT: 0,
  /** The table is below a guest's: which entries came through a page of it is unknown. */
  BELOW: 1,
} as const;

/** One of {@link REACH}. */
export type Reach = (typeof REACH)[keyof typeof REACH];

interface Tag {
  readonly unit: UnitContext;
  /** DomainID, or RID of the device. */
  readonly owner: number;
  readonly pasid: number;
  readonly reach: Reach;
  users: number;
}

type Tags = Map<string, Tag>;

/** The tags of one page table. */
export class CacheTags {
  readonly #translations: Tags = new Map();
  readonly #devices: Tags = new Map();
  readonly #units = new Map<UnitContext, number>();
  /** Uses on units that cache entries that are not present (NpCache). */
  #absenceCached = 0;

  /** Whether new mappings must be flushed too. */
  get cacheAbsence(): boolean {
    return this.#absenceCached > 0;
  }

  /**
   * A DomainID of a unit came into use with this table.
   *
   * @param pasid 20 bits, or {@link NO_GUEST} for host tables
   */
  addTranslation(unit: UnitContext, domainId: number, pasid: number, reach: Reach): void {
    this.#units.set(unit, (this.#units.get(unit) ?? 0) + 1);
    if (unit.caps.npCache) this.#absenceCached++;
    add(this.#translations, unit, domainId, pasid, reach);
  }

  /** The reverse, once the caches are flushed. */
  removeTranslation(unit: UnitContext, domainId: number, pasid: number, reach: Reach): void {
    if (unit.caps.npCache) this.#absenceCached--;
    const users = (this.#units.get(unit) ?? 1) - 1;
    if (users === 0) this.#units.delete(unit);
    else this.#units.set(unit, users);
    remove(this.#translations, unit, domainId, pasid, reach);
  }

  /**
   * A device with a TLB of its own came into use with this table.
   *
   * @param pasid 20 bits, or -1 for entries without PASID; below a guest's table the number of
   *   PASIDs that this table reaches
   */
  addDevice(unit: UnitContext, rid: number, pasid: number, reach: Reach): void {
    add(this.#devices, unit, rid, pasid, reach);
  }

  /** The reverse, once its TLB is flushed. */
  removeDevice(unit: UnitContext, rid: number, pasid: number, reach: Reach): void {
    remove(this.#devices, unit, rid, pasid, reach);
  }

  /**
   * Drop what is cached of some ranges, and wait until it is gone.
   *
   * @param tables table entries changed too, not only leaves
   */
  flush(ranges: PendingRanges, tables: boolean): void {
    if (ranges.isEmpty) return;
    for (const tag of this.#translations.values()) addTranslationCommands(tag, ranges, tables);
    for (const tag of this.#devices.values()) addDeviceCommands(tag, ranges);
    this.#submit();
  }

  /**
   * Drop what units with NpCache keep of absent entries that are present now: a hypervisor that
   * shadows this table learns of them that way. Ranges are cut into aligned pieces, so that it sees
   * no page that did not change.
   *
   * @param last inclusive
   * @linux drivers/iommu/amd/iommu.c (amd_iommu_iotlb_sync_map, amd_iommu_domain_flush_pages)
   */
  flushNewlyPresent(start: number, last: number): void {
    for (const { unit, owner, pasid } of this.#translations.values()) {
      if (!unit.caps.npCache) continue;
      for (let at = start; at <= last; ) {
        const pages = alignedPages(at, last);
        unit.invalidate.pages(owner, pasid, at, at + pages - 1, true);
        at += pages;
      }
    }
    this.#submit();
  }

  /** Drop everything that is cached of the table, and wait. */
  flushAll(): void {
    for (const { unit, owner, pasid } of this.#translations.values()) {
      unit.invalidate.domain(owner, pasid);
    }
    for (const tag of this.#devices.values()) addWholeDevice(tag);
    this.#submit();
  }

  #submit(): void {
    for (const unit of this.#units.keys()) unit.invalidate.submit();
  }
}

const keyOf = (unit: UnitContext, owner: number, pasid: number, reach: Reach): string =>
  `${unit.index} ${owner} ${pasid} ${reach}`;

const add = (tags: Tags, unit: UnitContext, owner: number, pasid: number, reach: Reach): void => {
  const key = keyOf(unit, owner, pasid, reach);
  const tag = tags.get(key);
  if (tag) tag.users++;
  else tags.set(key, { unit, owner, pasid, reach, users: 1 });
};

const remove = (
  tags: Tags,
  unit: UnitContext,
  owner: number,
  pasid: number,
  reach: Reach,
): void => {
  const key = keyOf(unit, owner, pasid, reach);
  const tag = tags.get(key);
  if (tag && --tag.users === 0) tags.delete(key);
};

const addTranslationCommands = (tag: Tag, ranges: PendingRanges, tables: boolean): void => {
  const { unit, owner, pasid, reach } = tag;
  if (reach === REACH.BELOW) {
    unit.invalidate.domain(owner, NO_GUEST);
    return;
  }
  for (let at = 0; at < ranges.count; at++) {
    unit.invalidate.pages(owner, pasid, ranges.startAt(at), ranges.lastAt(at), tables);
  }
};

const addDeviceCommands = (tag: Tag, ranges: PendingRanges): void => {
  const { unit, owner, pasid, reach } = tag;
  if (reach === REACH.BELOW) {
    addWholeDevice(tag);
    return;
  }
  for (let at = 0; at < ranges.count; at++) {
    unit.invalidate.devicePages(owner, pasid, ranges.startAt(at), ranges.lastAt(at));
  }
};

/** No command names all PASIDs, and which of them the device keeps only the device knows. */
const addWholeDevice = ({ unit, owner, pasid, reach }: Tag): void => {
  if (reach === REACH.DIRECT) {
    unit.invalidate.deviceTlb(owner, pasid);
    return;
  }
  for (let each = -1; each < pasid; each++) unit.invalidate.deviceTlb(owner, each);
};

/** The largest power of two of frames that starts at `start`, aligned, and ends by `last`. */
const alignedPages = (start: number, last: number): number => {
  let pages = 1;
  while (start % (pages * 2) === 0 && start + pages * 2 - 1 <= last) pages *= 2;
  return pages;
};
