/**
 * Device table entry (DTE), 256 bits. Not atomic as a whole: hardware reads aligned 128 bits.
 *
 * @spec AMD IOMMU 2.2.2.1
 */
import { addr, defineLayout, enumeration, flag, ignored, uint } from '@iommukit/bits';

/** Bytes of a DTE. */
export const DTE_BYTES = 32;

/** DTE.HAD: which accessed and dirty bits of host tables the hardware keeps. */
export const HAD = { OFF: 0, ACCESSED: 1, RESERVED: 2, ACCESSED_DIRTY: 3 } as const;

/** DTE.Mode: 0 = no host table, 1 to 6 = its levels. */
export const DTE_MODE = { NO_TABLE: 0, LEVELS_6: 6, RESERVED: 7 } as const;

/** DTE.IntCtl: what happens to interrupt messages of a device with IV=1. */
export const INT_CTL = { ABORT: 0, FORWARD: 1, REMAP: 2, RESERVED: 3 } as const;

/** DTE.IoCtl: what happens to port I/O. */
export const IO_CTL = { ABORT: 0, FORWARD: 1, TRANSLATE: 2, RESERVED: 3 } as const;

/** DTE.SysMgt: what happens to system management messages. */
export const SYS_MGT = { ABORT: 0, FORWARD: 1, FORWARD_INTERRUPTS: 2, TRANSLATE: 3 } as const;

/** Device table entry. */
export const DTE = defineLayout({
  name: 'DTE',
  bits: 256,
  spec: 'AMD IOMMU 2.2.2.1',
  doc: 'device table entry',
  fields: {
    V: flag(0, 'low 128 bits are valid; 0 = DMA passes untranslated'),
    TV: flag(1, 'translation information is valid; 0 = DMA is blocked'),
    HAD: enumeration(8, 7, HAD, 'host accessed and dirty updates'),
    MODE: uint(11, 9, 'levels of the host table; 0 = none'),
    HOST_ROOT: addr(51, 12, 'top host table'),
    PPR: flag(52, 'page requests allowed'),
    GPRP: flag(53, 'PASID in page responses'),
    GIOV: flag(54, 'requests without PASID use PASID 0'),
    GV: flag(55, 'guest table information is valid'),
    GLX: uint(57, 56, 'GCR3 levels - 1'),
    GCR3_14_12: uint(60, 58, 'GCR3 table [14:12]'),
    IR: flag(61, 'DMA reads allowed'),
    IW: flag(62, 'DMA writes allowed'),
    DOMAIN_ID: uint(79, 64, 'tag of cached translations'),
    GCR3_30_15: uint(95, 80, 'GCR3 table [30:15]'),
    I: flag(96, 'device IOTLB (ATS) allowed'),
    SE: flag(97, 'log only the first page fault while this entry stays cached'),
    SA: flag(98, 'log no page fault'),
    IO_CTL: enumeration(100, 99, IO_CTL, 'port I/O'),
    CACHE: flag(101, 'hint'),
    SD: flag(102, 'snoop disable'),
    EX: flag(103, 'exclusion range applies'),
    SYS_MGT: enumeration(105, 104, SYS_MGT, 'system management messages'),
    SATS: flag(106, 'secure ATS'),
    GCR3_51_31: uint(127, 107, 'GCR3 table [51:31]'),
    IV: flag(128, 'interrupt part is valid'),
    INT_TAB_LEN: uint(132, 129, 'lg2 of interrupt table entries'),
    IG: flag(133, 'do not log blocked interrupts'),
    INT_TAB_ROOT: addr(179, 134, 'interrupt table, 64-byte aligned'),
    GUEST_PAGING_MODE: uint(183, 182, 'guest levels - 4'),
    INIT_PASS: flag(184),
    E_INT_PASS: flag(185),
    NMI_PASS: flag(186),
    HPT_MODE: flag(187),
    INT_CTL: enumeration(189, 188, INT_CTL, 'interrupt messages'),
    LINT0_PASS: flag(190),
    LINT1_PASS: flag(191),
    V_IMU_EN: flag(207, 'device of a hardware vIOMMU guest'),
    G_DEVICE_ID: uint(223, 208, 'DeviceID in the guest'),
    GUEST_ID: uint(239, 224, 'guest'),
    SOFTWARE: ignored(245, 245, 'not checked'),
    ATTR_V: flag(246, 'SnoopAttribute is valid'),
    MODE_0FC: flag(247),
    SNOOP_ATTRIBUTE: uint(255, 248),
  },
});
