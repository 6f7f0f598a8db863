/**
 * The silicon: an AMD IOMMU that software programs through registers and memory.
 * @module
 */
export type { CacheOptions } from './caches.ts';
export {
  type AmdviCapabilities,
  DEFAULT_EFR,
  DEFAULT_EFR2,
  type Features,
} from './capabilities.ts';
export { AmdviHardware, type AmdviHardwareOptions, createAmdviHardware } from './iommu.ts';
export type { HardwareMemory, HardwareRegion } from './memory.ts';
