/**
 * Numbers of the VFIO uAPI beyond those that core's own emulation of the container knows.
 *
 * @linux include/uapi/linux/vfio.h
 * @module
 */

/** `VFIO_API_VERSION`, what `VFIO_GET_API_VERSION` answers. */
export const VFIO_API_VERSION = 0;

/** ioctl numbers of the group descriptor. */
export const VFIO_GROUP_IOCTL = {
  GET_STATUS: 0x3b67,
  SET_CONTAINER: 0x3b68,
  UNSET_CONTAINER: 0x3b69,
  GET_DEVICE_FD: 0x3b6a,
} as const;

/** `VFIO_GROUP_FLAGS_*` of `VFIO_GROUP_GET_STATUS`. */
export const VFIO_GROUP_FLAG = { VIABLE: 1, CONTAINER_SET: 2 } as const;

/** `VFIO_DMA_MAP_FLAG_*`. `VADDR`: give a mapping whose address was invalidated a new one. */
export const VFIO_DMA_MAP_FLAG = { READ: 1, WRITE: 2, VADDR: 4 } as const;

/** `VFIO_DMA_UNMAP_FLAG_*`. `VADDR`: keep the mapping, forget its user address. */
export const VFIO_DMA_UNMAP_FLAG = { GET_DIRTY_BITMAP: 1, ALL: 2, VADDR: 4 } as const;

/** `VFIO_IOMMU_DIRTY_PAGES_FLAG_*`; exactly one of them is given. */
export const VFIO_DIRTY_PAGES_FLAG = { START: 1, STOP: 2, GET_BITMAP: 4 } as const;

/** `VFIO_IOMMU_INFO_*` flags of `VFIO_IOMMU_GET_INFO`. */
export const VFIO_IOMMU_INFO_FLAG = { PGSIZES: 1, CAPS: 2 } as const;

/** `VFIO_IOMMU_TYPE1_INFO_*CAP*` ids of the capability chain. */
export const VFIO_IOMMU_INFO_CAP = { IOVA_RANGE: 1, MIGRATION: 2, DMA_AVAIL: 3 } as const;
