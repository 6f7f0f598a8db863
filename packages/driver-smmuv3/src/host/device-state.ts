import type { UnitDevice } from '@iommukit/core';
import type { CdTable } from './cd-table.ts';
import type { SmmuPagingDomain } from './domain.ts';
import type { TranslatingDomain } from './translating-domain.ts';

/** Stands for requests without SubstreamID where a substream could be named. */
export const NO_SSID = -1;

/** One device in the charge of a unit. */
export interface DeviceState {
  readonly device: UnitDevice;
  /** StreamID. */
  readonly sid: number;
  /** Width of the SubstreamIDs that device and unit both have; 0 = none. */
  readonly ssidBits: number;
  /** The device keeps translations, and the unit serves it. */
  readonly ats: boolean;
  /** The device sends page requests, and the unit takes them. */
  readonly pri: boolean;
  /** Faults of the device may stall. */
  readonly stall: boolean;
  /** Its context descriptors; made when the first one is needed. */
  cdTable: CdTable | undefined;
  /** Its stream table entry lets it ask for translations (EATS). */
  atsEnabled: boolean;
  /** What translates its requests without SubstreamID; undefined = they abort. */
  domain: TranslatingDomain | undefined;
  /** What translates those with one, by SubstreamID. */
  readonly pasids: Map<number, SmmuPagingDomain>;
}
