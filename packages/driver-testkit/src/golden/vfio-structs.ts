/**
 * Structs and numbers of the VFIO calls that recorded sequences name.
 *
 * @linux include/uapi/linux/vfio.h
 * @module
 */
import type { GoldenField, GoldenStruct } from './structs.ts';

/** A struct that starts with `argsz` and `flags`. */
const sized = (
  ioctl: number,
  size: number,
  fields: Readonly<Record<string, GoldenField>> = {},
): GoldenStruct => ({
  ioctl,
  size,
  min: size,
  fields: { argsz: [0, 4], flags: [4, 4], ...fields },
});

/** A call with a plain argument. */
const plain = (ioctl: number): GoldenStruct => ({ ioctl, size: 0, min: 0, fields: {} });

/** Entries by name; offsets and widths in bytes. */
export const VFIO_STRUCTS: Readonly<Record<string, GoldenStruct>> = {
  VFIO_IOMMU_GET_INFO: sized(0x3b70, 24, {
    iova_pgsizes: [8, 8],
    cap_offset: [16, 4],
    pad: [20, 4],
  }),
  VFIO_IOMMU_MAP_DMA: sized(0x3b71, 32, { vaddr: [8, 8], iova: [16, 8], size_: [24, 8] }),
  VFIO_IOMMU_UNMAP_DMA: sized(0x3b72, 24, { iova: [8, 8], size_: [16, 8] }),
  VFIO_IOMMU_DIRTY_PAGES: sized(0x3b75, 8),
  VFIO_DEVICE_GET_INFO: sized(0x3b6b, 24, {
    num_regions: [8, 4],
    num_irqs: [12, 4],
    cap_offset: [16, 4],
    pad: [20, 4],
  }),
  VFIO_DEVICE_BIND_IOMMUFD: sized(0x3b76, 24, {
    iommufd: [8, 4, 'fd'],
    out_devid: [12, 4],
    token_uuid_ptr: [16, 8],
  }),
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: sized(0x3b77, 16, { pt_id: [8, 4], pasid: [12, 4] }),
  VFIO_DEVICE_DETACH_IOMMUFD_PT: sized(0x3b78, 12, { pasid: [8, 4] }),
  VFIO_GROUP_GET_STATUS: sized(0x3b67, 8),
  VFIO_GET_API_VERSION: plain(0x3b64),
  VFIO_CHECK_EXTENSION: plain(0x3b65),
  VFIO_SET_IOMMU: plain(0x3b66),
  VFIO_GROUP_SET_CONTAINER: plain(0x3b68),
  VFIO_GROUP_UNSET_CONTAINER: plain(0x3b69),
  VFIO_GROUP_GET_DEVICE_FD: plain(0x3b6a),
  VFIO_DEVICE_RESET: plain(0x3b6f),
};
