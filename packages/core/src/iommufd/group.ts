/**
 * Groups of devices inside one context: all members share one attachment per PASID.
 *
 * @linux drivers/iommu/iommufd/device.c struct iommufd_group
 * @module
 */
import type { IommuGroup } from '../bus/group.ts';
import { refuse } from '../errors.ts';
import type { IommufdContext } from './context.ts';
import type { IommufdDevice } from './device.ts';
import type { Hwpt } from './hwpt.ts';

/** The PASID under which requests without PASID are kept (`IOMMU_NO_PASID`). */
export const RID_PASID = 0;

/** One attachment of a HWPT; faults remember through which one they came. */
export interface AttachHandle {
  readonly hwpt: Hwpt;
  readonly pasid: number;
}

/** What a group has attached under one PASID. */
export interface Attachment {
  handle: AttachHandle;
  /** Devices that attached, by object id. */
  readonly devices: Map<number, IommufdDevice>;
}

/** A group as one context sees it. */
export class IommufdGroup {
  readonly group: IommuGroup;
  /** Bound devices. */
  readonly members = new Set<IommufdDevice>();
  /** Attachments by PASID, {@link RID_PASID} for requests without one. */
  readonly attachments = new Map<number, Attachment>();

  constructor(group: IommuGroup) {
    this.group = group;
  }

  /** The HWPT attached under a PASID. */
  hwptAt(pasid: number): Hwpt | undefined {
    return this.attachments.get(pasid)?.handle.hwpt;
  }

  /** Whether some PASID other than the RID's has an attachment. */
  get hasPasids(): boolean {
    return this.attachments.size > (this.attachments.has(RID_PASID) ? 1 : 0);
  }
}

const OWNERS = new WeakMap<IommuGroup, IommufdContext>();

/**
 * Become the owner of a group's DMA.
 *
 * @throws {IommuError} EPERM when another context owns it
 */
export const claimGroup = (op: string, group: IommuGroup, context: IommufdContext): void => {
  const owner = OWNERS.get(group);
  if (owner && owner !== context) {
    throw refuse('EPERM', op, 'group-owner', `IOMMU group ${group.id} belongs to another iommufd`, {
      value: group.id,
      owner: 'another iommufd context',
      accepted: 'bind all devices of a group to the same iommufd',
    });
  }
  OWNERS.set(group, context);
};

/** Whether some context owns a group's DMA. */
export const isClaimed = (group: IommuGroup): boolean => OWNERS.has(group);

/** Give a group up. */
export const releaseGroup = (group: IommuGroup): void => {
  OWNERS.delete(group);
};

/** The context that owns a group, if any. */
export const groupOwner = (group: IommuGroup): IommufdContext | undefined => OWNERS.get(group);
