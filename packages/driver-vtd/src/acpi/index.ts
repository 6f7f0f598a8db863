/**
 * The ACPI DMAR table: how firmware tells an operating system which remapping units there are and
 * which devices they serve.
 * @module
 */
export { type Andd, DMAR_ANDD } from './andd.ts';
export { type Atsr, DMAR_ATSR } from './atsr.ts';
export { checkDmar } from './check-dmar.ts';
export {
  DEVICE_SCOPE,
  type DeviceScope,
  formatScopePath,
  type PathHop,
  SCOPE_TYPE,
  SIDP_SCOPE_FLAG,
} from './device-scope.ts';
export { DMAR_DRHD, type Drhd } from './drhd.ts';
export { DMAR_HEADER, type DmarHeader } from './header.ts';
export {
  type DmarMachine,
  type DmarMachineOptions,
  type DmarUnit,
  machineFromDmar,
} from './machine-from-dmar.ts';
export type { UnresolvedScope } from './named-devices.ts';
export type { PciBridge } from './pci-topology.ts';
export { type DmarProblem, formatDmarProblem } from './problems.ts';
export { type DmarReading, readDmar } from './read-dmar.ts';
export { DMAR_RHSA, type Rhsa } from './rhsa.ts';
export { DMAR_RMRR, type Rmrr } from './rmrr.ts';
export { DMAR_SATC, type Satc } from './satc.ts';
export { DMAR_SIDP, type Sidp } from './sidp.ts';
export type { DmarStructure, DmarTable, RawStructure } from './structures.ts';
export { completeDmar, type DmarDescription, writeDmar } from './write-dmar.ts';
