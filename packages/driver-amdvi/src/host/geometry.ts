import { amdV1, type PageTableFormat, x86FirstStage } from '@iommukit/pgtable-fast';
import type { Capabilities } from './capabilities.ts';

/** Shape of a domain's table. */
export interface Geometry {
  /** Guest (v2) tables; false = host (v1) tables. */
  readonly guest: boolean;
  readonly format: PageTableFormat;
  /** Width of its IOVAs, bits. */
  readonly iovaBits: number;
}

const START_LEVELS = 3;
const SMALLEST = [12] as const;

/**
 * Host tables: pages of every power of two, a top that grows as far as the unit walks.
 *
 * @linux drivers/iommu/amd/iommu.c (amd_iommu_domain_alloc_paging_v1)
 */
export const hostGeometry = (caps: Capabilities, smallOnly: boolean): Geometry => ({
  guest: false,
  iovaBits: caps.iovaBits,
  format: amdV1({
    levels: START_LEVELS,
    maxLevels: caps.hostLevels,
    oaBits: caps.hostAddressBits,
    ...(smallOnly && { pageSizesLg2: SMALLEST }),
  }),
});

/**
 * Guest tables without their upper half: with a PASID addresses are sign-extended, through GCR3
 * entry 0 they are not, and one table serves both.
 *
 * @linux drivers/iommu/amd/iommu.c (amd_iommu_domain_alloc_paging_v2)
 */
export const guestGeometry = (caps: Capabilities, smallOnly: boolean): Geometry => ({
  guest: true,
  iovaBits: 12 + 9 * caps.guestLevels - 1,
  format: x86FirstStage({
    levels: caps.guestLevels,
    signExtend: false,
    oaBits: caps.hostAddressBits,
    ...(smallOnly && { pageSizesLg2: SMALLEST }),
  }),
});
