/**
 * `struct iommu_hwpt_vtd_s1_invalidate`: what a guest's invalidation entry says.
 *
 * @linux include/uapi/linux/iommufd.h, drivers/iommu/intel/nested.c
 */
import { u64 } from '@iommukit/bits';
import { refuse } from '@iommukit/core';

/** `struct iommu_hwpt_vtd_s1_invalidate`. */
const INV = { BYTES: 24, ADDR: 0, NPAGES: 8, FLAGS: 16, RESERVED: 20 } as const;
/** `IOMMU_VTD_INV_FLAGS_LEAF`. */
const INV_FLAG_LEAF = 1;

const INVALIDATE_OP = 'IOMMU_HWPT_INVALIDATE';
const U32_ALL = 0xffff_ffff;
const PAGES_OF_64_BITS = 2 ** 52;

/** Bytes of an entry. */
export const INVALIDATE_BYTES = INV.BYTES;

/** Pages that a guest wants forgotten. */
export interface UserInvalidation {
  readonly startPfn: number;
  /** Inclusive. */
  readonly lastPfn: number;
  /** The guest changed no table entry. */
  readonly leavesOnly: boolean;
}

/**
 * Read and check an entry.
 *
 * @throws {IommuError} EINVAL for a misaligned address, "all pages" from a nonzero address;
 *   EOPNOTSUPP for unknown flags or reserved bytes
 */
export const readInvalidation = (bytes: Uint8Array): UserInvalidation => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint32(INV.FLAGS, true);
  checkEntryFlags(flags, view.getUint32(INV.RESERVED, true));
  const addrLo = view.getUint32(INV.ADDR, true);
  const addrHi = view.getUint32(INV.ADDR + 4, true);
  const pagesLo = view.getUint32(INV.NPAGES, true);
  const pagesHi = view.getUint32(INV.NPAGES + 4, true);
  const everything = pagesLo === U32_ALL && pagesHi === U32_ALL;
  checkEntryRange(addrLo, addrHi, everything);
  const startPfn = addrHi * 2 ** 20 + (addrLo >>> 12);
  const pages = pagesHi * 2 ** 32 + pagesLo;
  const lastPfn = everything ? PAGES_OF_64_BITS - 1 : lastPage(startPfn, pages);
  return { startPfn, lastPfn, leavesOnly: (flags & INV_FLAG_LEAF) !== 0 };
};

/** Zero pages count as one, and a range beyond 64 bits ends there. */
const lastPage = (startPfn: number, pages: number): number =>
  Math.min(startPfn + Math.max(pages, 1) - 1, PAGES_OF_64_BITS - 1);

const checkEntryFlags = (flags: number, reserved: number): void => {
  if ((flags & ~INV_FLAG_LEAF) === 0 && reserved === 0) return;
  throw refuse(
    'EOPNOTSUPP',
    INVALIDATE_OP,
    'invalidate-flags',
    'an invalidation entry takes no flag but LEAF, and its reserved bytes must be zero',
    { value: flags, accepted: '0 or IOMMU_VTD_INV_FLAGS_LEAF (1)' },
  );
};

const checkEntryRange = (addrLo: number, addrHi: number, everything: boolean): void => {
  const misaligned = (addrLo & 0xfff) !== 0;
  if (!misaligned && !(everything && (addrLo !== 0 || addrHi !== 0))) return;
  throw refuse(
    'EINVAL',
    INVALIDATE_OP,
    misaligned ? 'invalidate-alignment' : 'invalidate-everything',
    misaligned
      ? 'the address of an invalidation entry must be a multiple of 4096'
      : 'all pages (npages = 2^64 - 1) must start at address 0',
    { value: u64(addrLo, addrHi) },
  );
};
