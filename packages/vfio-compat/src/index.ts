/**
 * Legacy VFIO (container, group, device; type1 and type1v2) on iommufd objects.
 * @module
 */
export type { AttachedGroup, DmaCalls, VfioIommu, VfioIommuDriver } from './backend.ts';
export { VfioCall } from './call.ts';
export { openVfioContainer, VfioContainer, type VfioContainerOptions } from './container.ts';
export { VfioDeviceFile } from './device.ts';
export { openVfioGroup, VfioGroupFile } from './group.ts';
export { CACHE, GRANULARITY, NESTING_FEATURE, VTD_BIND_FLAG } from './nesting/liu-layouts.ts';
export type {
  BindInput,
  CacheInvalidateInput,
  NestingCalls,
  NestingInfo,
} from './nesting/nesting-calls.ts';
export {
  type NestingDialect,
  type Type1NestingOptions,
  type1Nesting,
} from './nesting/type1-nesting.ts';
export type { Type1Info } from './type1/info.ts';
export { type Type1Options, type1 } from './type1/type1-driver.ts';
export type {
  BitmapInput,
  DirtyPagesInput,
  DmaMapInput,
  DmaUnmapInput,
} from './type1/typed.ts';
export * from './uapi/constants.ts';
export type { GroupTarget } from './vfio-files.ts';
export { vfioGroupOf } from './vfio-groups.ts';
