/**
 * The structs of the VFIO container and group: the one place that knows sizes and offsets.
 *
 * @linux include/uapi/linux/vfio.h
 * @module
 */
import { s32, struct, u16, u32, u64 } from './struct.ts';

/** Structs by the tail of their C names: `vfio_iommu_type1_dma_map` is `iommu_type1_dma_map`. */
export const VFIO_STRUCTS = {
  info_cap_header: struct(8, { id: u16(0), version: u16(2), next: u32(4) }),
  group_status: struct(8, { argsz: u32(0), flags: u32(4) }),
  iommu_type1_info: struct(
    24,
    { argsz: u32(0), flags: u32(4), iova_pgsizes: u64(8), cap_offset: u32(16) },
    16,
  ),
  iommu_type1_info_cap_migration: struct(32, {
    flags: u32(8),
    pgsize_bitmap: u64(16),
    max_dirty_bitmap_size: u64(24),
  }),
  iommu_type1_info_dma_avail: struct(12, { avail: u32(8) }),
  iommu_type1_info_cap_iova_range: struct(16, { nr_iovas: u32(8) }),
  iova_range: struct(16, { start: u64(0), end: u64(8) }),
  iommu_type1_dma_map: struct(32, {
    argsz: u32(0),
    flags: u32(4),
    vaddr: u64(8),
    iova: u64(16),
    size: u64(24),
  }),
  iommu_type1_dma_unmap: struct(24, {
    argsz: u32(0),
    flags: u32(4),
    iova: u64(8),
    size: u64(16),
  }),
  bitmap: struct(24, { pgsize: u64(0), size: u64(8), data: u64(16) }),
  iommu_type1_dirty_bitmap: struct(8, { argsz: u32(0), flags: u32(4) }),
  iommu_type1_dirty_bitmap_get: struct(40, {
    iova: u64(0),
    size: u64(8),
    bitmap_pgsize: u64(16),
    bitmap_size: u64(24),
    bitmap_data: u64(32),
  }),
  /** The argument of VFIO_GROUP_SET_CONTAINER: a pointer to a descriptor number. */
  container_fd: struct(4, { fd: s32(0) }),
} as const;
