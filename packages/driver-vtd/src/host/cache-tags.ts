/**
 * Which cached translations hang on a domain's page table: one tag per DID (and PASID) in the
 * IOTLB of a unit, one per device that keeps translations itself. A change of the table is
 * flushed by walking the tags, all commands of a unit in one batch with one wait.
 *
 * @spec VT-d 6.2 (tags), 6.5.3 (invalidation by software)
 * @linux drivers/iommu/intel/cache.c
 */

import type { PendingRanges } from '@iommukit/core';
import { coverAm, WHOLE_SPACE_AM } from './page-cover.ts';
import type { UnitContext } from './unit-context.ts';

/** How a table's entries are tagged, which decides the command. */
export const TAG = {
  /** Second stage: by DID and address. */
  SECOND_STAGE: 0,
  /** First stage, and the guest's table of a nested domain: by DID, PASID and address. */
  FIRST_STAGE: 1,
  /**
   * The second stage below a nested domain: by the nested DID. The guest's tables are walked
   * through it, so a changed leaf can be a step of a cached guest walk.
   */
  BELOW_NESTED: 2,
} as const;

/** One of {@link TAG}. */
export type TagKind = (typeof TAG)[keyof typeof TAG];

interface TranslationTag {
  readonly unit: UnitContext;
  readonly did: number;
  readonly pasid: number;
  readonly kind: TagKind;
  users: number;
}

interface DeviceTag {
  readonly unit: UnitContext;
  readonly rid: number;
  /** -1 = entries without PASID. */
  readonly pasid: number;
  /** The IOVA behind a page of this table is unknown: flush everything. */
  readonly wholeTlb: boolean;
  users: number;
}

const translationKey = (unit: UnitContext, did: number, pasid: number, kind: TagKind): string =>
  `${unit.index} ${did} ${kind === TAG.FIRST_STAGE ? pasid : '-'} ${kind}`;

const deviceKey = (unit: UnitContext, rid: number, pasid: number, wholeTlb: boolean): string =>
  `${unit.index} ${rid} ${pasid} ${wholeTlb}`;

const hearsOfMaps = ({ caps }: UnitContext): boolean => caps.cap.CM === 1 || caps.cap.RWBF === 1;

/** The tags of one page table. */
export class CacheTags {
  readonly #translations = new Map<string, TranslationTag>();
  readonly #devices = new Map<string, DeviceTag>();
  readonly #units = new Map<UnitContext, number>();
  /** Translations of units that must hear of new mappings too (CAP.CM, CAP.RWBF). */
  #mapListeners = 0;

  /** Whether nothing can be cached. */
  get isEmpty(): boolean {
    return this.#translations.size === 0;
  }

  /** Whether {@link CacheTags.flushNewlyPresent} has anything to do. */
  get needsMapFlush(): boolean {
    return this.#mapListeners > 0;
  }

  /** A DID and PASID of a unit came into use with this table. */
  addTranslation(unit: UnitContext, did: number, pasid: number, kind: TagKind): void {
    this.#units.set(unit, (this.#units.get(unit) ?? 0) + 1);
    if (hearsOfMaps(unit)) this.#mapListeners++;
    const key = translationKey(unit, did, pasid, kind);
    const tag = this.#translations.get(key);
    if (tag) tag.users++;
    else this.#translations.set(key, { unit, did, pasid, kind, users: 1 });
  }

  /** The reverse, once the caches are flushed. */
  removeTranslation(unit: UnitContext, did: number, pasid: number, kind: TagKind): void {
    if (hearsOfMaps(unit)) this.#mapListeners--;
    const users = (this.#units.get(unit) ?? 1) - 1;
    if (users === 0) this.#units.delete(unit);
    else this.#units.set(unit, users);
    const key = translationKey(unit, did, pasid, kind);
    const tag = this.#translations.get(key);
    if (tag && --tag.users === 0) this.#translations.delete(key);
  }

  /** A device with a TLB of its own came into use with this table. */
  addDevice(unit: UnitContext, rid: number, pasid: number, wholeTlb: boolean): void {
    const key = deviceKey(unit, rid, pasid, wholeTlb);
    const tag = this.#devices.get(key);
    if (tag) tag.users++;
    else this.#devices.set(key, { unit, rid, pasid, wholeTlb, users: 1 });
  }

  /** The reverse, once its TLB is flushed. */
  removeDevice(unit: UnitContext, rid: number, pasid: number, wholeTlb: boolean): void {
    const key = deviceKey(unit, rid, pasid, wholeTlb);
    const tag = this.#devices.get(key);
    if (tag && --tag.users === 0) this.#devices.delete(key);
  }

  /** Forget all tags; nothing is flushed. */
  clear(): void {
    this.#translations.clear();
    this.#devices.clear();
    this.#units.clear();
    this.#mapListeners = 0;
  }

  /**
   * Drop what is cached of some ranges, and wait until it is gone.
   *
   * @param leavesOnly no table entry of this table changed, only leaves
   */
  flush(ranges: PendingRanges, leavesOnly: boolean): void {
    this.add(ranges, leavesOnly);
    this.submit();
  }

  /** Add the commands of {@link CacheTags.flush} to the batches without handing them over. */
  add(ranges: PendingRanges, leavesOnly: boolean): void {
    if (ranges.isEmpty) return;
    for (const tag of this.#translations.values()) addTranslationCommands(tag, ranges, leavesOnly);
    for (const tag of this.#devices.values()) addDeviceCommands(tag, ranges);
  }

  /** Hand over and wait, one batch per unit. */
  submit(): void {
    for (const unit of this.#units.keys()) unit.invalidate.queue.submit();
  }

  /** Drop what caching mode keeps of absent second-stage entries that are now present. */
  flushNewlyPresent(startPfn: number, lastPfn: number): void {
    for (const tag of this.#translations.values()) {
      if (tag.kind === TAG.FIRST_STAGE) continue;
      if (tag.unit.caps.cap.CM === 1) {
        tag.unit.invalidate.iotlbPages(tag.did, startPfn, coverAm(startPfn, lastPfn), false);
      } else if (tag.unit.caps.cap.RWBF === 1) {
        tag.unit.commands.flushWriteBuffer();
      }
    }
    this.submit();
  }
}

const addTranslationCommands = (
  tag: TranslationTag,
  ranges: PendingRanges,
  leavesOnly: boolean,
): void => {
  const { invalidate, caps } = tag.unit;
  if (tag.kind !== TAG.FIRST_STAGE && largestAm(ranges) > caps.cap.MAMV) {
    invalidate.iotlbDomain(tag.did);
    return;
  }
  for (let i = 0; i < ranges.count; i++) {
    const start = ranges.startAt(i);
    const am = amAt(ranges, i);
    if (tag.kind === TAG.FIRST_STAGE) {
      invalidate.pasidIotlbPages(tag.did, tag.pasid, start, am, leavesOnly);
    } else {
      const keepWalks = leavesOnly && tag.kind === TAG.SECOND_STAGE;
      invalidate.iotlbPages(tag.did, start, am, keepWalks);
    }
  }
};

const addDeviceCommands = (tag: DeviceTag, ranges: PendingRanges): void => {
  const { invalidate } = tag.unit;
  if (tag.wholeTlb) {
    invalidate.deviceTlb(tag.rid, tag.pasid, 0, WHOLE_SPACE_AM);
    return;
  }
  for (let i = 0; i < ranges.count; i++) {
    invalidate.deviceTlb(tag.rid, tag.pasid, ranges.startAt(i), amAt(ranges, i));
  }
};

/** Address mask of the cover of a range. */
const amAt = (ranges: PendingRanges, index: number): number =>
  coverAm(ranges.startAt(index), ranges.lastAt(index));

/** Address mask of the largest cover. */
const largestAm = (ranges: PendingRanges): number => {
  let am = 0;
  for (let i = 0; i < ranges.count; i++) am = Math.max(am, amAt(ranges, i));
  return am;
};
