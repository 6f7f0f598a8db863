/**
 * Put a domain to work for a device, in place of what was there.
 *
 * @linux drivers/iommu/amd/iommu.c (amd_iommu_attach_device)
 */
import { type Domain, refuse } from '@iommukit/core';
import { BLOCKED_ENTRY } from './device-table.ts';
import type { AttachableDomain } from './domain.ts';
import { TranslatingDomain } from './translating-domain.ts';
import type { DeviceState, UnitContext } from './unit-context.ts';

const OP = 'attach';

/**
 * Make `domain` translate the device's requests. Everything that can fail comes before the first
 * change; the entry changes in one store, so a replaced domain leaves no window.
 *
 * @param pasid -1; requests with PASID need guest tables
 * @throws {IommuError} EOPNOTSUPP for a PASID; EINVAL when the domain does not fit; ENOSPC
 */
export const attach = (
  unit: UnitContext,
  device: DeviceState,
  pasid: number,
  domain: Domain,
): void => {
  if (pasid >= 0) {
    throw refuse('EOPNOTSUPP', OP, 'pasid-support', `${unit.name} has no guest tables`, {
      value: pasid,
      accepted: 'requests without PASID (-1)',
    });
  }
  const next = domain.kind === 'blocking' ? undefined : ownDomain(unit, domain);
  if (device.domain === next) return;
  next?.checkFits(unit);
  const entry = next ? next.deviceEntry(next.addDevice(unit, device)) : BLOCKED_ENTRY;
  const old = device.domain;
  device.domain = next;
  unit.table.write(device.rid, entry);
  unit.invalidate.deviceEntry(device.rid);
  const unusedId = old?.kind === 'paging' ? old.lastIdOf(unit) : -1;
  if (unusedId >= 0) unit.invalidate.domain(unusedId);
  unit.invalidate.submit();
  old?.removeDevice(unit, device);
};

const ownDomain = (unit: UnitContext, domain: Domain): AttachableDomain => {
  if (domain instanceof TranslatingDomain && domain.context.host.machine === unit.host.machine) {
    return domain as AttachableDomain;
  }
  throw refuse(
    'EINVAL',
    OP,
    'foreign-domain',
    `a ${domain.kind} domain of ${domain.unit.name} cannot be walked by ${unit.name}`,
    { owner: domain.unit.name, accepted: 'a domain of an AMD unit of the same machine' },
  );
};
