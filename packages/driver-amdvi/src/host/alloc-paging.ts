import { type IommuUnit, type PagingRequest, refuse } from '@iommukit/core';
import type { PageTablePool } from '@iommukit/pgtable-fast';
import { type Capabilities, hasGuestDomains, hasPasids, nests } from './capabilities.ts';
import { AmdviPagingDomain } from './domain.ts';
import { type Geometry, guestGeometry, hostGeometry } from './geometry.ts';
import { HWPT_ALLOC } from './hwpt-flags.ts';
import type { UnitContext } from './unit-context.ts';

const OP = 'IOMMU_HWPT_ALLOC';
const { NEST_PARENT, DIRTY_TRACKING, PASID } = HWPT_ALLOC;

/** Shape of the table that a domain without flags gets: the kind preferred, or else the other. */
export const defaultGeometry = (
  caps: Capabilities,
  preferGuestTables: boolean,
  smallOnly = false,
): Geometry | undefined => {
  const host = caps.hostLevels > 0 ? hostGeometry(caps, smallOnly) : undefined;
  const guest = hasGuestDomains(caps) ? guestGeometry(caps, smallOnly) : undefined;
  return preferGuestTables ? (guest ?? host) : (host ?? guest);
};

/**
 * Make a paging domain. DIRTY_TRACKING and NEST_PARENT, alone or together, ask for host tables,
 * PASID alone for guest tables; no flag leaves it to the driver.
 *
 * @throws {IommuError} EOPNOTSUPP for user data, other flags and combinations, or what the unit
 *   lacks; ENOMEM
 * @linux drivers/iommu/amd/iommu.c (amd_iommu_domain_alloc_paging_flags)
 */
export const allocPaging = (
  unit: IommuUnit,
  context: UnitContext,
  pool: PageTablePool,
  request: PagingRequest,
  preferGuestTables: boolean,
): AmdviPagingDomain => {
  const { flags } = request;
  checkRequest(context.caps, request);
  const geometry = geometryFor(context.caps, request, preferGuestTables);
  if (!geometry) throw unsupported('tables', 'the unit has neither host nor guest tables');
  return new AmdviPagingDomain(unit, context, pool, {
    geometry,
    nestParent: (flags & NEST_PARENT) !== 0,
    pasidCompatible: (flags & PASID) !== 0,
    dirtyCapable: (flags & DIRTY_TRACKING) !== 0,
  });
};

const geometryFor = (
  caps: Capabilities,
  { flags, smallPagesOnly = false }: PagingRequest,
  preferGuestTables: boolean,
): Geometry | undefined => {
  if (flags === PASID) return guestGeometry(caps, smallPagesOnly);
  if (flags !== 0) return hostGeometry(caps, smallPagesOnly);
  return defaultGeometry(caps, preferGuestTables, smallPagesOnly);
};

const checkRequest = (caps: Capabilities, { flags, userData }: PagingRequest): void => {
  if (userData) {
    throw unsupported('hwpt-data', 'an AMD paging HWPT takes no vendor data', {
      value: userData.type,
      accepted: 'data_type IOMMU_HWPT_DATA_NONE',
    });
  }
  if (flags !== PASID && (flags & ~(DIRTY_TRACKING | NEST_PARENT)) !== 0) {
    throw unsupported('hwpt-flags', 'unknown IOMMU_HWPT_ALLOC_* flags, or PASID with others', {
      value: flags,
      accepted: '0, NEST_PARENT (1), DIRTY_TRACKING (2), both, or PASID (8) alone',
    });
  }
  if ((flags & DIRTY_TRACKING) !== 0 && !caps.dirty) {
    throw unsupported('dirty-tracking', 'the unit keeps no dirty bits (EFR.HDSup)');
  }
  if ((flags & NEST_PARENT) !== 0 && !nests(caps)) {
    throw unsupported('nest-parent', 'the unit needs EFR.GTSup, GIoSup and EFR2.GCR3TRPModeSup');
  }
  if (flags === PASID && !(hasPasids(caps) && hasGuestDomains(caps))) {
    throw unsupported('pasid', 'the unit needs EFR.GTSup, PPRSup, EPHSup and GIoSup');
  }
};

const unsupported = (rule: string, message: string, details = {}) =>
  refuse('EOPNOTSUPP', OP, rule, message, details);
