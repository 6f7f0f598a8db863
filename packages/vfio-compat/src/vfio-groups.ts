/**
 * Devices of IOMMU groups under VFIO.
 * @module
 */
import {
  addToVfioGroup,
  type IommuGroup,
  type Machine,
  VfioDevice,
  type VfioGroup,
} from '@iommukit/core';

/**
 * The VFIO group of an IOMMU group, with every device of it on the bus under VFIO. Devices that are
 * already stay as they are.
 *
 * @throws {RangeError} when no device is in the group
 */
export const vfioGroupOf = (machine: Machine, { id, rids }: IommuGroup): VfioGroup => {
  let vfioGroup: VfioGroup | undefined;
  for (const rid of rids) {
    const endpoint = machine.endpoint(rid);
    if (!endpoint) continue;
    vfioGroup = addToVfioGroup(new VfioDevice(endpoint));
    const twins = vfioGroup.devices.filter(({ device }) => device.rid === rid);
    if (twins.length > 1) vfioGroup.devices.pop();
  }
  if (vfioGroup) return vfioGroup;
  throw new RangeError(`IOMMU group ${id} has no device on this bus`);
};
