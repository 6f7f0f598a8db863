/**
 * Arm SMMUv3: hardware model, host half, and the driver that joins them.
 * @module
 */
export * from './hardware/index.ts';
export type { ReservedMemory } from './host/reserved-regions.ts';
export { SmmuIommuUnit, type SmmuOptions, smmuv3 } from './smmuv3.ts';
export * from './spec/index.ts';
export {
  decodeVeventArmSmmuv3,
  encodeHwptArmSmmuv3,
  encodeViommuArmSmmuv3Invalidate,
} from './uapi.ts';
