/**
 * Intel VT-d: hardware model, host half, and the driver that joins them.
 * @module
 */
export * from './acpi/index.ts';
export { WithoutTranslatedPasid } from './device-facing.ts';
export * from './hardware/index.ts';
export type { ReservedMemory } from './host/reserved-regions.ts';
export * from './spec/index.ts';
export * from './uapi.ts';
export { VtdIommuUnit, type VtdOptions, vtd } from './vtd.ts';
