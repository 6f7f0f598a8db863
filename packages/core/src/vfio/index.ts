export { openVfioCdev } from './vfio-cdev.ts';
export { VfioDevice, type VfioDeviceInfo, type VfioDeviceOptions } from './vfio-device.ts';
export { addToVfioGroup, openVfioGroup, VfioGroup } from './vfio-group.ts';
