/**
 * MMIO registers of the IOMMU that translation, commands and events use.
 *
 * @spec AMD IOMMU 3.4 (MMIO registers)
 */
import { addr, defineRegister, flag, uint } from '@iommukit/bits';

export * from './control-registers.ts';
export * from './feature-registers.ts';
export * from './optional-registers.ts';

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

const ringBase = (name: string, offset: number, spec: string, doc: string) =>
  defineRegister({
    name,
    offset,
    bits: 64,
    spec,
    doc,
    reset: 0x0800_0000_0000_0000n,
    fields: {
      BASE: { ...addr(51, 12, doc), access: 'RW' },
      LEN: { ...uint(59, 56, 'lg2 of entries, 8 to 15'), access: 'RW' },
    },
  });

/** CmdBufBase: command buffer. A write sets its head and tail to 0. */
export const CMD_BUF_BASE = ringBase('CMD_BUF_BASE', 0x8, 'AMD IOMMU 3.4.2', 'command buffer');

/** EventLogBase: event log. A write sets its head and tail to 0. */
export const EVENT_LOG_BASE = ringBase('EVENT_LOG_BASE', 0x10, 'AMD IOMMU 3.4.3', 'event log');

/** PPRLogBase: page request log. A write sets its head and tail to 0. */
export const PPR_LOG_BASE = ringBase('PPR_LOG_BASE', 0x38, 'AMD IOMMU 3.4.8', 'PPR log');

/** PPRLogB base. */
export const PPR_LOG_B_BASE = ringBase('PPR_LOG_B_BASE', 0xf0, 'AMD IOMMU 3.4.8', 'PPR log B');

/** EventLogB base. */
export const EVENT_LOG_B_BASE = ringBase(
  'EVENT_LOG_B_BASE',
  0xf8,
  'AMD IOMMU 3.4.3',
  'event log B',
);

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
/** PPRLogHead: next page request that software reads. */
export const PPR_LOG_HEAD = pointer('PPR_LOG_HEAD', 0x2030, 'PPR log head');
/** PPRLogTail: where the next page request goes. */
export const PPR_LOG_TAIL = pointer('PPR_LOG_TAIL', 0x2038, 'PPR log tail');
/** PPRLogB head. */
export const PPR_LOG_B_HEAD = pointer('PPR_LOG_B_HEAD', 0x2050, 'PPR log B head');
/** PPRLogB tail. */
export const PPR_LOG_B_TAIL = pointer('PPR_LOG_B_TAIL', 0x2058, 'PPR log B tail');
/** EventLogB head. */
export const EVENT_LOG_B_HEAD = pointer('EVENT_LOG_B_HEAD', 0x2070, 'event log B head');
/** EventLogB tail. */
export const EVENT_LOG_B_TAIL = pointer('EVENT_LOG_B_TAIL', 0x2078, 'event log B tail');
