/**
 * What a unit can do, and its interrupt message.
 *
 * @spec AMD IOMMU 3.4.7 (extended feature registers), 3.2.3 (MSI capability)
 */
import { defineRegister, enumeration, flag, uint } from '@iommukit/bits';

/** EFR.HATS: levels of host tables. */
export const HATS = { FOUR: 0, FIVE: 1, SIX: 2 } as const;

const RO = 'RO' as const;

/** EFR: extended features. */
export const EFR = defineRegister({
  name: 'EFR',
  offset: 0x30,
  bits: 64,
  spec: 'AMD IOMMU 3.4.7',
  doc: 'extended features',
  fields: {
    PREF_SUP: { ...flag(0, 'PREFETCH_IOMMU_PAGES'), access: RO },
    PPR_SUP: { ...flag(1, 'page requests'), access: RO },
    XT_SUP: { ...flag(2, 'x2APIC'), access: RO },
    NX_SUP: { ...flag(3, 'no-execute in guest tables'), access: RO },
    GT_SUP: { ...flag(4, 'guest tables'), access: RO },
    GAPPI_SUP: { ...flag(5), access: RO },
    IA_SUP: { ...flag(6, 'INVALIDATE_IOMMU_ALL'), access: RO },
    GA_SUP: { ...flag(7, 'guest APIC'), access: RO },
    HE_SUP: { ...flag(8, 'hardware error registers'), access: RO },
    PC_SUP: { ...flag(9, 'counters'), access: RO },
    HATS: { ...enumeration(11, 10, HATS, 'host table levels'), access: RO },
    GATS: { ...uint(13, 12, 'guest table levels - 4'), access: RO },
    GLX_SUP: { ...uint(15, 14, 'GCR3 levels - 1'), access: RO },
    SMI_F_SUP: { ...uint(17, 16), access: RO },
    SMI_FRC: { ...uint(20, 18), access: RO },
    GAM_SUP: { ...uint(23, 21), access: RO },
    DUAL_PPR_LOG_SUP: { ...uint(25, 24), access: RO },
    DUAL_EVENT_LOG_SUP: { ...uint(29, 28), access: RO },
    SATS_SUP: { ...flag(31, 'secure ATS'), access: RO },
    PAS_MAX: { ...uint(36, 32, 'PASID width - 1'), access: RO },
    US_SUP: { ...flag(37, 'user/supervisor checks'), access: RO },
    DEV_TBL_SEG_SUP: { ...uint(39, 38, 'lg2 of device table segments'), access: RO },
    PPR_OVRFLW_EARLY_SUP: { ...flag(40), access: RO },
    PPR_AUTO_RSP_SUP: { ...flag(41), access: RO },
    MARC_SUP: { ...uint(43, 42), access: RO },
    BLK_STOP_MRK_SUP: { ...flag(44), access: RO },
    PERF_OPT_SUP: { ...flag(45), access: RO },
    MSI_CAP_MMIO_SUP: { ...flag(46, 'MSI capability at 158h'), access: RO },
    SNOOP_ATTR_SUP: { ...flag(47), access: RO },
    GIO_SUP: { ...flag(48, 'DTE.GIoV'), access: RO },
    HA_SUP: { ...flag(49, 'accessed bit of host tables'), access: RO },
    EPH_SUP: { ...flag(50), access: RO },
    ATTR_FW_SUP: { ...flag(51), access: RO },
    HD_SUP: { ...flag(52, 'dirty bit of host tables'), access: RO },
    V2_HD_DIS_SUP: { ...flag(53), access: RO },
    INV_IOTLB_TYPE_SUP: { ...flag(54), access: RO },
    VIOMMU_SUP: { ...flag(55, 'hardware vIOMMU'), access: RO },
    VM_GUARD_IO_SUP: { ...flag(56), access: RO },
    VM_TABLE_SIZE: { ...uint(60, 57), access: RO },
    GA_UPDATE_DIS_SUP: { ...flag(61), access: RO },
    FORCE_PHY_DEST_SUP: { ...flag(62), access: RO },
    SNP_SUP: { ...flag(63), access: RO },
  },
});

/** EFR2: extended features 2. */
export const EFR2 = defineRegister({
  name: 'EFR2',
  offset: 0x1a0,
  bits: 64,
  spec: 'AMD IOMMU 3.4.16',
  doc: 'extended features 2',
  fields: {
    TMPM_SUP: { ...flag(2), access: RO },
    GCR3_TRP_MODE_SUP: { ...flag(3), access: RO },
    GAPPI_DIS_SUP: { ...flag(4), access: RO },
    SNP_AVIC_SUP: { ...uint(7, 5), access: RO },
    NUM_INT_REMAP_SUP: { ...uint(9, 8, '1 = 2048 entries'), access: RO },
    HT_RANGE_IGNORE: { ...flag(11, '1012 GiB to 1 TiB is ordinary memory'), access: RO },
  },
});

/** MSI capability header, mirrored when EFR.MsiCapMmioSup is set. */
export const MSI_CAP = defineRegister({
  name: 'MSI_CAP',
  offset: 0x158,
  bits: 32,
  spec: 'AMD IOMMU 3.4.14',
  doc: 'MSI capability header',
  reset: 0x0080_0005,
  fields: {
    CAP_ID: { ...uint(7, 0, 'MSI capability'), access: RO },
    CAP_PTR: { ...uint(15, 8, 'next capability'), access: RO },
    MSI_EN: { ...flag(16, 'messages are sent'), access: 'RW' },
    MULT_MESS_CAP: { ...uint(19, 17), access: RO },
    MULT_MESS_EN: { ...uint(22, 20), access: 'RW' },
    ADDR_64: { ...flag(23, '64-bit address'), access: RO },
  },
});

/** MSI address, bits 31:2. */
export const MSI_ADDR_LO = defineRegister({
  name: 'MSI_ADDR_LO',
  offset: 0x15c,
  bits: 32,
  spec: 'AMD IOMMU 3.4.14',
  doc: 'MSI address, low half',
  fields: { ADDR: { ...uint(31, 2, 'address [31:2]'), access: 'RW' } },
});

/** MSI address, bits 63:32. */
export const MSI_ADDR_HI = defineRegister({
  name: 'MSI_ADDR_HI',
  offset: 0x160,
  bits: 32,
  spec: 'AMD IOMMU 3.4.14',
  doc: 'MSI address, high half',
  fields: { ADDR: { ...uint(31, 0, 'address [63:32]'), access: 'RW' } },
});

/** MSI data. */
export const MSI_DATA = defineRegister({
  name: 'MSI_DATA',
  offset: 0x164,
  bits: 32,
  spec: 'AMD IOMMU 3.4.14',
  doc: 'MSI data',
  fields: { DATA: { ...uint(15, 0, 'data'), access: 'RW' } },
});
