export { VM_PROT, ZERO_PAGE } from './address-space.ts';
export { FramePool, HUGE_PAGES } from './frame-pool.ts';
export { FrameRuns } from './frame-runs.ts';
export {
  MemoryFile,
  type MemoryFileOptions,
  type PinnableFile,
  SEAL,
  UNPINNABLE_FILE,
} from './memory-file.ts';
export type { PageFrames } from './page-frames.ts';
export {
  type BackedRegion,
  type BackedRegionOptions,
  type MemoryRegion,
  PAGE_BYTES,
  PhysicalMemory,
  type RegionOptions,
} from './physical-memory.ts';
export { ACCOUNT, type AccountMode, chargePinned, type UserAccount } from './user-account.ts';
export {
  type Capability,
  createProcess,
  MAP_FLAG,
  type MmapOptions,
  Process,
  type ProcessOptions,
} from './user-memory.ts';
