import type { UnitDevice } from '@iommukit/core';
import type { Attachment } from './attachment.ts';

/** Key of the attachment for requests without PASID; also the RID_PASID of scalable mode. */
export const RID_PASID = 0;

/** One device in the charge of a unit. */
export interface DeviceState {
  readonly device: UnitDevice;
  readonly rid: number;
  /** The device caches translations, and the unit serves it. */
  readonly ats: boolean;
  /** The device asks for pages, and the unit takes the requests. */
  readonly pri: boolean;
  /** Width of the PASIDs that device and unit both have; 0 = none. */
  readonly pasidBits: number;
  /** Address of its context entry. */
  contextPa: number;
  /** PASID directory; 0 in legacy mode. */
  directoryPa: number;
  /** PASID tables by directory index. */
  readonly pasidTables: Map<number, number>;
  /** What translates its requests, by PASID; {@link RID_PASID} = without. */
  readonly attachments: Map<number, Attachment>;
  /** Users of page requests; 0 = they are answered as invalid. */
  pageRequestUsers: number;
}
