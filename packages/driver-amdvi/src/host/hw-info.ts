import { type HwInfo, refuse, type UnitDevice } from '@iommukit/core';
import type { Capabilities } from './capabilities.ts';

/** `IOMMU_HW_INFO_TYPE_AMD`. */
export const HW_INFO_TYPE_AMD = 4;

/** `struct iommu_hw_info_amd`: efr at 0, efr2 at 8. */
const INFO_BYTES = 16;

/** `enum iommufd_hw_capabilities`, those of this driver. */
const HW_CAP = { DIRTY_TRACKING: 1, PCI_ATS_NOT_SUPPORTED: 8 } as const;

/**
 * `IOMMU_GET_HW_INFO`: the feature registers as they are.
 *
 * @throws {IommuError} EOPNOTSUPP for a type that is neither 0 nor AMD's
 * @linux drivers/iommu/amd/iommufd.c (amd_iommufd_hw_info)
 */
export const hwInfo = (caps: Capabilities, type: number): HwInfo => {
  if (type !== 0 && type !== HW_INFO_TYPE_AMD) {
    throw refuse(
      'EOPNOTSUPP',
      'IOMMU_GET_HW_INFO',
      'hw-info-type',
      `hardware information of type ${type} is not what an AMD unit has`,
      { value: type, accepted: '0 or IOMMU_HW_INFO_TYPE_AMD (4)' },
    );
  }
  const data = new Uint8Array(INFO_BYTES);
  const view = new DataView(data.buffer);
  caps.featureWords.forEach((word, at) => {
    view.setUint32(at * 4, word, true);
  });
  return { type: HW_INFO_TYPE_AMD, data };
};

/**
 * `IOMMU_HW_CAP_*` of a device. PASIDs are switched on without execute and privileged requests.
 *
 * @linux drivers/iommu/amd/iommu.c (amd_iommu_capable)
 */
export const hwCapabilities = (caps: Capabilities, device: UnitDevice): number =>
  (caps.dirty ? HW_CAP.DIRTY_TRACKING : 0) |
  (device.ats && caps.iotlbSup ? 0 : HW_CAP.PCI_ATS_NOT_SUPPORTED);
