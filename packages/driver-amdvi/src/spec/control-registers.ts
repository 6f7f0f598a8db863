/**
 * The control register and the status register.
 *
 * @spec AMD IOMMU 3.4.4, 3.4.11
 */
import { defineRegister, enumeration, flag, uint } from '@iommukit/bits';

/** Segments of the device table, by Control.DevTblSegEn. */
export const DEVICE_TABLE_SEGMENTS = { ONE: 0, TWO: 1, FOUR: 2, EIGHT: 3 } as const;

/** Control.DualEventLogEn and DualPprLogEn: which log takes entries. */
export const DUAL_LOG = { A: 0, B: 1, SWAP_WHEN_FULL: 2 } as const;

/** Milliseconds by Control.InvTimeOut; 0 = for ever, 7 is reserved. */
export const INV_TIME_OUT_MS = [0, 1, 10, 100, 1000, 10_000, 100_000] as const;

/** Control. Bits of features that the unit does not have read back 0. */
export const CONTROL = defineRegister({
  name: 'CONTROL',
  offset: 0x18,
  bits: 64,
  spec: 'AMD IOMMU 3.4.4',
  doc: 'IOMMU control',
  fields: {
    IOMMU_EN: { ...flag(0, 'translate; 0 = every request passes'), access: 'RW' },
    HT_TUN_EN: { ...flag(1, 'HyperTransport tunnel traffic, no effect'), access: 'RW' },
    EVENT_LOG_EN: { ...flag(2, 'event log'), access: 'RW' },
    EVENT_INT_EN: { ...flag(3, 'interrupt on events'), access: 'RW' },
    COM_WAIT_INT_EN: { ...flag(4, 'interrupt on COMPLETION_WAIT'), access: 'RW' },
    INV_TIME_OUT: {
      ...uint(7, 5, 'how long an invalidation may take, INV_TIME_OUT; 0 = for ever'),
      access: 'RW',
    },
    PASS_PW: { ...flag(8, 'no effect'), access: 'RW' },
    RES_PASS_PW: { ...flag(9, 'no effect'), access: 'RW' },
    COHERENT: { ...flag(10, 'device table reads snoop, no effect'), access: 'RW' },
    ISOC: { ...flag(11, 'isochronous, no effect'), access: 'RW' },
    CMD_BUF_EN: { ...flag(12, 'command buffer'), access: 'RW' },
    PPR_LOG_EN: { ...flag(13, 'page request log'), access: 'RW' },
    PPR_INT_EN: { ...flag(14, 'interrupt on page requests'), access: 'RW' },
    PPR_EN: { ...flag(15, 'page requests'), access: 'RW' },
    GT_EN: { ...flag(16, 'guest translation'), access: 'RW' },
    GA_EN: { ...flag(17, 'guest APIC'), access: 'RW' },
    CRW: { ...uint(21, 18, 'no effect'), access: 'RW' },
    SMI_F_EN: { ...flag(22, 'SMI filter, no effect'), access: 'RW' },
    SLF_WB_DIS: { ...flag(23, 'no effect'), access: 'RW' },
    SMI_F_LOG_EN: { ...flag(24, 'SMI filter log, no effect'), access: 'RW' },
    GAM_EN: { ...uint(27, 25, 'guest APIC mode, no effect'), access: 'RW' },
    GA_LOG_EN: { ...flag(28, 'guest APIC log'), access: 'RW' },
    GA_INT_EN: { ...flag(29, 'interrupt on guest APIC entries'), access: 'RW' },
    DUAL_PPR_LOG_EN: { ...uint(31, 30, 'DUAL_LOG'), access: 'RW' },
    DUAL_EVENT_LOG_EN: { ...uint(33, 32, 'DUAL_LOG'), access: 'RW' },
    DEV_TBL_SEG_EN: {
      ...enumeration(36, 34, DEVICE_TABLE_SEGMENTS, 'device table segments'),
      access: 'RW',
    },
    PRIV_ABRT_EN: { ...uint(38, 37, 'no effect'), access: 'RW' },
    PPR_AUTO_RSP_EN: {
      ...flag(39, 'automatic page responses while the PPR log takes nothing'),
      access: 'RW',
    },
    MARC_EN: { ...flag(40, 'no effect'), access: 'RW' },
    BLK_STOP_MRK_EN: { ...flag(41, 'stop markers are not logged'), access: 'RW' },
    PPR_AUTO_RSP_AON: { ...flag(42, 'automatic response to every page request'), access: 'RW' },
    NUM_INT_REMAP_MODE: { ...uint(44, 43, '1 = interrupt tables of 2048 entries'), access: 'RW' },
    EPH_EN: { ...flag(45, 'enhanced page request handling, no effect'), access: 'RW' },
    HAD_UPDATE: { ...uint(47, 46, 'no effect, DTE.HAD decides'), access: 'RW' },
    GD_UPDATE_DIS: { ...flag(48, 'no dirty bits in guest tables'), access: 'RW' },
    XT_EN: { ...flag(50, 'x2APIC, no effect'), access: 'RW' },
    INT_CAP_XT_EN: { ...flag(51, 'own interrupts from the XT registers'), access: 'RW' },
    V_CMD_EN: { ...flag(52, 'guest command buffers'), access: 'RW' },
    V_IOMMU_EN: { ...flag(53, 'hardware vIOMMU'), access: 'RW' },
    GA_UPDATE_DIS: { ...flag(54, 'no accessed bits in guest tables'), access: 'RW' },
    GAPPI_EN: { ...flag(55, 'no effect'), access: 'RW' },
    TMPM_EN: { ...flag(56, 'no effect'), access: 'RW' },
    GCR3_TRP_MODE: { ...flag(58, 'GCR3 tables at guest physical addresses'), access: 'RW' },
    IRT_CACHE_DIS: { ...flag(59, 'no effect, interrupt tables are not cached'), access: 'RW' },
    GST_BUFFER_TRP_MODE: { ...flag(60, 'guest buffers at guest physical addresses'), access: 'RW' },
    SNP_AVIC_EN: { ...uint(63, 61, 'no effect'), access: 'RW' },
  },
});

/** Status. */
export const STATUS = defineRegister({
  name: 'STATUS',
  offset: 0x2020,
  bits: 64,
  spec: 'AMD IOMMU 3.4.11',
  doc: 'IOMMU status',
  fields: {
    EVT_OVERFLOW: { ...flag(0, 'an event found no room'), access: 'RW1C' },
    EVT_LOG_INT: { ...flag(1, 'an event was written'), access: 'RW1C' },
    COM_WAIT_INT: { ...flag(2, 'a COMPLETION_WAIT with I completed'), access: 'RW1C' },
    EVT_LOG_RUN: { ...flag(3, 'the event log takes events'), access: 'RO' },
    CMD_BUF_RUN: { ...flag(4, 'commands are processed'), access: 'RO' },
    PPR_OVERFLOW: { ...flag(5, 'a page request found no room'), access: 'RW1C' },
    PPR_INT: { ...flag(6, 'a page request was written'), access: 'RW1C' },
    PPR_LOG_RUN: { ...flag(7, 'the PPR log takes page requests'), access: 'RO' },
    GA_LOG_RUN: { ...flag(8, 'the guest APIC log is on'), access: 'RO' },
    GA_LOG_OVERFLOW: { ...flag(9, 'guest APIC log'), access: 'RW1C' },
    GA_INT: { ...flag(10, 'guest APIC log'), access: 'RW1C' },
    PPR_OVERFLOW_B: { ...flag(11, 'a page request found no room in log B'), access: 'RW1C' },
    PPR_LOG_ACTIVE: { ...flag(12, '1 = PPR log B takes page requests'), access: 'RO' },
    EVT_OVERFLOW_B: { ...flag(15, 'an event found no room in log B'), access: 'RW1C' },
    EVT_LOG_ACTIVE: { ...flag(16, '1 = event log B takes events'), access: 'RO' },
    PPR_OVERFLOW_EARLY_B: { ...flag(17, 'PPR log B is nearly full'), access: 'RW1C' },
    PPR_OVERFLOW_EARLY: { ...flag(18, 'the PPR log is nearly full'), access: 'RW1C' },
  },
});
