import { type ReservedRegion, refuse } from '@iommukit/core';

/** Memory that firmware reserved for some devices, which use it from boot on (IORT, RMR node). */
export interface ReservedMemory {
  /** First byte address, a multiple of 4096. */
  readonly start: number;
  /** Last byte address, inclusive, at the end of a page. */
  readonly last: number;
  /** RIDs of the devices that use it. */
  readonly rids: readonly number[];
  /** It may be remapped by a driver that takes over (RMR flag bit 0). */
  readonly relaxable?: boolean;
}

/** Where an owner may put its interrupt controller's page. */
const SW_MSI_WINDOW: ReservedRegion = { start: 0x800_0000, last: 0x80f_ffff, kind: 'sw-msi' };

/**
 * Check RMRs once.
 *
 * @throws {IommuError} EINVAL for a range that is empty or not made of whole pages
 */
export const checkReservedMemory = (regions: readonly ReservedMemory[]): void => {
  for (const { start, last } of regions) {
    if (start >= 0 && last > start && start % 4096 === 0 && last % 4096 === 4095) continue;
    throw refuse('EINVAL', 'smmuv3', 'rmr-range', 'a reserved memory region is not made of pages', {
      range: { start, last },
      accepted: 'start a multiple of 4096, last one below a multiple of 4096',
    });
  }
};

/** Whether a device uses reserved memory already, before any driver attaches it. */
export const usesReservedMemory = (regions: readonly ReservedMemory[], rid: number): boolean =>
  regions.some(({ rids }) => rids.includes(rid));

/**
 * IOVA windows that a device cannot have mapped freely.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_get_resv_regions)
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
  return [SW_MSI_WINDOW, ...own];
};
