/**
 * MMIO registers of the IOMMU that translation, commands and events use.
 *
 * @spec AMD IOMMU 3.4 (MMIO registers)
 */
import { addr, defineRegister, enumeration, flag, uint } from '@iommukit/bits';

export * from './feature-registers.ts';

/** Segments of the device table, by Control.DevTblSegEn. */
export const DEVICE_TABLE_SEGMENTS = { ONE: 0, TWO: 1, FOUR: 2, EIGHT: 3 } as const;

/** DevTabBase: device table, segment 0. */
export const DEV_TAB_BASE = defineRegister({
  name: 'DEV_TAB_BASE',
  offset: 0x0,
  bits: 64,
  spec: 'AMD IOMMU 3.4.1',
  doc: 'device table base, segment 0',
  fields: {
    SIZE: { ...uint(8, 0, '4 KiB pages - 1'), access: 'RW' },
    BASE: { ...addr(51, 12, 'device table'), access: 'RW' },
  },
});

const segmentRegister = (segment: number) =>
  defineRegister({
    name: `DEV_TAB_SEGMENT_${segment}_BASE`,
    offset: 0x100 + 8 * (segment - 1),
    bits: 64,
    spec: 'AMD IOMMU 3.4.9',
    doc: `device table base, segment ${segment}`,
    fields: {
      SIZE: { ...uint(7, 0, '4 KiB pages - 1'), access: 'RW' },
      BASE: { ...addr(51, 12, 'device table segment'), access: 'RW' },
    },
  });

/** DevTab segments 1 to 7; index 0 is segment 1. */
export const DEV_TAB_SEGMENTS = [1, 2, 3, 4, 5, 6, 7].map(segmentRegister);

/** CmdBufBase: command buffer. A write sets its head and tail to 0. */
export const CMD_BUF_BASE = defineRegister({
  name: 'CMD_BUF_BASE',
  offset: 0x8,
  bits: 64,
  spec: 'AMD IOMMU 3.4.2',
  doc: 'command buffer base',
  reset: 0x0800_0000_0000_0000n,
  fields: {
    BASE: { ...addr(51, 12, 'command buffer'), access: 'RW' },
    LEN: { ...uint(59, 56, 'lg2 of entries, 8 to 15'), access: 'RW' },
  },
});

/** EventLogBase: event log. A write sets its head and tail to 0. */
export const EVENT_LOG_BASE = defineRegister({
  name: 'EVENT_LOG_BASE',
  offset: 0x10,
  bits: 64,
  spec: 'AMD IOMMU 3.4.3',
  doc: 'event log base',
  reset: 0x0800_0000_0000_0000n,
  fields: {
    BASE: { ...addr(51, 12, 'event log'), access: 'RW' },
    LEN: { ...uint(59, 56, 'lg2 of entries, 8 to 15'), access: 'RW' },
  },
});

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
    INV_TIME_OUT: { ...uint(7, 5, 'invalidation timeout code'), access: 'RW' },
    PASS_PW: { ...flag(8, 'no effect'), access: 'RW' },
    RES_PASS_PW: { ...flag(9, 'no effect'), access: 'RW' },
    COHERENT: { ...flag(10, 'device table reads snoop'), access: 'RW' },
    ISOC: { ...flag(11, 'isochronous, no effect'), access: 'RW' },
    CMD_BUF_EN: { ...flag(12, 'command buffer'), access: 'RW' },
    PPR_LOG_EN: { ...flag(13, 'page request log'), access: 'RW' },
    PPR_INT_EN: { ...flag(14, 'interrupt on page requests'), access: 'RW' },
    PPR_EN: { ...flag(15, 'page requests'), access: 'RW' },
    GT_EN: { ...flag(16, 'guest translation'), access: 'RW' },
    GA_EN: { ...flag(17, 'guest APIC'), access: 'RW' },
    DEV_TBL_SEG_EN: {
      ...enumeration(36, 34, DEVICE_TABLE_SEGMENTS, 'device table segments'),
      access: 'RW',
    },
  },
});

/** ExclBase: first page of the exclusion range. */
export const EXCL_BASE = defineRegister({
  name: 'EXCL_BASE',
  offset: 0x20,
  bits: 64,
  spec: 'AMD IOMMU 3.4.5',
  doc: 'exclusion range base',
  fields: {
    EX_EN: { ...flag(0, 'exclusion range enabled'), access: 'RW' },
    ALLOW: { ...flag(1, 'for all devices; 0 = for those with DTE.EX'), access: 'RW' },
    BASE: { ...addr(51, 12, 'first page'), access: 'RW' },
  },
});

/** ExclLimit: last page of the exclusion range, inclusive. */
export const EXCL_LIMIT = defineRegister({
  name: 'EXCL_LIMIT',
  offset: 0x28,
  bits: 64,
  spec: 'AMD IOMMU 3.4.6',
  doc: 'exclusion range limit',
  fields: { LIMIT: { ...addr(51, 12, 'last page, inclusive'), access: 'RW' } },
});

const pointer = (name: string, offset: number, doc: string) =>
  defineRegister({
    name,
    offset,
    bits: 64,
    spec: 'AMD IOMMU 3.4.10',
    doc,
    fields: { OFFSET: { ...addr(18, 4, 'byte offset of an entry'), access: 'RW' } },
  });

/** CmdBufHead: next command to fetch. */
export const CMD_BUF_HEAD = pointer('CMD_BUF_HEAD', 0x2000, 'command buffer head');
/** CmdBufTail: behind the last command; a write is the doorbell. */
export const CMD_BUF_TAIL = pointer('CMD_BUF_TAIL', 0x2008, 'command buffer tail');
/** EventLogHead: next event that software reads. */
export const EVENT_LOG_HEAD = pointer('EVENT_LOG_HEAD', 0x2010, 'event log head');
/** EventLogTail: where the next event goes. */
export const EVENT_LOG_TAIL = pointer('EVENT_LOG_TAIL', 0x2018, 'event log tail');

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
  },
});
