/**
 * Numbers of the mock hardware, as the kernel's own test device has them.
 *
 * @linux drivers/iommu/iommufd/iommufd_test.h, selftest.c
 * @module
 */

/** Vendor types of the mock. */
export const MOCK_TYPE = {
  HWPT_DATA: 0xdead,
  HW_INFO: 0xfeedbeef,
  INVALIDATE: 0xdeadbeef,
  VIOMMU: 0xdeadbeef,
  VIOMMU_INVALIDATE: 0xdeadbeef,
  VEVENTQ: 0xbeefbeef,
  HW_QUEUE: 0xdeadbeef,
} as const;

/** What a mock device lacks or has. */
export const MOCK_DEVICE_FLAG = { NO_DIRTY: 1, PASID: 4 } as const;

/** PASID width of a device with {@link MOCK_DEVICE_FLAG.PASID}. */
export const MOCK_PASID_BITS = 20;

/** Kinds of tables a paging domain may ask for. */
export const MOCK_PAGE_TABLE = { DEFAULT: 0, HUGE: 1 } as const;

/** Smallest page of the default table: half a CPU page, so that nobody can assume 4 KiB. */
export const MOCK_GRANULE_LG2 = 11;
/** Smallest page of the huge table. */
export const MOCK_HUGE_GRANULE_LG2 = 12;

/** Apertures, byte addresses, last inclusive. */
export const MOCK_APERTURE = {
  DEFAULT: { start: 2 ** 24, last: 2 ** 31 - 1 },
  HUGE: { start: 0, last: 2 ** 38 - 1 },
} as const;

/** Page sizes, lg2 of bytes. */
export const MOCK_PAGE_SIZES_LG2 = Array.from({ length: 26 }, (_unused, index) => index + 11);
/** Page sizes of the huge table: 4 KiB and 1 MiB. */
export const MOCK_HUGE_PAGE_SIZES_LG2 = [12, 20];

/** Entries of a nested domain's IOTLB. */
export const MOCK_IOTLB_ENTRIES = 4;
/** Entries of a device's cache, and what they hold at first. */
export const MOCK_DEVICE_CACHE_ENTRIES = 4;
export const MOCK_DEVICE_CACHE_DEFAULT = 0xbaddad;
/** The hw_info register. */
export const MOCK_HW_INFO_REGISTER = 0xdeadbeef;
/** The only flag of invalidation entries: everything. */
export const MOCK_INVALIDATE_ALL = 1;
/** Hardware queues of a vIOMMU. */
export const MOCK_HW_QUEUES = 2;
/** Bytes a vIOMMU offers for mmap. */
export const MOCK_MMAP_BYTES = 8192;
/** The PASID whose second attach in a row fails. */
export const MOCK_FAILING_PASID = 1024;
