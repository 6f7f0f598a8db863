/**
 * Numbers and structs of the posted series "vfio: expose virtual Shared Virtual Addressing to VMs",
 * versions 4 to 7 (July to September 2020). None of it was merged, and the ioctl numbers belong to
 * other calls today; that is why a container has to be opened for this dialect.
 *
 * @spec mail of 10 September 2020, 1599734733-6431-1-git-send-email-yi.l.liu@intel.com
 * @module
 */
import { struct, u8, u16, u32, u64 } from '../uapi/struct.ts';

/** ioctl numbers on the container. */
export const LIU_IOCTL = { PASID_REQUEST: 0x3b76, NESTING_OP: 0x3b77 } as const;

/** `VFIO_IOMMU_FLAG_*_PASID`. */
export const PASID_FLAG = { ALLOC: 1, FREE: 2 } as const;

/** `VFIO_IOMMU_NESTING_OP_*`, the low 16 bits of its flags. */
export const NESTING_OP = { BIND_PGTBL: 0, UNBIND_PGTBL: 1, CACHE_INVLD: 2 } as const;

/** `IOMMU_NESTING_FEAT_*`. */
export const NESTING_FEATURE = { SYSWIDE_PASID: 1, BIND_PGTBL: 2, CACHE_INVLD: 4 } as const;

/** `VFIO_IOMMU_TYPE1_INFO_CAP_NESTING`; the number is DMA_AVAIL in Linux today. */
export const CAP_NESTING = 3;

/** `IOMMU_PASID_FORMAT_INTEL_VTD`. */
export const FORMAT_INTEL_VTD = 1;

/** `IOMMU_SVA_GPASID_VAL`: gpasid is valid. */
export const BIND_FLAG_GPASID_VAL = 1;

/** `IOMMU_SVA_VTD_GPASID_*` flags of a bind. */
export const VTD_BIND_FLAG = {
  SRE: 1,
  EAFE: 2,
  PCD: 4,
  PWT: 8,
  EMTE: 0x10,
  CD: 0x20,
  WPE: 0x40,
} as const;

/** `IOMMU_CACHE_INV_TYPE_*` bits. */
export const CACHE = { IOTLB: 1, DEV_IOTLB: 2, PASID: 4 } as const;

/** `IOMMU_INV_GRANU_*`. */
export const GRANULARITY = { DOMAIN: 0, PASID: 1, ADDR: 2 } as const;

/** Flags of `iommu_inv_pasid_info` and `iommu_inv_addr_info`. */
export const INV_FLAG = { PASID: 1, ARCHID: 2, LEAF: 4 } as const;

/** Structs by the tail of their C names. */
export const LIU_STRUCTS = {
  pasid_request: struct(16, { argsz: u32(0), flags: u32(4), min: u32(8), max: u32(12) }),
  nesting_op: struct(8, { argsz: u32(0), flags: u32(4) }),
  gpasid_bind_data: struct(72, {
    argsz: u32(0),
    version: u32(4),
    format: u32(8),
    addr_width: u32(12),
    flags: u64(16),
    gpgd: u64(24),
    hpasid: u64(32),
    gpasid: u64(40),
    padding: u64(48),
    vtd_flags: u64(56),
    vtd_pat: u32(64),
    vtd_emt: u32(68),
  }),
  cache_invalidate_info: struct(
    56,
    {
      argsz: u32(0),
      version: u32(4),
      cache: u8(8),
      granularity: u8(9),
      padding0: u16(10),
      padding1: u32(12),
      flags: u32(16),
      archid: u32(20),
      pasid: u64(24),
      addr: u64(32),
      granule_size: u64(40),
      nb_granules: u64(48),
    },
    16,
  ),
  /** The capability: 8 bytes of header, then `iommu_nesting_info` (56 bytes). */
  cap_nesting: struct(64, {
    argsz: u32(8),
    flags: u32(12),
    format: u32(16),
    features: u32(20),
    addr_width: u16(24),
    pasid_bits: u16(26),
    vtd_flags: u32(40),
    vtd_cap_reg: u64(48),
    vtd_ecap_reg: u64(56),
  }),
} as const;
