import { defineLayout, encode, flag, uint } from '@iommukit/bits';

/**
 * The VT-d structs of the iommufd uAPI, as user space hands them over.
 *
 * @linux include/uapi/linux/iommufd.h
 */

/** `struct iommu_hwpt_vtd_s1`: a guest's first-stage table. */
export const HWPT_VTD_S1 = defineLayout({
  name: 'HWPT_VTD_S1',
  bits: 192,
  spec: 'Linux uapi iommufd.h, struct iommu_hwpt_vtd_s1',
  doc: 'vendor data of a nested HWPT',
  fields: {
    SRE: flag(0, 'supervisor requests allowed'),
    EAFE: flag(1, 'extended accessed flag'),
    WPE: flag(2, 'write protection holds for supervisor requests'),
    pgtbl_addr: uint(127, 64, 'guest physical address of the top table'),
    addr_width: uint(159, 128, 'bits of a guest virtual address: 48 or 57'),
  },
});

/** `struct iommu_hwpt_vtd_s1_invalidate`: a range whose cached translations go. */
export const HWPT_VTD_S1_INVALIDATE = defineLayout({
  name: 'HWPT_VTD_S1_INVALIDATE',
  bits: 192,
  spec: 'Linux uapi iommufd.h, struct iommu_hwpt_vtd_s1_invalidate',
  doc: 'one entry of IOMMU_HWPT_INVALIDATE',
  fields: {
    addr: uint(63, 0, 'first byte, 4 KiB aligned'),
    npages: uint(127, 64, '4 KiB pages; all ones with addr 0 = everything'),
    LEAF: flag(128, 'only leaf entries have changed'),
  },
});

/** A first stage for {@link encodeHwptVtdS1}. */
export interface HwptVtdS1 {
  /** Guest physical byte address of the top table, 4 KiB aligned. */
  readonly pgtblAddr: number | bigint;
  /** 48 (4 levels) or 57 (5 levels). */
  readonly addrWidth: number;
  readonly sre?: boolean;
  readonly eafe?: boolean;
  readonly wpe?: boolean;
}

const bytesOf = (words: Uint32Array): Uint8Array =>
  new Uint8Array(words.buffer, words.byteOffset, words.byteLength);

const bit = (value: boolean | undefined): number => (value ? 1 : 0);

/**
 * `data` of `IOMMU_HWPT_ALLOC` with `IOMMU_HWPT_DATA_VTD_S1`.
 *
 * @returns 24 bytes
 * @throws {RangeError} when a value does not fit its field
 */
export const encodeHwptVtdS1 = ({ pgtblAddr, addrWidth, sre, eafe, wpe }: HwptVtdS1): Uint8Array =>
  bytesOf(
    encode(HWPT_VTD_S1, {
      SRE: bit(sre),
      EAFE: bit(eafe),
      WPE: bit(wpe),
      pgtbl_addr: pgtblAddr,
      addr_width: addrWidth,
    }),
  );

/** A range for {@link encodeHwptVtdS1Invalidate}. */
export interface HwptVtdS1Invalidate {
  /** First byte of the guest virtual range, 4 KiB aligned. */
  readonly addr: number | bigint;
  /** 4 KiB pages; `2n ** 64n - 1n` with `addr` 0 = everything. */
  readonly npages: number | bigint;
  readonly leaf?: boolean;
}

/**
 * `data` of `IOMMU_HWPT_INVALIDATE` with `IOMMU_HWPT_INVALIDATE_DATA_VTD_S1`.
 *
 * @returns 24 bytes an entry
 * @throws {RangeError} when a value does not fit its field
 */
export const encodeHwptVtdS1Invalidate = (entries: readonly HwptVtdS1Invalidate[]): Uint8Array => {
  const bytes = new Uint8Array(entries.length * 24);
  entries.forEach(({ addr, npages, leaf }, index) => {
    bytes.set(
      bytesOf(encode(HWPT_VTD_S1_INVALIDATE, { addr, npages, LEAF: bit(leaf) })),
      index * 24,
    );
  });
  return bytes;
};
