/**
 * What mapping calls take.
 * @module
 */
import type { AccountMode, PinnableFile, Process } from '../memory/index.ts';
import { type U64, U64_MAX } from './address.ts';
import type { IoptPages } from './pages.ts';

/** Rights of a mapping. */
export const IOPT_PROT = { READ: 1, WRITE: 2 } as const;

/** What every mapping call says. */
export interface MapOptions {
  /** Who maps: source of user memory, and whom to charge. */
  readonly process: Process;
  /** Bytes, 64 bits. */
  readonly length: U64;
  /** Sum of {@link IOPT_PROT} bits. */
  readonly prot: number;
  /** Fixed IOVA; absent = choose one. */
  readonly iova?: U64 | undefined;
  /** Charge the user (default) or the process; CAP_IPC_LOCK overrides both. */
  readonly accountMode?: AccountMode;
  /** The call's name for refusals. */
  readonly op?: string;
}

/** `IOMMU_IOAS_MAP`. */
export interface MapUserOptions extends MapOptions {
  /** User byte address, 64 bits. */
  readonly userVa: U64;
}

/** `IOMMU_IOAS_MAP_FILE`. */
export interface MapFileOptions extends MapOptions {
  readonly file: PinnableFile;
  /** First byte in the file, 64 bits. */
  readonly start: U64;
}

/** A stretch of a pages object, on its way into an area. */
export interface PagesSlice {
  readonly pages: IoptPages;
  /** Page within `pages` that holds the first byte. */
  readonly startIndex: number;
  /** Byte offset in that page. */
  readonly pageOffset: number;
  /** Length / 4096, and its remainder. */
  readonly lengthPages: number;
  readonly lengthLow: number;
}

/** `iova` 0 with length `U64_MAX` means everything in `IOMMU_IOAS_UNMAP`. */
export const isUnmapAll = (iova: U64, length: U64): boolean =>
  (iova === 0 || iova === 0n) && length === U64_MAX;
