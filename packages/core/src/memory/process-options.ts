/**
 * What a modelled process is made with, and what its `mmap` takes.
 * @module
 */
import type { VM_PROT } from './address-space.ts';
import type { MemoryFile } from './memory-file.ts';

/** `mmap` flag bits. @linux include/uapi/asm-generic/mman-common.h MAP_* (x86-64 values) */
export const MAP_FLAG = {
  SHARED: 1,
  PRIVATE: 2,
  FIXED: 0x10,
  ANONYMOUS: 0x20,
  HUGETLB: 0x4_0000,
  FIXED_NOREPLACE: 0x10_0000,
} as const;

/** Capabilities that the IOMMU interfaces ask for. */
export type Capability = 'CAP_IPC_LOCK' | 'CAP_SYS_RESOURCE' | 'CAP_SYS_RAWIO';

/** Who a process is. */
export interface ProcessOptions {
  /** User id; default 0. */
  readonly uid?: number;
  /** Default: all for uid 0, none otherwise. */
  readonly capabilities?: ReadonlySet<Capability>;
  /** RLIMIT_MEMLOCK in bytes; default 8 MiB, as Linux starts with. */
  readonly rlimitMemlockBytes?: number;
}

/** What `mmap` takes. */
export interface MmapOptions {
  /** Byte address, page aligned; absent = the highest free place. */
  readonly addr?: number | bigint;
  /** Bytes; rounded up to pages. */
  readonly length: number;
  /** Sum of {@link VM_PROT} bits; default READ and WRITE. */
  readonly prot?: number;
  /** Sum of {@link MAP_FLAG} bits; default PRIVATE and ANONYMOUS. */
  readonly flags?: number;
  readonly file?: MemoryFile;
  /** Byte offset in the file, page aligned. */
  readonly offset?: number;
}
