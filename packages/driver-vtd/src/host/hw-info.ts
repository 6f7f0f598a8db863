import { type HwInfo, refuse } from '@iommukit/core';
import type { Capabilities } from './capabilities.ts';
import type { DeviceState } from './device-state.ts';

/** `IOMMU_HW_INFO_TYPE_INTEL_VTD`. */
export const HW_INFO_TYPE_INTEL_VTD = 1;

/** `struct iommu_hw_info_vtd`. */
const INFO = { BYTES: 24, FLAGS: 0, CAP: 8, ECAP: 16 } as const;
/** `IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17`: nest parents must be writable. */
const ERRATA_772415_SPR17 = 1;

/** `enum iommufd_hw_capabilities`. */
const HW_CAP = {
  DIRTY_TRACKING: 1,
  PCI_PASID_EXEC: 2,
  PCI_PASID_PRIV: 4,
  PCI_ATS_NOT_SUPPORTED: 8,
} as const;

/**
 * `IOMMU_GET_HW_INFO`: the capability registers as they are.
 *
 * @param erratum772415 set the erratum flag, as Linux 7.3 does on every unit
 * @throws {IommuError} EOPNOTSUPP for a type that is neither 0 nor VT-d's
 * @linux drivers/iommu/intel/iommu.c (intel_iommu_hw_info)
 */
export const hwInfo = (caps: Capabilities, type: number, erratum772415: boolean): HwInfo => {
  if (type !== 0 && type !== HW_INFO_TYPE_INTEL_VTD) {
    throw refuse(
      'EOPNOTSUPP',
      'IOMMU_GET_HW_INFO',
      'hw-info-type',
      `hardware information of type ${type} is not what a VT-d unit has`,
      { value: type, accepted: '0 or IOMMU_HW_INFO_TYPE_INTEL_VTD (1)' },
    );
  }
  const data = new Uint8Array(INFO.BYTES);
  const view = new DataView(data.buffer);
  view.setUint32(INFO.FLAGS, erratum772415 ? ERRATA_772415_SPR17 : 0, true);
  for (let half = 0; half < 2; half++) {
    view.setUint32(INFO.CAP + half * 4, caps.capWords[half] as number, true);
    view.setUint32(INFO.ECAP + half * 4, caps.ecapWords[half] as number, true);
  }
  return { type: HW_INFO_TYPE_INTEL_VTD, data };
};

/**
 * Generic capability bits of a device. The PASID permission bits tell what unit and PASID entry
 * allow: execute requests left the architecture in 4.1, privileged ones need ECAP.SRS.
 */
export const hwCapabilities = (caps: Capabilities, device: DeviceState): number =>
  (caps.dirtyTracking ? HW_CAP.DIRTY_TRACKING : 0) |
  (device.pasidBits > 0 && caps.ecap.SRS === 1 ? HW_CAP.PCI_PASID_PRIV : 0) |
  (device.ats ? 0 : HW_CAP.PCI_ATS_NOT_SUPPORTED);
