import { type IommuUnit, type PagingRequest, refuse } from '@iommukit/core';
import type { PageTablePool } from '@iommukit/pgtable-fast';
import { SmmuPagingDomain } from './domain.ts';
import { HWPT_ALLOC } from './hwpt-flags.ts';
import type { UnitContext } from './unit-context.ts';

const OP = 'IOMMU_HWPT_ALLOC';
const { NEST_PARENT, DIRTY_TRACKING, PASID } = HWPT_ALLOC;

/** Sums of flags that Linux takes. */
const ACCEPTED: ReadonlySet<number> = new Set([
  0,
  PASID,
  NEST_PARENT,
  DIRTY_TRACKING,
  DIRTY_TRACKING | PASID,
]);

/**
 * Make a paging domain. Without flags it is stage 1 where the unit has one; a nest parent is stage
 * 2; PASIDs and dirty tracking need stage 1.
 *
 * @throws {IommuError} EOPNOTSUPP for vendor data, other sums of flags, and what the unit lacks;
 *   ENOMEM; ENOSPC without a VMID, EBUSY without an ASID
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_domain_alloc_paging_flags)
 */
export const allocPaging = (
  unit: IommuUnit,
  context: UnitContext,
  pool: PageTablePool,
  request: PagingRequest,
): SmmuPagingDomain => {
  checkRequest(context, request);
  const { caps } = context;
  const { flags, smallPagesOnly } = request;
  const nestParent = (flags & NEST_PARENT) !== 0;
  return new SmmuPagingDomain(unit, context, pool, {
    shape: {
      stage: nestParent || !caps.stage1 ? 2 : 1,
      smallPagesOnly: smallPagesOnly ?? false,
      dirtyTracking: (flags & DIRTY_TRACKING) !== 0,
      forcedWriteBack: nestParent && caps.forcedWriteBack,
    },
    nestParent,
    pasidCompatible: (flags & PASID) !== 0,
  });
};

const checkRequest = ({ caps, name }: UnitContext, { flags, userData }: PagingRequest): void => {
  if (userData) {
    throw unsupported('hwpt-data', 'an SMMUv3 paging HWPT takes no vendor data', {
      value: userData.type,
      accepted: 'data_type IOMMU_HWPT_DATA_NONE',
    });
  }
  if (!ACCEPTED.has(flags)) {
    throw unsupported('hwpt-flags', 'these IOMMU_HWPT_ALLOC_* flags do not go together here', {
      value: flags,
      accepted: '0, NEST_PARENT (1), DIRTY_TRACKING (2), PASID (8), or the last two together',
    });
  }
  if ((flags & NEST_PARENT) !== 0 && !(caps.stage1 && caps.stage2)) {
    throw unsupported('nest-parent', `${name} does not nest: it has one stage`, { value: flags });
  }
  if ((flags & (PASID | DIRTY_TRACKING)) !== 0 && !caps.stage1) {
    throw unsupported('stage-1', `PASIDs and dirty tracking need stage 1 (IDR0.S1P)`, {
      value: flags,
    });
  }
  if ((flags & DIRTY_TRACKING) !== 0 && !caps.dirtyTracking) {
    throw unsupported('dirty-tracking', `${name} keeps no dirty state (IDR0.HTTU, COHACC)`, {
      value: flags,
    });
  }
};

const unsupported = (rule: string, message: string, details: object) =>
  refuse('EOPNOTSUPP', OP, rule, message, details);
