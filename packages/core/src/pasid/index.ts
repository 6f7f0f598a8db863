export { PasidAllocator, type PasidAllocatorOptions } from './allocator.ts';
export {
  PASID_DEVICE_TYPE,
  PASID_INFO,
  type PasidDeviceType,
  type PasidPolicy,
  pasidPolicy,
} from './device-types.ts';
export {
  ENQCMD_INITIAL,
  type EnqcmdOutcome,
  type EnqcmdState,
  enqcmdMap,
  enqcmdSubmit,
  enqcmdUnmap,
  isTranslating,
} from './enqcmd-gate.ts';
export { HostPasids, type HostPasidsOptions } from './host-pasids.ts';
export {
  type GuestPasidState,
  GuestPasids,
  type PasidDevice,
  type PasidMapping,
} from './policy.ts';
export { DevicePasids } from './request-pasid.ts';
