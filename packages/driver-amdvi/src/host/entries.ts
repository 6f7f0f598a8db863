/**
 * Device table entries of domains that change while devices use them.
 */

import { deviceEntry } from './device-entry.ts';
import type { DeviceState } from './device-state.ts';
import { type AmdviPagingDomain, attachmentsOver } from './domain.ts';
import type { UnitContext } from './unit-context.ts';

/** Bring a device's entry up to date; the unit forgets the old one with the next `submit`. */
export const updateEntry = (unit: UnitContext, device: DeviceState): void => {
  const { table, invalidate } = unit;
  const words = deviceEntry(unit, device);
  if (!table.differs(device.rid, words)) return;
  table.write(device.rid, words, invalidate);
  invalidate.deviceEntry(device.rid);
};

/**
 * Write the entries that hold something of a host table anew, nested ones too: its root and Mode
 * when it grew, HAD. Units forget the old entries; translations stay cached.
 */
export const rewriteEntries = (domain: AmdviPagingDomain): void => {
  const units = new Set<UnitContext>();
  for (const { unit, device } of attachmentsOver(domain)) {
    updateEntry(unit, device);
    units.add(unit);
  }
  for (const unit of units) unit.invalidate.submit();
};
