/**
 * Shapes of the host's page tables. The granule is 4 KiB, the page size of the machine.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_domain_finalise)
 */
import { armStage1, armStage2, type PageTableFormat } from '@iommukit/pgtable-fast';
import type { Capabilities } from './capabilities.ts';

const PAGE_BYTES = 4096;
const PAGE_LG2 = 12;

/** What a table of the host is made with. */
export interface TableShape {
  readonly stage: 1 | 2;
  /** Only 4 KiB leaves. */
  readonly smallPagesOnly: boolean;
  /** Writable leaves say whether they were written (stage 1). */
  readonly dirtyTracking: boolean;
  /** Leaves force write-back memory (stage 2, IDR3.FWB). */
  readonly forcedWriteBack: boolean;
}

/** The format of a table of that shape on a unit. */
export const formatOf = (caps: Capabilities, shape: TableShape): PageTableFormat => {
  const { oaBits, vaBits, ipaBits } = caps;
  const common = {
    granule: PAGE_BYTES,
    oaBits,
    ...(shape.smallPagesOnly && { pageSizesLg2: [PAGE_LG2] }),
  };
  return shape.stage === 1
    ? armStage1({ ...common, iovaBits: vaBits, dirtyTracking: shape.dirtyTracking })
    : armStage2({ ...common, iovaBits: ipaBits, fwb: shape.forcedWriteBack });
};

/** Shape of the table that a domain without flags gets: stage 1 where there is one. */
export const defaultShape = ({ stage1 }: Capabilities): TableShape => ({
  stage: stage1 ? 1 : 2,
  smallPagesOnly: false,
  dirtyTracking: false,
  forcedWriteBack: false,
});
