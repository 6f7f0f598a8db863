import { refuse } from '@iommukit/core';
import { hasGuestDomains, nests } from './capabilities.ts';
import type { AmdviPagingDomain } from './domain.ts';
import type { UnitContext } from './unit-context.ts';

/**
 * Whether a unit can walk the table of a paging domain, which another unit may have made.
 *
 * @throws {IommuError} EINVAL naming what differs
 * @linux drivers/iommu/amd/iommu.c (amd_iommu_attach_device): units of one machine are alike there
 *   but for HDSup
 */
export const checkPagingFits = (unit: UnitContext, domain: AmdviPagingDomain): void => {
  const { caps } = unit;
  const own = domain.context.caps;
  const { nestParent, dirtyCapable } = domain.options;
  need(unit, !dirtyCapable || caps.dirty, 'dirty tracking (EFR.HDSup)');
  if (unit === domain.context) return;
  need(unit, !nestParent || nests(caps), 'nesting (EFR.GTSup, GIoSup, EFR2.GCR3TRPModeSup)');
  need(
    unit,
    caps.hostAddressBits >= own.hostAddressBits,
    `physical addresses of ${own.hostAddressBits} bits`,
  );
  if (domain.usesGuestTables) {
    need(unit, hasGuestDomains(caps), 'guest tables (EFR.GTSup, GIoSup)');
    const levels = own.guestLevels;
    need(unit, caps.guestLevels === levels, `guest tables of ${levels} levels (EFR.GATS)`);
  } else {
    const levels = own.hostLevels;
    need(unit, caps.hostLevels >= levels, `host tables of ${levels} levels (EFR.HATS)`);
  }
};

const need = (unit: UnitContext, satisfied: boolean, what: string): void => {
  if (satisfied) return;
  throw refuse('EINVAL', 'attach', 'domain-fits-unit', `${unit.name} lacks ${what}`, {
    owner: unit.name,
    accepted: 'a domain allocated for a device of this unit',
  });
};
