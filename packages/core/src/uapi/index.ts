export * from './constants.ts';
export {
  exitProcess,
  type FileMapping,
  type FileOperations,
  FileTable,
  filesOf,
  forkProcess,
  installFile,
  memoryFileOperations,
  OpenFile,
  POLL,
  sysIoctl,
  sysMmap,
  sysPoll,
  sysRead,
  sysSeek,
  sysWrite,
} from './files.ts';
export type { FieldKind, FieldRole, FieldSpec, StructSpec, UserPointer } from './struct-table.ts';
export {
  IOMMU_STRUCTS,
  type IommuCommand,
  type IommuCommandName,
  type IommuInput,
  type IommuOutput,
} from './structs.ts';
export { copyFromUser, copyToUser } from './user-access.ts';
