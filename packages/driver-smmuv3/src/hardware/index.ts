/**
 * The silicon: an SMMUv3 that software programs through registers and memory.
 * @module
 */
export type { CacheOptions } from './caches.ts';
export { DEFAULT_ID, type Features, type SmmuCapabilities } from './capabilities.ts';
export { Cmdqv, type CmdqvGeometry } from './cmdqv.ts';
export {
  type ExplainRequest,
  type ExplainStep,
  type Explanation,
  formatExplanation,
} from './explain.ts';
export { INTERRUPT_LINE, type InterruptLine, type InterruptPort } from './interrupts.ts';
export { createSmmuHardware, SmmuHardware } from './iommu.ts';
export type { HardwareMemory, HardwareRegion } from './memory.ts';
export type { SmmuBus, SmmuHardwareOptions } from './options.ts';
export type { Sanitizer } from './sanitizer.ts';
export type { SanitizerFinding, StructureChange } from './sanitizer-findings.ts';
