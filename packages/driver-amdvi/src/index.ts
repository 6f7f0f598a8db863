/**
 * AMD-Vi: hardware model, host half, and the driver that joins them.
 * @module
 */
export * from './acpi/index.ts';
export { AmdviIommuUnit, type AmdviOptions, amdvi } from './amdvi.ts';
export * from './hardware/index.ts';
export type { UnityMap } from './host/reserved-regions.ts';
export * from './spec/index.ts';
export * from './uapi.ts';
