import type { DeviceState, GuestTables } from './device-state.ts';
import { Gcr3Table, gcr3LevelsFor } from './gcr3-table.ts';
import type { UnitContext } from './unit-context.ts';

/**
 * A device's GCR3 table, made when the first domain needs it: wide enough for all its PASIDs, with
 * room for requests without PASID (entry 0).
 *
 * @throws {IommuError} ENOSPC without a free DomainID; ENOMEM; nothing has changed then
 * @linux drivers/iommu/amd/iommu.c (init_gcr3_table)
 */
export const ensureGuestTables = (unit: UnitContext, device: DeviceState): GuestTables => {
  if (device.guest) return device.guest;
  const gcr3 = new Gcr3Table(unit.memory, gcr3LevelsFor(device.pasidBits));
  try {
    gcr3.reserve(0);
    device.guest = { gcr3, domainId: unit.domainIds.take('attach') };
    return device.guest;
  } catch (error) {
    gcr3.free();
    throw error;
  }
};

/** Whether requests with or without PASID go through the device's GCR3 table. */
export const usesGuestTables = (device: DeviceState): boolean =>
  device.pasids.size > 0 || (device.rid0?.domain.needsGcr3(device) ?? false);

/** Give back a GCR3 table that no entry leads to, and of which nothing is cached. */
export const freeGuestTables = (unit: UnitContext, { gcr3, domainId }: GuestTables): void => {
  gcr3.free();
  unit.domainIds.release(domainId);
};
