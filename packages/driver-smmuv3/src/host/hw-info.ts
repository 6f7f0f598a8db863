import { HW_CAP, type HwInfo, refuse } from '@iommukit/core';
import type { Capabilities } from './capabilities.ts';
import type { DeviceState } from './device-state.ts';

/** `IOMMU_HW_INFO_TYPE_ARM_SMMUV3`. */
export const HW_INFO_TYPE_ARM_SMMUV3 = 2;

/** `struct iommu_hw_info_arm_smmuv3`. */
const INFO = { BYTES: 40, IDR: 8, IIDR: 32, AIDR: 36 } as const;

/**
 * `IOMMU_GET_HW_INFO`: the identification registers as they are.
 *
 * @throws {IommuError} EOPNOTSUPP for a type that is neither 0 nor SMMUv3's
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c (arm_smmu_hw_info)
 */
export const hwInfo = (caps: Capabilities, type: number): HwInfo => {
  if (type !== 0 && type !== HW_INFO_TYPE_ARM_SMMUV3) {
    throw refuse(
      'EOPNOTSUPP',
      'IOMMU_GET_HW_INFO',
      'hw-info-type',
      `hardware information of type ${type} is not what an SMMUv3 has`,
      { value: type, accepted: '0 or IOMMU_HW_INFO_TYPE_ARM_SMMUV3 (2)' },
    );
  }
  const data = new Uint8Array(INFO.BYTES);
  const view = new DataView(data.buffer);
  caps.idr.forEach((word, at) => {
    view.setUint32(INFO.IDR + at * 4, word, true);
  });
  view.setUint32(INFO.IIDR, caps.iidr, true);
  view.setUint32(INFO.AIDR, caps.aidr, true);
  return { type: HW_INFO_TYPE_ARM_SMMUV3, data };
};

/** Generic capability bits of a device. Requests with PASID carry execute and privilege. */
export const hwCapabilities = (caps: Capabilities, device: DeviceState): number =>
  (caps.dirtyTracking ? HW_CAP.DIRTY_TRACKING : 0) |
  (device.ssidBits > 0 ? HW_CAP.PCI_PASID_EXEC | HW_CAP.PCI_PASID_PRIV : 0) |
  (device.ats ? 0 : HW_CAP.PCI_ATS_NOT_SUPPORTED);
