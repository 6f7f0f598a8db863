/**
 * What a device's entry says: a function of what the device is attached to.
 *
 * @spec AMD IOMMU 2.2.2.1
 * @linux drivers/iommu/amd/iommu.c (set_dte_entry, set_dte_gcr3_table, amd_iommu_set_dte_v1)
 */
import { encode, type Layout, type Values } from '@iommukit/bits';
import { DTE } from '../spec/device-table-entry.ts';
import type { DeviceState, GuestTables } from './device-state.ts';
import { BLOCKED_ENTRY } from './device-table.ts';
import type { UnitContext } from './unit-context.ts';

/** Fields of an entry by name. */
export type EntryFields = typeof DTE extends Layout<infer K> ? Values<K> : never;

/** Pieces of a GCR3 root pointer as they are scattered over an entry. */
const gcr3Fields = (rootPa: number) => ({
  GCR3_14_12: Math.floor(rootPa / 2 ** 12) % 2 ** 3,
  GCR3_30_15: Math.floor(rootPa / 2 ** 15) % 2 ** 16,
  GCR3_51_31: Math.floor(rootPa / 2 ** 31),
});

/**
 * The entry that a device should have now.
 *
 * A device that keeps PASIDs while its other requests are blocked goes through GCR3 entry 0, which
 * is not valid: with GIoV=0 they would pass untranslated.
 */
export const deviceEntry = (unit: UnitContext, device: DeviceState): Uint32Array => {
  const { rid0, guest } = device;
  if (!rid0 && !guest) return BLOCKED_ENTRY;
  const fields = rid0 ? rid0.domain.entryFields(rid0) : { IR: 1, IW: 1 };
  const throughGuest = !rid0 || rid0.domain.guestRootPa >= 0;
  return encode(DTE, {
    V: 1,
    TV: 1,
    I: device.ats ? 1 : 0,
    PPR: device.pri ? 1 : 0,
    ...fields,
    ...(guest && guestFields(unit, guest, throughGuest)),
  });
};

const guestFields = (unit: UnitContext, guest: GuestTables, throughGuest: boolean) => ({
  GV: 1,
  GIOV: throughGuest ? 1 : 0,
  GLX: guest.gcr3.levels - 1,
  GUEST_PAGING_MODE: unit.caps.guestLevels - 4,
  DOMAIN_ID: guest.domainId,
  ...gcr3Fields(guest.gcr3.rootPa),
});
