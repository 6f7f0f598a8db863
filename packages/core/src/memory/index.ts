export { VM_PROT, ZERO_PAGE } from './address-space.ts';
export {
  type AllocationHook,
  allocationRefusal,
  checkAllocation,
  failsAllocation,
} from './allocation.ts';
export { FramePool, HUGE_PAGES } from './frame-pool.ts';
export { FrameRuns } from './frame-runs.ts';
export {
  type DmabufImporter,
  MemoryFile,
  type MemoryFileOptions,
  type PinnableFile,
  SEAL,
  UNPINNABLE_FILE,
} from './memory-file.ts';
export {
  type BackedRegion,
  type BackedRegionOptions,
  type MemoryRegion,
  PAGE_BYTES,
  type RegionOptions,
} from './memory-region.ts';
export type { PageFrames } from './page-frames.ts';
export { PhysicalMemory } from './physical-memory.ts';
export {
  type Capability,
  MAP_FLAG,
  type MmapOptions,
  type ProcessOptions,
} from './process-options.ts';
export { ACCOUNT, type AccountMode, chargePinned, type UserAccount } from './user-account.ts';
export { createProcess, Process } from './user-memory.ts';
