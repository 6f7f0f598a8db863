export {
  VFIO_DEVICE_FLAG,
  VFIO_IRQ_FLAG,
  VFIO_REGION_FLAG,
  type VfioCapability,
  type VfioDeviceInfo,
  type VfioIrq,
  type VfioRegion,
} from './device-info.ts';
export { openVfioCdev } from './vfio-cdev.ts';
export { VfioDevice, type VfioDeviceOptions } from './vfio-device.ts';
export { addToVfioGroup, openVfioGroup, VfioGroup } from './vfio-group.ts';
