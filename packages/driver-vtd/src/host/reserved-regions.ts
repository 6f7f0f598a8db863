import { type ReservedRegion, refuse } from '@iommukit/core';

/** A reserved memory region that firmware announces for some devices (RMRR). */
export interface ReservedMemory {
  /** First byte address, a multiple of 4096. */
  readonly start: number;
  /** Last byte address, inclusive, at the end of a page. */
  readonly last: number;
  /** RIDs of the devices that use it. */
  readonly rids: readonly number[];
  /** Only boot code needs it (USB, graphics): a driver that takes over may drop it. */
  readonly relaxable?: boolean;
}

/** The interrupt window: writes without PASID to it are messages, never translated. */
const MSI_WINDOW: ReservedRegion = { start: 0xfee0_0000, last: 0xfeef_ffff, kind: 'msi' };

/**
 * Check RMRRs once.
 *
 * @throws {IommuError} EINVAL for a range that is empty or not made of whole pages
 * @spec VT-d 8.4
 */
export const checkReservedMemory = (regions: readonly ReservedMemory[]): void => {
  for (const { start, last } of regions) {
    if (start >= 0 && last > start && start % 4096 === 0 && last % 4096 === 4095) continue;
    throw refuse('EINVAL', 'vtd', 'rmrr-range', 'a reserved memory region is not made of pages', {
      range: { start, last },
      accepted: 'start a multiple of 4096, last one below a multiple of 4096',
    });
  }
};

/**
 * IOVA windows that a device cannot have mapped freely.
 *
 * @spec VT-d 3.14, 8.4
 * @linux drivers/iommu/intel/iommu.c (intel_iommu_get_resv_regions)
 */
export const reservedRegions = (
  regions: readonly ReservedMemory[],
  rid: number,
): ReservedRegion[] => {
  const own = regions
    .filter(({ rids }) => rids.includes(rid))
    .map(
      ({ start, last, relaxable }): ReservedRegion => ({
        start,
        last,
        kind: relaxable ? 'relaxable' : 'direct',
      }),
    );
  return [...own, MSI_WINDOW];
};
