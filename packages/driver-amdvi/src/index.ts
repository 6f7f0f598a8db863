/**
 * AMD-Vi: hardware model, host half, and the driver that joins them.
 * @module
 */
export { AmdviIommuUnit, type AmdviOptions, amdvi } from './amdvi.ts';
export * from './hardware/index.ts';
export * from './spec/index.ts';
export * from './uapi.ts';
