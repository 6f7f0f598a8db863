/**
 * vIOMMUs: what a guest of this unit has, and what it may ask.
 *
 * @linux drivers/iommu/amd/iommufd.c (amd_iommufd_viommu_init): there with `destroy` alone
 */
import {
  type IommuUnit,
  type NestedDomain,
  type PagingDomain,
  refuse,
  type UnitDevice,
  type UserArray,
  type UserBlob,
  type VeventSink,
  type ViommuBackend,
} from '@iommukit/core';
import type { DeviceState } from './device-state.ts';
import { AmdviPagingDomain } from './domain.ts';
import { GuestCommands } from './guest-commands.ts';
import { GuestDomainIds } from './guest-domain-ids.ts';
import { readGuestEntry } from './guest-entry.ts';
import { guestEvent } from './guest-events.ts';
import { HWPT_ALLOC } from './hwpt-flags.ts';
import { AmdviNestedDomain } from './nesting.ts';
import type { UnitContext } from './unit-context.ts';
import { VEVENTQ_TYPE_AMD } from './viommu-types.ts';

/** DeviceIDs have 16 bits. */
const LARGEST_DEVICE_ID = 0xffffn;

/** The driver's side of one vIOMMU. */
export class AmdviViommu implements ViommuBackend {
  readonly unit: IommuUnit;
  readonly context: UnitContext;
  readonly parent: AmdviPagingDomain;
  readonly domainIds: GuestDomainIds;
  /** Devices by the DeviceID that the guest knows them by. */
  readonly devices = new Map<number, DeviceState>();
  readonly #events: VeventSink;
  readonly #commands: GuestCommands;

  constructor(
    unit: IommuUnit,
    context: UnitContext,
    parent: AmdviPagingDomain,
    events: VeventSink,
  ) {
    this.unit = unit;
    this.context = context;
    this.parent = parent;
    this.#events = events;
    this.domainIds = new GuestDomainIds(context.domainIds);
    this.#commands = new GuestCommands(this);
  }

  /**
   * Make a nested domain from `struct iommu_hwpt_amd_guest`.
   *
   * @throws {IommuError} EOPNOTSUPP for another data type; EINVAL for an entry that cannot be;
   *   ENOSPC without a free DomainID
   * @linux drivers/iommu/amd/nested.c (amd_iommu_alloc_domain_nested)
   */
  allocNested(_device: UnitDevice, flags: number, userData: UserBlob): NestedDomain {
    const entry = readGuestEntry(this.context.caps, userData);
    const pasid = (flags & HWPT_ALLOC.PASID) !== 0;
    return new AmdviNestedDomain(this.unit, this.context, this, entry, pasid);
  }

  /** Commands of the guest, in order, up to the first that cannot be. */
  invalidate(array: UserArray): void {
    this.#commands.run(array);
  }

  /** @throws {IommuError} EINVAL for an id of more than 16 bits */
  vdeviceInit(device: UnitDevice, virtId: bigint): void {
    const state = this.context.devices.get(device.rid);
    if (state && virtId <= LARGEST_DEVICE_ID) {
      this.devices.set(Number(virtId), state);
      return;
    }
    throw refuse(
      'EINVAL',
      'IOMMU_VDEVICE_ALLOC',
      'guest-device-id',
      `${device.name} cannot be DeviceID ${virtId} of a guest`,
      { value: virtId, accepted: `0 to ${LARGEST_DEVICE_ID}` },
    );
  }

  vdeviceDestroy(_device: UnitDevice, virtId: bigint): void {
    this.devices.delete(Number(virtId));
  }

  /**
   * Hand an event of a device over to its guest.
   *
   * @param words four u32 words of the unit's record
   * @returns false when it is not the guest's, or nobody there listens
   */
  report(device: DeviceState, domain: AmdviNestedDomain, words: Uint32Array): boolean {
    for (const [id, state] of this.devices) {
      if (state !== device) continue;
      const bytes = guestEvent(words, id, domain.entry);
      return bytes !== undefined && this.#events.report(VEVENTQ_TYPE_AMD, bytes);
    }
    return false;
  }

  destroy(): void {}
}

/**
 * A vIOMMU over a nest parent.
 *
 * @throws {IommuError} EINVAL for a parent that the unit cannot walk
 */
export const createViommu = (
  unit: IommuUnit,
  context: UnitContext,
  parent: PagingDomain,
  events: VeventSink,
): AmdviViommu => {
  if (!(parent instanceof AmdviPagingDomain) || !parent.nestParent) {
    throw refuse('EINVAL', 'IOMMU_VIOMMU_ALLOC', 'nest-parent', 'the parent is no nest parent', {
      accepted: 'a HWPT made with IOMMU_HWPT_ALLOC_NEST_PARENT on an AMD unit',
    });
  }
  parent.checkFits(context);
  return new AmdviViommu(unit, context, parent, events);
};
