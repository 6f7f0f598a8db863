/**
 * Nested domains: the guest owns GCR3 and guest tables, the parent HWPT has the host table below.
 *
 * @spec AMD IOMMU 2.2.6 (nested translation)
 * @linux drivers/iommu/amd/nested.c
 */
import { type IommuUnit, type NestedDomain, refuse } from '@iommukit/core';
import type { Attachment } from './attachment.ts';
import { REACH } from './cache-tags.ts';
import type { EntryFields } from './device-entry.ts';
import type { DeviceState } from './device-state.ts';
import type { AmdviPagingDomain } from './domain.ts';
import { GUEST_MODE, type GuestEntry } from './guest-entry.ts';
import { NO_GUEST } from './invalidate.ts';
import { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';
import type { AmdviViommu } from './viommu.ts';

/**
 * No command names the TLB entries of all PASIDs in a device: each change below sends one for each
 * PASID that the guest's table reaches. With more than these the device gets no ATS.
 */
const MOST_ATS_PASIDS = 2 ** 16;

/** A guest's device table entry over a nest parent. */
export class AmdviNestedDomain extends TranslatingDomain implements NestedDomain {
  readonly kind = 'nested';
  readonly pasidCompatible: boolean;
  /** Faults of any PASID belong to this domain: the guest's GCR3 table says which there are. */
  readonly ownsPasidTable = true;
  readonly allowsPasids = false;
  readonly guestRootPa = -1;
  readonly viommu: AmdviViommu;
  readonly entry: GuestEntry;
  /** What stands for the guest's DomainID on this unit. */
  readonly hostDomainId: number;

  /** @throws {IommuError} ENOSPC without a free DomainID */
  constructor(
    unit: IommuUnit,
    context: UnitContext,
    viommu: AmdviViommu,
    entry: GuestEntry,
    pasidCompatible: boolean,
  ) {
    super(unit, context);
    this.viommu = viommu;
    this.entry = entry;
    this.pasidCompatible = pasidCompatible;
    this.hostDomainId = viommu.domainIds.take(entry.domainId);
  }

  get parent(): AmdviPagingDomain {
    return this.viommu.parent;
  }

  free(): void {
    this.viommu.domainIds.release(this.entry.domainId);
  }

  /** @linux drivers/iommu/amd/nested.c (nested_attach_device): EINVAL while PASIDs are enabled */
  checkFits(unit: UnitContext, device: DeviceState): void {
    if (unit !== this.context) {
      throw refuse('EINVAL', 'attach', 'viommu-unit', `the vIOMMU is on ${this.context.name}`, {
        owner: this.context.name,
        accepted: `a device behind ${this.context.name}`,
      });
    }
    if (!device.guest) return;
    throw refuse(
      'EINVAL',
      'attach',
      'host-pasids',
      `the host uses PASIDs of ${device.device.name}, whose GCR3 table is to be the guest's`,
      { accepted: 'a device that is blocked, or attached to the nest parent' },
    );
  }

  needsGcr3(): boolean {
    return false;
  }

  takeId(): number {
    return this.hostDomainId;
  }

  releaseId(): void {}

  entryFields({ device, domainId }: Attachment): EntryFields {
    const { mode, read, write, pageRequests, tables } = this.entry;
    if (mode === GUEST_MODE.BLOCKED) return { TV: 0, I: 0, PPR: 0, DOMAIN_ID: domainId };
    return {
      ...this.parent.hostTableFields(),
      ...tables,
      IR: read,
      IW: write,
      I: this.#hasAts(device) ? 1 : 0,
      PPR: device.pri ? pageRequests : 0,
      DOMAIN_ID: domainId,
    };
  }

  addTags(attachment: Attachment): void {
    const { unit, device, domainId } = attachment;
    const { tags, nested } = this.parent;
    nested.add(attachment);
    tags.addTranslation(unit, domainId, NO_GUEST, REACH.BELOW);
    if (this.#hasAts(device)) tags.addDevice(unit, device.rid, this.#reach(device), REACH.BELOW);
  }

  removeTags(attachment: Attachment): void {
    const { unit, device, domainId } = attachment;
    const { tags, nested } = this.parent;
    nested.delete(attachment);
    tags.removeTranslation(unit, domainId, NO_GUEST, REACH.BELOW);
    if (this.#hasAts(device)) tags.removeDevice(unit, device.rid, this.#reach(device), REACH.BELOW);
  }

  addFlush({ unit, device, domainId }: Attachment): void {
    unit.invalidate.domain(domainId, NO_GUEST);
    if (!this.#hasAts(device)) return;
    for (let pasid = -1; pasid < this.#reach(device); pasid++) {
      unit.invalidate.deviceTlb(device.rid, pasid);
    }
  }

  /**
   * PASIDs that the device can send and the guest's table has room for, whether or not the host makes
   * use of PASIDs.
   */
  #reach({ device }: DeviceState): number {
    const bits = Math.min(device.pasidBits, this.context.caps.pasidBits);
    const own = bits === 0 ? 0 : 2 ** bits;
    return Math.min(this.entry.pasids, own);
  }

  #hasAts(device: DeviceState): boolean {
    return device.ats && this.#reach(device) <= MOST_ATS_PASIDS;
  }
}
