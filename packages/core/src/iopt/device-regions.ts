/**
 * What a device keeps for itself of an I/O address space while it is attached.
 * @linux drivers/iommu/iommufd/io_pagetable.c iopt_table_enforce_dev_resv_regions
 * @module
 */
import type { ReservedRegion } from '../driver/contract.ts';
import { refuse } from '../errors.ts';
import type { IoPagetable } from './io-pagetable.ts';

/** Where software may place the MSI doorbell of a device. */
export interface SwMsiWindow {
  readonly start: number;
}

/**
 * Reserve the regions of a device, all but the relaxable ones, until `reserved.removeOwner(owner)`.
 *
 * @param owner identifies the device when it leaves
 * @param name the device's name for refusals
 * @returns the software MSI window, if the device has one
 * @throws {IommuError} EADDRINUSE when a mapping or allowed range is there; EINVAL for both kinds of
 * MSI window. Nothing is reserved then.
 */
export const reserveDeviceRegions = (
  iopt: IoPagetable,
  owner: unknown,
  name: string,
  regions: readonly ReservedRegion[],
  op = 'attach device',
): SwMsiWindow | undefined => {
  let swMsi: SwMsiWindow | undefined;
  let windows = 0;
  let hardware = 0;
  try {
    for (const { start, last, kind } of regions) {
      if (kind === 'relaxable') continue;
      if (kind === 'msi') hardware++;
      if (kind === 'sw-msi') {
        swMsi = { start };
        windows++;
      }
      iopt.reserve({ start, last, owner, label: `the ${kind} region of ${name}` }, op);
    }
    if ((windows > 0 && hardware > 0) || windows > 1) {
      throw refuse('EINVAL', op, 'msi-windows', `${name} has contradicting MSI windows`, {
        owner: name,
        accepted: 'hardware MSI windows, or one software MSI window',
      });
    }
  } catch (error) {
    iopt.reserved.removeOwner(owner);
    throw error;
  }
  return swMsi;
};
