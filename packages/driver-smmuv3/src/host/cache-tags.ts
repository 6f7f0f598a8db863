/**
 * Which cached translations hang on a domain's page table: one tag per ASID or VMID of a unit, one
 * per device (and substream) that keeps translations itself. A change of the table is flushed by
 * walking the tags, all commands of a unit in one batch with one wait.
 *
 * @spec SMMUv3 3.17 (tags), 4.4, 4.5
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_domain_inv_range)
 */
import type { PendingRanges } from '@iommukit/core';
import type { UnitContext } from './unit-context.ts';

/** How a table's entries are tagged, which decides the command. */
export const TAG = {
  /** Stage 1 of the host: by ASID and address. */
  ASID: 0,
  /** Stage 2: by VMID and address. */
  VMID: 1,
  /**
   * Stage 2 below a guest's stage 1: by the VMID of the guest. Results of both stages carry no IPA,
   * so all of them go too.
   */
  BELOW_NESTED: 2,
} as const;

/** One of {@link TAG}. */
export type TagKind = (typeof TAG)[keyof typeof TAG];

interface TranslationTag {
  readonly unit: UnitContext;
  readonly kind: TagKind;
  /** ASID or VMID. */
  readonly id: number;
  users: number;
}

interface DeviceTag {
  readonly unit: UnitContext;
  readonly sid: number;
  /** -1 = requests without SubstreamID. */
  readonly ssid: number;
  /** The IOVA behind a page of this table is unknown: flush everything. */
  readonly wholeTlb: boolean;
  users: number;
}

/** The tags of one page table. */
export class CacheTags {
  readonly #translations: TranslationTag[] = [];
  readonly #devices: DeviceTag[] = [];

  /** An ASID or VMID of a unit came into use with this table. */
  addTranslation(unit: UnitContext, kind: TagKind, id: number): void {
    const tag = this.#find(unit, kind, id);
    if (tag) tag.users++;
    else this.#translations.push({ unit, kind, id, users: 1 });
  }

  /** One user less; the last one takes everything cached under the tag along. */
  removeTranslation(unit: UnitContext, kind: TagKind, id: number): void {
    const tag = this.#find(unit, kind, id);
    if (!tag || --tag.users > 0) return;
    this.#translations.splice(this.#translations.indexOf(tag), 1);
    if (kind === TAG.ASID) unit.invalidate.asid(id);
    else unit.invalidate.vmid(id);
    unit.invalidate.submit();
  }

  /** A device with a TLB of its own came into use with this table. */
  addDevice(unit: UnitContext, sid: number, ssid: number, wholeTlb = false): void {
    const tag = this.#findDevice(unit, sid, ssid, wholeTlb);
    if (tag) tag.users++;
    else this.#devices.push({ unit, sid, ssid, wholeTlb, users: 1 });
  }

  /** The reverse; its TLB is the caller's business. */
  removeDevice(unit: UnitContext, sid: number, ssid: number, wholeTlb = false): void {
    const tag = this.#findDevice(unit, sid, ssid, wholeTlb);
    if (tag && --tag.users === 0) this.#devices.splice(this.#devices.indexOf(tag), 1);
  }

  /**
   * Drop what is cached of some ranges, and wait until it is gone. A device could fill its TLB again
   * from a stale translation of the unit, so its turn comes last.
   *
   * @param leavesOnly no table entry of this table changed, only leaves
   */
  flush(ranges: PendingRanges, leavesOnly: boolean): void {
    if (ranges.count === 0) return;
    for (const tag of this.#translations) addRanges(tag, ranges, leavesOnly);
    submit(this.#translations);
    const below = this.#translations.filter(({ kind }) => kind === TAG.BELOW_NESTED);
    for (const { unit, id } of below) unit.invalidate.vmidStage1(id);
    submit(below);
    for (const tag of this.#devices) addDeviceRanges(tag, ranges);
    submit(this.#devices);
  }

  #find(unit: UnitContext, kind: TagKind, id: number): TranslationTag | undefined {
    return this.#translations.find(
      (tag) => tag.unit === unit && tag.kind === kind && tag.id === id,
    );
  }

  #findDevice(
    unit: UnitContext,
    sid: number,
    ssid: number,
    wholeTlb: boolean,
  ): DeviceTag | undefined {
    return this.#devices.find(
      (tag) =>
        tag.unit === unit && tag.sid === sid && tag.ssid === ssid && tag.wholeTlb === wholeTlb,
    );
  }
}

/** Hand over and wait, one batch per unit. */
const submit = (tags: readonly { readonly unit: UnitContext }[]): void => {
  for (const { unit } of tags) unit.invalidate.submit();
};

const addRanges = (
  { unit, kind, id }: TranslationTag,
  ranges: PendingRanges,
  leavesOnly: boolean,
): void => {
  const { invalidate } = unit;
  for (let at = 0; at < ranges.count; at++) {
    const [start, last, leafLg2] = [
      ranges.startAt(at),
      ranges.lastAt(at),
      ranges.leafLg2At(at),
    ] as const;
    if (kind === TAG.ASID) invalidate.stage1(id, start, last, leafLg2, leavesOnly);
    else invalidate.stage2(id, start, last, leafLg2, leavesOnly);
  }
};

const addDeviceRanges = ({ unit, sid, ssid, wholeTlb }: DeviceTag, ranges: PendingRanges): void => {
  const { invalidate } = unit;
  if (wholeTlb) {
    invalidate.wholeDeviceTlb(sid, ssid);
    return;
  }
  for (let at = 0; at < ranges.count; at++) {
    invalidate.deviceTlb(sid, ssid, ranges.startAt(at), ranges.lastAt(at));
  }
};
