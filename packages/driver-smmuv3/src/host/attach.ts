/**
 * Put a domain to work for a device, in place of what was there.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_attach_dev)
 */
import { type Domain, refuse } from '@iommukit/core';
import type { AttachableDomain } from './domain.ts';
import { ABORT_ENTRY } from './stream-table.ts';
import { TranslatingDomain } from './translating-domain.ts';
import type { DeviceState, UnitContext } from './unit-context.ts';

const OP = 'attach';

/**
 * Make `domain` translate the device's requests. Everything that can fail comes before the first
 * change. Abort, bypass and one stage 2 follow each other without a window; a stage 2 in place of
 * another changes VMID and root, two words, so requests abort for a moment in between.
 *
 * @param pasid -1; requests with PASID need stage 1
 * @throws {IommuError} EOPNOTSUPP for a PASID; EINVAL when the domain does not fit; ENOSPC
 */
export const attach = (
  unit: UnitContext,
  device: DeviceState,
  pasid: number,
  domain: Domain,
): void => {
  if (pasid >= 0) {
    throw refuse('EOPNOTSUPP', OP, 'pasid-support', `${unit.name} makes stage-2 domains only`, {
      value: pasid,
      accepted: 'requests without PASID (-1)',
    });
  }
  const next = domain.kind === 'blocking' ? undefined : ownDomain(unit, domain);
  if (device.domain === next) return;
  next?.checkFits(unit);
  const entry = next ? next.streamEntry(next.addDevice(unit, device)) : ABORT_ENTRY;
  const old = device.domain;
  device.domain = next;
  unit.table.write(device.sid, entry, unit.invalidate);
  const unusedVmid = old?.kind === 'paging' ? old.lastVmidOf(unit) : -1;
  if (unusedVmid >= 0) {
    unit.invalidate.vmid(unusedVmid);
    unit.invalidate.submit();
  }
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
    { owner: domain.unit.name, accepted: 'a domain of an SMMUv3 of the same machine' },
  );
};
