/**
 * I/O page tables of every format, bit-exact, in WebAssembly memory; walkers for tables anywhere; a
 * software IOTLB. Numbers of frames at the interface, negative errno results, no bigint.
 * @module
 */
export type { EngineBuild } from './engine/engine.ts';
export { ERRNO } from './errno.ts';
export { type AmdV1Options, amdV1 } from './formats/amd-v1.ts';
export { AMD_V1_PDE, AMD_V1_PTE } from './formats/amd-v1-layout.ts';
export {
  type ArmStage1Options,
  type ArmStage2Options,
  armStage1,
  armStage2,
} from './formats/arm.ts';
export { ARM_S1_LEAF, ARM_S2_LEAF, ARM_TABLE } from './formats/arm-layout.ts';
export type { PageTableFormat } from './formats/format.ts';
export { type MockFormatOptions, mockFormat } from './formats/mock.ts';
export { type VtdSecondStageOptions, vtdSecondStage } from './formats/vtd-ss.ts';
export { SS_PDE_2M, SS_PDPE_1G, SS_PTE, SS_TABLE } from './formats/vtd-ss-layout.ts';
export { type X86FirstStageOptions, x86FirstStage } from './formats/x86-64.ts';
export { FS_PDE_2M, FS_PDPE_1G, FS_PTE, FS_TABLE } from './formats/x86-64-layout.ts';
export * from './iotlb/index.ts';
export {
  attachPool,
  createPool,
  type GrowListener,
  type PageTablePool,
  type PoolHandle,
  type PoolOptions,
  type PoolStats,
} from './pool/pool.ts';
export { createPoolIn, type HostPhysicalMemory } from './pool/pool-in-memory.ts';
export type { PoolRegion, ShardState } from './pool/shard.ts';
export { attachTable, createTable, type TableHandle, tableHandle } from './table/create-table.ts';
export {
  DIRTY,
  type LeafRecord,
  type PageTable,
  PROT,
  type TableStats,
} from './table/page-table.ts';
export { createWalkTrace, WALK, type WalkTrace } from './walk/walk-trace.ts';
export {
  createWalker,
  type TableTranslation,
  type Walker,
  type WalkMemory,
} from './walk/walker.ts';
