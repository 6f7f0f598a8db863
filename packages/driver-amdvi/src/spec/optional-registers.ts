/**
 * Registers of features that a unit may lack: hardware error copies, SMI filters, guest APIC log,
 * x2APIC interrupts, memory access routing, PPR log handling, counters, hardware vIOMMU status.
 *
 * @spec AMD IOMMU 3.4 (MMIO registers)
 */
import { addr, defineRegister, flag, type Register, uint } from '@iommukit/bits';

const word = (name: string, offset: number, bits: 32 | 64, access: 'RO' | 'RW', doc: string) =>
  defineRegister({
    name,
    offset,
    bits,
    spec: 'AMD IOMMU 3.4',
    doc,
    fields: { VALUE: { ...uint(bits - 1, 0, doc), access } },
  });

/** Upper half of the copy of a hardware error event (EFR.HESup). */
export const HW_EVENT_HI = word('HW_EVENT_HI', 0x40, 64, 'RW', 'hardware error event, upper half');
/** Lower half. */
export const HW_EVENT_LO = word('HW_EVENT_LO', 0x48, 64, 'RW', 'hardware error event, lower half');

/** Whether the copy is valid, and whether another error came. */
export const HW_EVENT_STATUS = defineRegister({
  name: 'HW_EVENT_STATUS',
  offset: 0x50,
  bits: 64,
  spec: 'AMD IOMMU 3.4.18',
  doc: 'hardware error status',
  fields: {
    HEV: { ...flag(0, 'the copy is valid'), access: 'RW1C' },
    HEO: { ...flag(1, 'another hardware error came; counts while HEV'), access: 'RW1C' },
  },
});

/** SMI filters 0 to 15 (EFR.SmiFSup); storage without effect. */
export const SMI_FILTERS: readonly Register[] = Array.from({ length: 16 }, (_, at) =>
  word(`SMI_FILTER_${at}`, 0x60 + 8 * at, 64, 'RW', 'SMI filter'),
);

/** GALogBase: guest APIC log (EFR.GASup). */
export const GA_LOG_BASE = defineRegister({
  name: 'GA_LOG_BASE',
  offset: 0xe0,
  bits: 64,
  spec: 'AMD IOMMU 3.4.21',
  doc: 'guest APIC log base',
  fields: {
    BASE: { ...addr(51, 12, 'guest APIC log'), access: 'RW' },
    LEN: { ...uint(59, 56, 'lg2 of entries'), access: 'RW' },
  },
});
/** GALogTailAddr: where the tail is stored. */
export const GA_LOG_TAIL_ADDR = word('GA_LOG_TAIL_ADDR', 0xe8, 64, 'RW', 'tail store address');

const gaPointer = (name: string, offset: number, doc: string) =>
  defineRegister({
    name,
    offset,
    bits: 64,
    spec: 'AMD IOMMU 3.4.22',
    doc,
    fields: { OFFSET: { ...addr(15, 3, 'byte offset of an entry'), access: 'RW' } },
  });

/** GALogHead. */
export const GA_LOG_HEAD = gaPointer('GA_LOG_HEAD', 0x2040, 'guest APIC log head');
/** GALogTail. */
export const GA_LOG_TAIL = gaPointer('GA_LOG_TAIL', 0x2048, 'guest APIC log tail');

/** Device-specific features, control, status. */
export const DEVICE_SPECIFIC = [
  word('DSFX', 0x138, 64, 'RO', 'device-specific features'),
  word('DSCX', 0x140, 64, 'RW', 'device-specific control'),
  word('DSSX', 0x148, 64, 'RO', 'device-specific status'),
] as const;

/** PerfOptCtrl (EFR.PerfOptSup); no effect. */
export const PERF_OPT = defineRegister({
  name: 'PERF_OPT',
  offset: 0x16c,
  bits: 32,
  spec: 'AMD IOMMU 3.4.30',
  doc: 'performance optimisation control',
  fields: { EN: { ...flag(13, 'no effect'), access: 'RW' } },
});

const xtInterrupt = (name: string, offset: number, doc: string) =>
  defineRegister({
    name,
    offset,
    bits: 64,
    spec: 'AMD IOMMU 3.4.15',
    doc,
    fields: {
      DEST_MODE: { ...flag(2, '1 = logical'), access: 'RW' },
      DEST_LO: { ...uint(31, 8, 'destination [23:0]'), access: 'RW' },
      VECTOR: { ...uint(39, 32, 'vector'), access: 'RW' },
      DELIVERY_MODE: { ...flag(40, '1 = lowest priority'), access: 'RW' },
      DEST_HI: { ...uint(63, 56, 'destination [31:24]'), access: 'RW' },
    },
  });

/** XT interrupt of commands and events (EFR.XTSup), used with Control.IntCapXTEn. */
export const XT_INT = xtInterrupt('XT_INT', 0x170, 'x2APIC interrupt of commands and events');
/** XT interrupt of page requests. */
export const XT_PPR_INT = xtInterrupt('XT_PPR_INT', 0x178, 'x2APIC interrupt of page requests');
/** XT interrupt of the guest APIC log. */
export const XT_GA_INT = xtInterrupt('XT_GA_INT', 0x180, 'x2APIC interrupt of the guest APIC log');

/** vIOMMU status. */
export const VIOMMU_STATUS = word('VIOMMU_STATUS', 0x190, 64, 'RO', 'hardware vIOMMU status');

/** Memory access routing and control 0 to 3 (EFR.MarcSup); storage without effect. */
export const MARCS: readonly Register[] = [0, 1, 2, 3].flatMap((at) => [
  marcAddress(`MARC_${at}_BASE`, 0x200 + 24 * at),
  defineRegister({
    name: `MARC_${at}_RELOC`,
    offset: 0x208 + 24 * at,
    bits: 64,
    spec: 'AMD IOMMU 3.4.28',
    doc: 'relocation',
    fields: {
      RELOC_EN: { ...flag(0, 'no effect'), access: 'RW' },
      READ_ONLY: { ...flag(1, 'no effect'), access: 'RW' },
      ADDR: { ...addr(51, 12, 'relocated base'), access: 'RW' },
    },
  }),
  marcAddress(`MARC_${at}_LEN`, 0x210 + 24 * at),
]);

function marcAddress(name: string, offset: number): Register {
  return defineRegister({
    name,
    offset,
    bits: 64,
    spec: 'AMD IOMMU 3.4.28',
    doc: 'aperture',
    fields: { ADDR: { ...addr(51, 12, 'base or length'), access: 'RW' } },
  });
}

/** PprAutoResponse (EFR.PprAutoRspSup). */
export const PPR_AUTO_RESPONSE = defineRegister({
  name: 'PPR_AUTO_RESPONSE',
  offset: 0x2080,
  bits: 64,
  spec: 'AMD IOMMU 3.4.25',
  doc: 'automatic page response',
  fields: {
    CODE: { ...uint(3, 0, 'response code'), access: 'RW' },
    MASK_GN: { ...flag(4, 'not for requests with PASID'), access: 'RW' },
  },
});

const overflowEarly = (name: string, offset: number, doc: string) =>
  defineRegister({
    name,
    offset,
    bits: 64,
    spec: 'AMD IOMMU 3.4.26',
    doc,
    fields: {
      THRESHOLD: { ...uint(14, 0, 'free entries'), access: 'RW' },
      INT_EN: { ...flag(30, 'interrupt'), access: 'RW' },
      EN: { ...flag(31, 'enable'), access: 'RW' },
    },
  });

/** PprOverflowEarly (EFR.PprOvrflwEarlySup). */
export const PPR_OVERFLOW_EARLY = overflowEarly('PPR_OVERFLOW_EARLY', 0x2088, 'early warning');
/** The same of log B. */
export const PPR_OVERFLOW_EARLY_B = overflowEarly('PPR_OVERFLOW_EARLY_B', 0x2090, 'of log B');

/** Counter configuration (EFR.PCSup): this model has no counter banks. */
export const COUNTER_CONFIG = defineRegister({
  name: 'COUNTER_CONFIG',
  offset: 0x4000,
  bits: 64,
  spec: 'AMD IOMMU 3.4.35',
  doc: 'counters',
  fields: {
    COUNTERS: { ...uint(10, 7, 'counters of a bank'), access: 'RO' },
    BANKS: { ...uint(17, 12, 'banks'), access: 'RO' },
  },
});
