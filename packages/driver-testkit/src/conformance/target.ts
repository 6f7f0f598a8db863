/**
 * What a driver gives the suite: how to make it, and the few things only its author knows.
 * @module
 */
import type { IommuDriver, IommuUnit, UnitDevice } from '@iommukit/core';
import { HW_CAP } from '@iommukit/core';

/** Something that not every driver can. A case that needs it is skipped otherwise, and says so. */
export type ConformanceNeed = 'pasid' | 'dirty' | 'pri' | 'no-pri' | 'nesting' | 'write-only';

/** How the suite makes nested domains, whose vendor data only the driver's author can build. */
export interface NestingSupport {
  /** `data_type` of HWPT_ALLOC. */
  readonly dataType: number;
  /**
   * Build a guest table that maps one page, in guest memory.
   *
   * @param write stores bytes at a guest physical address, all below 64 KiB
   * @param iova what the guest's device uses, page aligned
   * @param gpa guest physical address of the page
   * @returns the vendor struct for HWPT_ALLOC
   */
  buildGuestTable(
    write: (gpa: number, bytes: Uint8Array) => void,
    iova: number,
    gpa: number,
  ): Uint8Array;
  /** PASID of the nested attachment; absent = the RID. */
  readonly pasid?: number;
  /** Nested domains are made over a vIOMMU of this type; absent = over the parent HWPT itself. */
  readonly viommuType?: number;
}

/** A driver under test. */
export interface ConformanceTarget {
  /** Name in reports. */
  readonly name: string;
  /** A fresh driver; called once per case. */
  createDriver(): IommuDriver;
  /** Mappings without the right to read can be told from others; default true. */
  readonly writeOnly?: boolean;
  readonly nesting?: NestingSupport;
}

/** What a unit can, from its capabilities and the target. */
export const abilitiesOf = (
  target: ConformanceTarget,
  unit: IommuUnit,
  device: UnitDevice,
): ReadonlySet<ConformanceNeed> => {
  const can = new Set<ConformanceNeed>();
  if (unit.caps.pasidBits > 0) can.add('pasid');
  if (unit.hwCapabilities(device) & HW_CAP.DIRTY_TRACKING) can.add('dirty');
  can.add(unit.pri && unit.caps.pri ? 'pri' : 'no-pri');
  if (target.nesting) can.add('nesting');
  if (target.writeOnly ?? true) can.add('write-only');
  return can;
};
