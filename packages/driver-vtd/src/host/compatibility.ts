import { refuse } from '@iommukit/core';
import type { VtdPagingDomain } from './domain.ts';
import { firstStageGeometry, type Geometry, secondStageGeometry } from './geometry.ts';
import type { UnitContext } from './unit-context.ts';

/**
 * Whether a unit can walk the table of a paging domain, which another unit may have made.
 *
 * @throws {IommuError} EINVAL naming what differs
 * @linux drivers/iommu/intel/iommu.c (paging_domain_compatible)
 */
export const checkPagingFits = (unit: UnitContext, domain: VtdPagingDomain): void => {
  if (unit === domain.context) return;
  const { caps } = unit;
  const { options } = domain;
  if (options.firstStage) {
    need(unit, caps.scalable && caps.ecap.FSTS === 1, 'first-stage tables (ECAP.FSTS)');
    checkGeometry(unit, options.geometry, firstStageGeometry(caps, false));
  } else {
    need(unit, !caps.scalable || caps.ecap.SSTS === 1, 'second-stage tables (ECAP.SSTS)');
    checkGeometry(unit, options.geometry, secondStageGeometry(caps, false));
  }
  need(unit, !options.nestParent || caps.nesting, 'nesting (ECAP.NEST)');
  need(unit, !options.dirtyCapable || caps.dirtyTracking, 'dirty tracking (ECAP.SSADS)');
  need(unit, !domain.forcesSnooping || caps.ecap.SC === 1, 'snoop control (ECAP.SC)');
  need(
    unit,
    caps.ecap.SMPWCS === domain.context.caps.ecap.SMPWCS,
    'the same coherency of table walks (ECAP.SMPWCS)',
  );
};

/** Levels must agree, since entries carry one width; address and page sizes must be in reach. */
const checkGeometry = (unit: UnitContext, table: Geometry, own: Geometry | undefined): void => {
  need(unit, own !== undefined, 'a second-stage width (CAP.SAGAW)');
  if (!own) return;
  need(unit, own.levels === table.levels, `tables of ${table.levels} levels`);
  need(unit, own.iovaBits >= table.iovaBits, `IOVAs of ${table.iovaBits} bits`);
  for (const size of table.pageSizesLg2) {
    need(unit, own.pageSizesLg2.includes(size), `pages of 2^${size} bytes`);
  }
};

const need = (unit: UnitContext, satisfied: boolean, what: string): void => {
  if (satisfied) return;
  throw refuse('EINVAL', 'attach', 'domain-fits-unit', `${unit.name} lacks ${what}`, {
    owner: unit.name,
    accepted: 'a domain allocated for a device of this unit',
  });
};
