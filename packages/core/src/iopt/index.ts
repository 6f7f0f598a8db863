export {
  type AccessRwOptions,
  accessRw,
  addAccess,
  type IoptAccess,
  pinAccess,
  removeAccess,
  unpinAccess,
} from './access.ts';
export { isU64Max, type U64 } from './address.ts';
export { setLargePages } from './alignment.ts';
export type { DomainEntry } from './area-filler.ts';
export { changeProcess } from './change-process.ts';
export type { IoptDependent } from './dependents.ts';
export { reserveDeviceRegions, type SwMsiWindow } from './device-regions.ts';
export type { IoptDomain } from './domain-fill.ts';
export { addDomain, removeDomain } from './domain-list.ts';
export { IoPagetable } from './io-pagetable.ts';
export {
  IOPT_PROT,
  isUnmapAll,
  type MapFileOptions,
  type MapOptions,
  type MapUserOptions,
  type PagesSlice,
} from './mapping.ts';
export type { IoptPages } from './pages.ts';
export { isRevokedAt, type PhysicalRun, physicalRun } from './physical.ts';
export { PinContext } from './pins.ts';
export {
  AllowedListBuilder,
  AllowedRanges,
  type IovaRange,
  type ReservedRange,
} from './reserved.ts';
export { cutAreas } from './split.ts';
