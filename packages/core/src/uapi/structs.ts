/**
 * The structs of the 22 public iommufd ioctls: the one place that knows sizes and offsets.
 *
 * @linux include/uapi/linux/iommufd.h
 * @module
 */
import {
  type CommandOf,
  type InputOf,
  type OutputOf,
  pointer,
  s32,
  struct,
  u8,
  u16,
  u32,
  u64,
} from './struct-table.ts';

/** Every public ioctl by its name, with its struct. */
export const IOMMU_STRUCTS = {
  IOMMU_DESTROY: struct(0x3b80, 8, 8, { id: u32(4) }),
  IOMMU_IOAS_ALLOC: struct(0x3b81, 12, 12, { flags: u32(4, 'opt'), out_ioas_id: u32(8, 'out') }),
  IOMMU_IOAS_ALLOW_IOVAS: struct(0x3b82, 24, 24, {
    ioas_id: u32(4),
    num_iovas: u32(8),
    __reserved: u32(12, 'reserved'),
    allowed_iovas: pointer(16),
  }),
  IOMMU_IOAS_COPY: struct(0x3b83, 40, 40, {
    flags: u32(4),
    dst_ioas_id: u32(8),
    src_ioas_id: u32(12),
    length: u64(16),
    dst_iova: u64(24, 'inout'),
    src_iova: u64(32),
  }),
  IOMMU_IOAS_IOVA_RANGES: struct(0x3b84, 32, 32, {
    ioas_id: u32(4),
    num_iovas: u32(8, 'inout'),
    __reserved: u32(12, 'reserved'),
    allowed_iovas: pointer(16, 'opt'),
    out_iova_alignment: u64(24, 'out'),
  }),
  IOMMU_IOAS_MAP: struct(0x3b85, 40, 40, {
    flags: u32(4),
    ioas_id: u32(8),
    __reserved: u32(12, 'reserved'),
    user_va: u64(16),
    length: u64(24),
    iova: u64(32, 'inout'),
  }),
  IOMMU_IOAS_UNMAP: struct(0x3b86, 24, 24, {
    ioas_id: u32(4),
    iova: u64(8),
    length: u64(16, 'inout'),
  }),
  IOMMU_OPTION: struct(0x3b87, 24, 24, {
    option_id: u32(4),
    op: u16(8),
    __reserved: u16(10, 'reserved'),
    object_id: u32(12, 'opt'),
    val64: u64(16, 'inout'),
  }),
  IOMMU_VFIO_IOAS: struct(0x3b88, 12, 12, {
    ioas_id: u32(4, 'inout'),
    op: u16(8),
    __reserved: u16(10, 'reserved'),
  }),
  IOMMU_HWPT_ALLOC: struct(0x3b89, 48, 24, {
    flags: u32(4, 'opt'),
    dev_id: u32(8),
    pt_id: u32(12),
    out_hwpt_id: u32(16, 'out'),
    __reserved: u32(20, 'reserved'),
    data_type: u32(24, 'opt'),
    data_len: u32(28, 'opt'),
    data_uptr: pointer(32, 'opt'),
    fault_id: u32(40, 'opt'),
    __reserved2: u32(44, 'reserved'),
  }),
  IOMMU_GET_HW_INFO: struct(0x3b8a, 40, 32, {
    flags: u32(4, 'opt'),
    dev_id: u32(8),
    data_len: u32(12, 'inout'),
    data_uptr: pointer(16, 'opt'),
    data_type: u32(24, 'inout'),
    out_max_pasid_log2: u8(28, 'out'),
    __reserved0: u8(29, 'reserved'),
    __reserved1: u8(30, 'reserved'),
    __reserved2: u8(31, 'reserved'),
    out_capabilities: u64(32, 'out'),
  }),
  IOMMU_HWPT_SET_DIRTY_TRACKING: struct(0x3b8b, 16, 16, {
    flags: u32(4),
    hwpt_id: u32(8),
    __reserved: u32(12, 'reserved'),
  }),
  IOMMU_HWPT_GET_DIRTY_BITMAP: struct(0x3b8c, 48, 48, {
    hwpt_id: u32(4),
    flags: u32(8, 'opt'),
    __reserved: u32(12, 'reserved'),
    iova: u64(16),
    length: u64(24),
    page_size: u64(32),
    data: pointer(40),
  }),
  IOMMU_HWPT_INVALIDATE: struct(0x3b8d, 32, 32, {
    hwpt_id: u32(4),
    data_uptr: pointer(8, 'opt'),
    data_type: u32(16),
    entry_len: u32(20, 'opt'),
    entry_num: u32(24, 'inout'),
    __reserved: u32(28, 'reserved'),
  }),
  IOMMU_FAULT_QUEUE_ALLOC: struct(0x3b8e, 16, 16, {
    flags: u32(4, 'opt'),
    out_fault_id: u32(8, 'out'),
    out_fault_fd: u32(12, 'out'),
  }),
  IOMMU_IOAS_MAP_FILE: struct(0x3b8f, 40, 40, {
    flags: u32(4),
    ioas_id: u32(8),
    fd: s32(12),
    start: u64(16, 'opt'),
    length: u64(24),
    iova: u64(32, 'inout'),
  }),
  IOMMU_VIOMMU_ALLOC: struct(0x3b90, 40, 24, {
    flags: u32(4, 'opt'),
    type: u32(8),
    dev_id: u32(12),
    hwpt_id: u32(16),
    out_viommu_id: u32(20, 'out'),
    data_len: u32(24, 'opt'),
    __reserved: u32(28, 'reserved'),
    data_uptr: pointer(32, 'opt'),
  }),
  IOMMU_VDEVICE_ALLOC: struct(0x3b91, 24, 24, {
    viommu_id: u32(4),
    dev_id: u32(8),
    out_vdevice_id: u32(12, 'out'),
    virt_id: u64(16),
  }),
  IOMMU_IOAS_CHANGE_PROCESS: struct(0x3b92, 8, 8, { __reserved: u32(4, 'reserved') }),
  IOMMU_VEVENTQ_ALLOC: struct(0x3b93, 32, 28, {
    flags: u32(4, 'opt'),
    viommu_id: u32(8),
    type: u32(12),
    veventq_depth: u32(16),
    out_veventq_id: u32(20, 'out'),
    out_veventq_fd: u32(24, 'out'),
    __reserved: u32(28, 'reserved'),
  }),
  IOMMU_HW_QUEUE_ALLOC: struct(0x3b94, 40, 40, {
    flags: u32(4, 'opt'),
    viommu_id: u32(8),
    type: u32(12),
    index: u32(16),
    out_hw_queue_id: u32(20, 'out'),
    nesting_parent_iova: u64(24),
    length: u64(32),
  }),
  IOMMU_IOAS_NOIOMMU_GET_PA: struct(0x3b95, 40, 40, {
    flags: u32(4, 'opt'),
    ioas_id: u32(8),
    __reserved: u32(12, 'reserved'),
    iova: u64(16),
    length: u64(24, 'inout'),
    out_phys: u64(32, 'out'),
  }),
} as const;

/** Name of a public ioctl. */
export type IommuCommandName = keyof typeof IOMMU_STRUCTS;

type FieldsOf<Name extends IommuCommandName> = (typeof IOMMU_STRUCTS)[Name]['fields'];

/** The decoded struct of an ioctl. */
export type IommuCommand<Name extends IommuCommandName> = CommandOf<FieldsOf<Name>>;

/** What the typed form of an ioctl takes. */
export type IommuInput<Name extends IommuCommandName> = InputOf<FieldsOf<Name>>;

/** What the typed form of an ioctl answers. */
export type IommuOutput<Name extends IommuCommandName> = OutputOf<FieldsOf<Name>>;
