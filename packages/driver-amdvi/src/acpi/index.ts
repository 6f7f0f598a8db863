/**
 * The ACPI IVRS table: how firmware tells an operating system which AMD IOMMUs there are and which
 * devices they serve.
 * @module
 */
export {
  type IvrsMachine,
  type IvrsMachineOptions,
  type IvrsUnit,
  machineFromIvrs,
} from './machine-from-ivrs.ts';
export { type IvrsReading, readIvrs } from './read-ivrs.ts';
export {
  IVHD,
  IVHD_ENTRY,
  IVHD_FLAG,
  IVMD,
  IVMD_FLAG,
  type Ivhd,
  type IvhdEntry,
  type Ivmd,
  type IvrsBlock,
  type IvrsProblem,
  type IvrsTable,
  type RawBlock,
  SPECIAL_VARIETY,
} from './structures.ts';
export { writeIvrs } from './write-ivrs.ts';
