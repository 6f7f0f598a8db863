/**
 * The silicon: a VT-d unit that software programs through registers and memory.
 * @module
 */
export {
  type Features,
  featuresOf,
  LEGACY_PROFILE,
  RECOMMENDED,
  type VtdCapabilities,
  type VtdCapabilityFields,
  type VtdCapabilityRegisters,
} from './capabilities.ts';
export type { ExplainRequest, ExplainStep, Explanation } from './explain.ts';
export { formatExplanation } from './explain-text.ts';
export type { FaultDetails } from './fault-recording.ts';
export type { InterruptTable } from './interrupt-remapping.ts';
export { createVtdHardware, VtdHardware } from './iommu.ts';
export type { HardwareMemory, HardwareRegion } from './memory.ts';
export type {
  VtdCompatibility,
  VtdHardwareOptions,
  VtdSnapshot,
  VtdStats,
} from './options.ts';
export { BLOCKED_SILENTLY, INTERRUPT_REQUEST } from './request-parts.ts';
export type { Sanitizer } from './sanitizer.ts';
export type { SanitizerFinding, StructureChange } from './sanitizer-findings.ts';
export { type PasidAllocator, VIRTUAL_COMMAND, VIRTUAL_COMMAND_STATUS } from './virtual-command.ts';
