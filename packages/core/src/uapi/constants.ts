/**
 * Flags and enumerations of the iommufd uAPI, by the C names without their common prefix.
 *
 * @linux include/uapi/linux/iommufd.h
 * @module
 */

/** `IOMMU_IOAS_MAP_*`, also used by COPY and MAP_FILE. */
export const IOAS_MAP = { FIXED_IOVA: 1, WRITEABLE: 2, READABLE: 4 } as const;

/** `IOMMU_OPTION_*`. */
export const OPTION = { RLIMIT_MODE: 0, HUGE_PAGES: 1 } as const;

/** `IOMMU_OPTION_OP_*`. */
export const OPTION_OP = { SET: 0, GET: 1 } as const;

/** `IOMMU_VFIO_IOAS_*`. */
export const VFIO_IOAS_OP = { GET: 0, SET: 1, CLEAR: 2 } as const;

/** `IOMMU_HWPT_ALLOC_*`. */
export const HWPT_ALLOC = {
  NEST_PARENT: 1,
  DIRTY_TRACKING: 2,
  FAULT_ID_VALID: 4,
  PASID: 8,
} as const;

/** `IOMMU_HWPT_DATA_*`. */
export const HWPT_DATA = { NONE: 0, VTD_S1: 1, ARM_SMMUV3: 2, AMD_GUEST: 3 } as const;

/** `IOMMU_HW_INFO_TYPE_*`. */
export const HW_INFO_TYPE = {
  NONE: 0,
  INTEL_VTD: 1,
  ARM_SMMUV3: 2,
  TEGRA241_CMDQV: 3,
  AMD: 4,
} as const;

/** `IOMMU_HW_INFO_FLAG_*`. */
export const HW_INFO_FLAG = { INPUT_TYPE: 1 } as const;

/** `IOMMU_HW_CAP_*`. */
export const HW_CAP = {
  DIRTY_TRACKING: 1,
  PCI_PASID_EXEC: 2,
  PCI_PASID_PRIV: 4,
  PCI_ATS_NOT_SUPPORTED: 8,
} as const;

/** `IOMMU_HWPT_DIRTY_TRACKING_*`. */
export const DIRTY_TRACKING = { ENABLE: 1 } as const;

/** `IOMMU_HWPT_GET_DIRTY_BITMAP_*`. */
export const GET_DIRTY_BITMAP = { NO_CLEAR: 1 } as const;

/** `IOMMU_PGFAULT_FLAGS_*`. */
export const PGFAULT_FLAG = { PASID_VALID: 1, LAST_PAGE: 2 } as const;

/** `IOMMU_PGFAULT_PERM_*`. */
export const PGFAULT_PERM = { READ: 1, WRITE: 2, EXEC: 4, PRIV: 8 } as const;

/** `IOMMUFD_PAGE_RESP_*`. */
export const PAGE_RESPONSE = { SUCCESS: 0, INVALID: 1 } as const;

/** `IOMMU_VIOMMU_TYPE_*`. */
export const VIOMMU_TYPE = { ARM_SMMUV3: 1, TEGRA241_CMDQV: 2 } as const;

/** `IOMMU_VEVENTQ_FLAG_*`. */
export const VEVENTQ_FLAG = { LOST_EVENTS: 1 } as const;

/** Largest 64-bit value: the length that means "everything" in IOAS_UNMAP. */
export const U64_MAX = (1n << 64n) - 1n;

/** `VFIO_*` extensions and IOMMU types of `VFIO_CHECK_EXTENSION` and `VFIO_SET_IOMMU`. */
export const VFIO_EXTENSION = {
  TYPE1_IOMMU: 1,
  TYPE1v2_IOMMU: 3,
  DMA_CC_IOMMU: 4,
  TYPE1_NESTING_IOMMU: 6,
  NOIOMMU_IOMMU: 8,
  UNMAP_ALL: 9,
  UPDATE_VADDR: 10,
} as const;

/** ioctl numbers of the VFIO container, group and device. @linux include/uapi/linux/vfio.h */
export const VFIO_IOCTL = {
  GET_API_VERSION: 0x3b64,
  CHECK_EXTENSION: 0x3b65,
  SET_IOMMU: 0x3b66,
  DEVICE_GET_INFO: 0x3b6b,
  DEVICE_GET_REGION_INFO: 0x3b6c,
  DEVICE_GET_IRQ_INFO: 0x3b6d,
  DEVICE_RESET: 0x3b6f,
  IOMMU_GET_INFO: 0x3b70,
  IOMMU_MAP_DMA: 0x3b71,
  IOMMU_UNMAP_DMA: 0x3b72,
  IOMMU_DIRTY_PAGES: 0x3b75,
  DEVICE_BIND_IOMMUFD: 0x3b76,
  DEVICE_ATTACH_IOMMUFD_PT: 0x3b77,
  DEVICE_DETACH_IOMMUFD_PT: 0x3b78,
} as const;
