import { type IommuUnit, type PagingRequest, refuse } from '@iommukit/core';
import type { PageTablePool } from '@iommukit/pgtable-fast';
import type { Capabilities } from './capabilities.ts';
import { VtdPagingDomain } from './domain.ts';
import { firstStageGeometry, type Geometry, secondStageGeometry } from './geometry.ts';
import { HWPT_ALLOC } from './hwpt-flags.ts';
import type { UnitContext } from './unit-context.ts';

const OP = 'IOMMU_HWPT_ALLOC';

/** Flags that a second-stage domain takes. */
const SECOND_STAGE_FLAGS = HWPT_ALLOC.NEST_PARENT | HWPT_ALLOC.DIRTY_TRACKING | HWPT_ALLOC.PASID;

const hasFirstStage = (caps: Capabilities): boolean => caps.scalable && caps.ecap.FSTS === 1;
const hasSecondStage = (caps: Capabilities): boolean => !caps.scalable || caps.ecap.SSTS === 1;

/** Shape of the table that a domain without flags gets. */
export const defaultGeometry = (
  caps: Capabilities,
  preferFirstStage: boolean,
): Geometry | undefined =>
  wantsFirstStage(caps, 0, preferFirstStage)
    ? firstStageGeometry(caps, false)
    : secondStageGeometry(caps, false);

const wantsFirstStage = (caps: Capabilities, flags: number, prefer: boolean): boolean => {
  if (!hasFirstStage(caps) || (flags & ~HWPT_ALLOC.PASID) !== 0) return false;
  return prefer || !hasSecondStage(caps);
};

/**
 * Make a paging domain: first stage where it will do (and is preferred), else second stage.
 *
 * @throws {IommuError} EOPNOTSUPP for user data, unknown flags, NEST_PARENT without nesting,
 *   DIRTY_TRACKING without second-stage dirty bits, or no usable table; ENOMEM
 * @linux drivers/iommu/intel/iommu.c (intel_iommu_domain_alloc_paging_flags)
 */
export const allocPaging = (
  unit: IommuUnit,
  context: UnitContext,
  pool: PageTablePool,
  request: PagingRequest,
  options: { readonly firstStageByDefault: boolean; readonly erratum772415: boolean },
): VtdPagingDomain => {
  const { caps } = context;
  const { flags } = request;
  checkRequest(caps, request);
  const smallOnly = request.smallPagesOnly ?? false;
  const firstStage = wantsFirstStage(caps, flags, options.firstStageByDefault);
  const geometry = firstStage
    ? firstStageGeometry(caps, smallOnly)
    : secondStageGeometry(caps, smallOnly);
  if (!geometry) throw unsupported('table-width', 'the unit has no second-stage width of use');
  const nestParent = (flags & HWPT_ALLOC.NEST_PARENT) !== 0;
  return new VtdPagingDomain(unit, context, pool, {
    firstStage,
    geometry,
    nestParent,
    pasidCompatible: (flags & HWPT_ALLOC.PASID) !== 0,
    dirtyCapable: (flags & HWPT_ALLOC.DIRTY_TRACKING) !== 0,
    nestParentWritableOnly: nestParent && options.erratum772415,
  });
};

const checkRequest = (caps: Capabilities, { flags, userData }: PagingRequest): void => {
  if (userData) {
    throw unsupported('hwpt-data', 'a VT-d paging HWPT takes no vendor data', {
      value: userData.type,
      accepted: 'data_type IOMMU_HWPT_DATA_NONE',
    });
  }
  if ((flags & ~SECOND_STAGE_FLAGS) !== 0) {
    throw unsupported('hwpt-flags', 'unknown IOMMU_HWPT_ALLOC_* flags', {
      value: flags,
      accepted: 'NEST_PARENT (1), DIRTY_TRACKING (2), PASID (8)',
    });
  }
  if ((flags & HWPT_ALLOC.NEST_PARENT) !== 0 && !caps.nesting) {
    throw unsupported('nest-parent', 'the unit does not nest (ECAP.NEST or scalable mode)');
  }
  if ((flags & HWPT_ALLOC.DIRTY_TRACKING) !== 0 && !caps.dirtyTracking) {
    throw unsupported('dirty-tracking', 'the unit keeps no second-stage dirty bits (ECAP.SSADS)');
  }
  if (!hasSecondStage(caps) && !wantsFirstStage(caps, flags, true)) {
    throw unsupported('second-stage', 'these flags need second-stage tables (ECAP.SSTS=0)');
  }
};

const unsupported = (rule: string, message: string, details = {}) =>
  refuse('EOPNOTSUPP', OP, rule, message, details);
