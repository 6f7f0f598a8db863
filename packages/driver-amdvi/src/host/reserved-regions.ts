import { type ReservedRegion, refuse } from '@iommukit/core';
import type { Capabilities } from './capabilities.ts';

/** Memory that firmware wants mapped one to one for some devices (IVMD). */
export interface UnityMap {
  /** First byte address, a multiple of 4096. */
  readonly start: number;
  /** Last byte address, inclusive, at the end of a page. */
  readonly last: number;
  /** Devices that use it, from one RID to another, inclusive. */
  readonly firstRid: number;
  readonly lastRid: number;
}

/** Interrupt messages are not translated as memory. */
const MSI_WINDOW: ReservedRegion = { start: 0xfee0_0000, last: 0xfeef_ffff, kind: 'msi' };
/** HyperTransport's own addresses, 1012 GiB to 1 TiB. */
const HT_WINDOW: ReservedRegion = {
  start: 0xfd_0000_0000,
  last: 0xff_ffff_ffff,
  kind: 'reserved',
};

/**
 * Check unity maps once.
 *
 * @throws {IommuError} EINVAL for a range that is empty or not made of whole pages, or RIDs that
 *   are no range
 * @spec AMD IOMMU 5.2.2.3
 */
export const checkUnityMaps = (maps: readonly UnityMap[]): void => {
  for (const { start, last, firstRid, lastRid } of maps) {
    const pages = start >= 0 && last > start && start % 4096 === 0 && last % 4096 === 4095;
    if (pages && firstRid >= 0 && firstRid <= lastRid && lastRid <= 0xffff) continue;
    throw refuse('EINVAL', 'amdvi', 'unity-map', 'a unity map is no range of pages or of RIDs', {
      range: { start, last },
      accepted: 'start a multiple of 4096, last one below one; RIDs from 0 to 65535, ascending',
    });
  }
};

/**
 * IOVA windows that a device cannot have mapped freely.
 *
 * @linux drivers/iommu/amd/iommu.c (amd_iommu_get_resv_regions)
 */
export const reservedRegions = (
  caps: Capabilities,
  maps: readonly UnityMap[],
  rid: number,
): ReservedRegion[] => {
  const own = maps
    .filter(({ firstRid, lastRid }) => firstRid <= rid && rid <= lastRid)
    .map(({ start, last }): ReservedRegion => ({ start, last, kind: 'direct' }));
  return caps.htRangeIgnore ? [...own, MSI_WINDOW] : [...own, MSI_WINDOW, HT_WINDOW];
};
