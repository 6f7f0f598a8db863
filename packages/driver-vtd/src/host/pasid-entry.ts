/**
 * PASID table entries for each kind of domain.
 *
 * @spec VT-d 9.6
 * @linux drivers/iommu/intel/pasid.c (intel_pasid_setup_*)
 */
import { encode } from '@iommukit/bits';
import { FSPM, PASID_ENTRY, PGTT } from '../spec/pasid-entry.ts';
import type { Capabilities } from './capabilities.ts';
import { IDENTITY_DID } from './did-allocator.ts';
import type { PagingTables } from './domain.ts';
import { addressWidthCode, widestAddressWidthCode } from './geometry.ts';
import type { NestedTables } from './nesting.ts';

/** Walks are snooped wherever the unit can do it. */
const walkSnoop = (caps: Capabilities): number => caps.ecap.SMPWCS;

/** Entry of a second-stage domain. */
export const secondStageEntry = (caps: Capabilities, table: PagingTables, did: number) =>
  encode(PASID_ENTRY, {
    P: 1,
    PGTT: PGTT.SECOND_STAGE,
    AW: addressWidthCode(table.levels),
    SSADE: table.dirtyTracking ? 1 : 0,
    SSPTPTR: table.rootPa,
    DID: did,
    PWSNP: walkSnoop(caps),
  });

/** Entry of a first-stage domain; all its pages are user pages. */
export const firstStageEntry = (caps: Capabilities, table: PagingTables, did: number) =>
  encode(PASID_ENTRY, {
    P: 1,
    PGTT: PGTT.FIRST_STAGE,
    DID: did,
    PWSNP: walkSnoop(caps),
    PGSNP: table.forcesSnooping ? 1 : 0,
    FSPM: table.levels === 5 ? FSPM.LEVEL5 : FSPM.LEVEL4,
    FSPTPTR: table.rootPa,
  });

/** Entry of a nested domain: the guest's first stage over the parent's second stage. */
export const nestedEntry = (
  caps: Capabilities,
  parent: PagingTables,
  guest: NestedTables,
  did: number,
) =>
  encode(PASID_ENTRY, {
    P: 1,
    PGTT: PGTT.NESTED,
    AW: addressWidthCode(parent.levels),
    SSADE: parent.dirtyTracking ? 1 : 0,
    SSPTPTR: parent.rootPa,
    DID: did,
    PWSNP: walkSnoop(caps),
    PGSNP: parent.forcesSnooping ? 1 : 0,
    SRE: guest.supervisorRequests ? 1 : 0,
    WPE: guest.supervisorRequests && guest.writeProtect ? 1 : 0,
    EAFE: guest.extendedAccessed ? 1 : 0,
    FSPM: guest.levels === 5 ? FSPM.LEVEL5 : FSPM.LEVEL4,
    FSPTPTR: guest.rootGpa,
  });

/** Pass-through entry. */
export const identityEntry = (caps: Capabilities) =>
  encode(PASID_ENTRY, {
    P: 1,
    PGTT: PGTT.PASS_THROUGH,
    AW: caps.ecap.SSTS === 1 ? widestAddressWidthCode(caps.cap.SAGAW) : 0,
    DID: IDENTITY_DID,
    PWSNP: walkSnoop(caps),
  });
