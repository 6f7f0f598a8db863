import type { IdentityDomain, IommuUnit } from '@iommukit/core';
import type { Attachment } from './attachment.ts';
import type { EntryFields } from './device-entry.ts';
import type { DeviceState } from './device-state.ts';
import { IDENTITY_DOMAIN_ID } from './domain-id-allocator.ts';
import type { UnitContext } from './unit-context.ts';

/** Any domain that lets DMA through: what attaching needs of it. */
export abstract class TranslatingDomain {
  readonly unit: IommuUnit;
  /** The unit that made it. */
  readonly context: UnitContext;
  /** Devices and PASIDs that it translates for. */
  readonly attachments = new Set<Attachment>();

  constructor(unit: IommuUnit, context: UnitContext) {
    this.unit = unit;
    this.context = context;
  }

  /**
   * Whether the device's PASIDs go on working while this domain has its requests without PASID.
   *
   * @linux drivers/iommu/amd/amd_iommu.h (pdom_is_sva_capable)
   */
  abstract readonly allowsPasids: boolean;

  /** Requests without PASID go through GCR3 entry 0, where this guest table stands; else -1. */
  abstract readonly guestRootPa: number;

  /**
   * @throws {IommuError} EINVAL when the unit cannot walk this domain's tables, or the device not
   *   use them
   */
  abstract checkFits(unit: UnitContext, device: DeviceState): void;

  /** Whether a device needs a GCR3 table of the host. */
  abstract needsGcr3(device: DeviceState): boolean;

  /**
   * Tag of translations that the host's tables give, of which {@link TranslatingDomain.releaseId}
   * takes one use back.
   *
   * @throws {IommuError} ENOSPC
   */
  abstract takeId(unit: UnitContext): number;
  abstract releaseId(unit: UnitContext): void;

  /** What the device table entry says of this domain: translation, tag, rights. */
  abstract entryFields(attachment: Attachment): EntryFields;

  /** From now on changes of the table are flushed for this attachment, or no longer. */
  abstract addTags(attachment: Attachment): void;
  abstract removeTags(attachment: Attachment): void;

  /** Add the commands that drop what is cached of an attachment whose entry changed already. */
  abstract addFlush(attachment: Attachment): void;
}

/** IOVA = host physical address; one per unit. Mode 0 still checks IR and IW. */
export class AmdviIdentityDomain extends TranslatingDomain implements IdentityDomain {
  readonly kind = 'identity';
  readonly allowsPasids = true;
  readonly guestRootPa = -1;

  free(): void {}
  checkFits(): void {}

  needsGcr3(device: DeviceState): boolean {
    return device.pasidBits > 0;
  }

  takeId(): number {
    return IDENTITY_DOMAIN_ID;
  }

  releaseId(): void {}

  entryFields({ domainId }: Attachment): EntryFields {
    return { IR: 1, IW: 1, DOMAIN_ID: domainId };
  }

  addTags(): void {}
  removeTags(): void {}

  /** The device alone can know addresses from it. */
  addFlush({ unit, device }: Attachment): void {
    if (device.ats) unit.invalidate.deviceTlb(device.rid, -1);
  }
}
