import { refuse } from '@iommukit/core';
import type { VtdPagingDomain } from './domain.ts';
import {
  addressWidthCode,
  firstStageGeometry,
  type Geometry,
  secondStageGeometry,
} from './geometry.ts';
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
  if (options.firstStage) checkFirstStage(unit, options.geometry);
  else checkSecondStage(unit, options.geometry);
  need(unit, !options.nestParent || caps.nesting, 'nesting (ECAP.NEST)');
  need(unit, !options.dirtyCapable || caps.dirtyTracking, 'dirty tracking (ECAP.SSADS)');
  need(unit, !domain.forcesSnooping || caps.ecap.SC === 1, 'snoop control (ECAP.SC)');
  need(
    unit,
    caps.ecap.SMPWCS === domain.context.caps.ecap.SMPWCS,
    'the same coherency of table walks (ECAP.SMPWCS)',
  );
};

/** A table of 4 levels can be walked by a unit that prefers 5. */
const checkFirstStage = (unit: UnitContext, table: Geometry): void => {
  const { caps } = unit;
  need(unit, caps.scalable && caps.ecap.FSTS === 1, 'first-stage tables (ECAP.FSTS)');
  need(unit, table.levels === 4 || caps.cap.FS5LP === 1, '5-level first-stage tables (CAP.FS5LP)');
  checkPages(unit, table, table.iovaBits + 1, firstStageGeometry(caps, false));
};

const checkSecondStage = (unit: UnitContext, table: Geometry): void => {
  const { caps } = unit;
  need(unit, !caps.scalable || caps.ecap.SSTS === 1, 'second-stage tables (ECAP.SSTS)');
  const walksLevels = (caps.cap.SAGAW & (1 << addressWidthCode(table.levels))) !== 0;
  need(unit, walksLevels, `tables of ${table.levels} levels (CAP.SAGAW)`);
  checkPages(unit, table, table.iovaBits, secondStageGeometry(caps, false));
};

const checkPages = (
  unit: UnitContext,
  table: Geometry,
  widthBits: number,
  own: Geometry | undefined,
): void => {
  need(unit, unit.caps.guestAddressBits >= widthBits, `IOVAs of ${widthBits} bits (CAP.MGAW)`);
  for (const size of table.pageSizesLg2) {
    need(unit, own?.pageSizesLg2.includes(size) ?? false, `pages of 2^${size} bytes`);
  }
};

const need = (unit: UnitContext, satisfied: boolean, what: string): void => {
  if (satisfied) return;
  throw refuse('EINVAL', 'attach', 'domain-fits-unit', `${unit.name} lacks ${what}`, {
    owner: unit.name,
    accepted: 'a domain allocated for a device of this unit',
  });
};
