import type { UnitDevice } from '@iommukit/core';
import type { Attachment } from './attachment.ts';
import type { Gcr3Table } from './gcr3-table.ts';

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
  /** What translates its requests without PASID; undefined = they are blocked. */
  rid0: Attachment | undefined;
  /** What translates its requests with PASID. */
  readonly pasids: Map<number, Attachment>;
  /** Its guest tables by PASID, and the DomainID they are cached under; only while needed. */
  guest: GuestTables | undefined;
  /** Users of page requests; 0 = they are answered as invalid. */
  pageRequestUsers: number;
}

/** The GCR3 table of a device. */
export interface GuestTables {
  readonly gcr3: Gcr3Table;
  /** Tag of its translations. One for each device: equal tags must mean equal GCR3 tables. */
  readonly domainId: number;
}
