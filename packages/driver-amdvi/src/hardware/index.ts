/**
 * The silicon: an AMD IOMMU that software programs through registers and memory.
 * @module
 */
export type { CacheOptions, CachesSnapshot } from './caches.ts';
export {
  type AmdviCapabilities,
  DEFAULT_EFR,
  DEFAULT_EFR2,
  type Features,
  FULL_EFR,
  FULL_EFR2,
} from './capabilities.ts';
export {
  type ExplainRequest,
  type ExplainStep,
  type Explanation,
  formatExplanation,
} from './explain.ts';
export { AmdviHardware, createAmdviHardware } from './iommu.ts';
export type { HardwareMemory, HardwareRegion } from './memory.ts';
export type { AmdviHardwareOptions, AmdviSnapshot, AmdviStats } from './options.ts';
export type { Sanitizer } from './sanitizer.ts';
export type { SanitizerFinding, StructureChange } from './sanitizer-findings.ts';
