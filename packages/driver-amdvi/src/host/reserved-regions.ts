import type { ReservedRegion } from '@iommukit/core';
import type { Capabilities } from './capabilities.ts';

/** Interrupt messages are not translated as memory. */
const MSI_WINDOW: ReservedRegion = { start: 0xfee0_0000, last: 0xfeef_ffff, kind: 'msi' };
/** HyperTransport's own addresses, 1012 GiB to 1 TiB. */
const HT_WINDOW: ReservedRegion = {
  start: 0xfd_0000_0000,
  last: 0xff_ffff_ffff,
  kind: 'reserved',
};

/**
 * IOVA windows that a device cannot have mapped freely.
 *
 * @linux drivers/iommu/amd/iommu.c (amd_iommu_get_resv_regions)
 */
export const reservedRegions = (caps: Capabilities): ReservedRegion[] =>
  caps.htRangeIgnore ? [MSI_WINDOW] : [MSI_WINDOW, HT_WINDOW];
