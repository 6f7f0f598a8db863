export { Access, type AccessOptions } from './access.ts';
export { changePageTable, detachDevice } from './attach.ts';
export { Call } from './call.ts';
export type { CoherencyPolicy } from './coherency.ts';
export { IommufdContext, type IommufdOptions, openIommufd } from './context.ts';
export { type BusDevice, bindDevice, IommufdDevice, unbindDevice } from './device.ts';
export {
  FaultQueue,
  PAGE_RESPONSE_BYTES,
  PGFAULT_BYTES,
  type PgfaultRecord,
} from './fault-queue.ts';
export { isClaimed } from './group.ts';
export { type Hwpt, HwptNested, HwptPaging } from './hwpt.ts';
export { Ioas } from './ioas.ts';
export type { IommufdObject, ObjectKind } from './objects.ts';
export type { IoctlExtension } from './raw-ioctl.ts';
export { type Vevent, Veventq } from './veventq.ts';
export { compatIoasFor } from './vfio-compat.ts';
export { Viommu } from './viommu.ts';
