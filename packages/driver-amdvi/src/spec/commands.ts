/**
 * Command buffer entries, 128 bits. Undeclared bits must be zero.
 *
 * @spec AMD IOMMU 2.4
 */
import { addr, defineLayout, enumeration, flag, type Layout, uint } from '@iommukit/bits';

/** Bytes of a command. */
export const COMMAND_BYTES = 16;

/** Command codes, bits 63:60. */
export const COMMAND = {
  COMPLETION_WAIT: 1,
  INVALIDATE_DEVTAB_ENTRY: 2,
  INVALIDATE_IOMMU_PAGES: 3,
  INVALIDATE_IOTLB_PAGES: 4,
  INVALIDATE_INTERRUPT_TABLE: 5,
  PREFETCH_IOMMU_PAGES: 6,
  COMPLETE_PPR_REQUEST: 7,
  INVALIDATE_IOMMU_ALL: 8,
  INSERT_GUEST_EVENT: 9,
  RESET_VMMIO: 10,
} as const;

const OPCODE = enumeration(63, 60, COMMAND, 'command code');

/** COMPLETION_WAIT: everything before is done. */
export const COMPLETION_WAIT = defineLayout({
  name: 'COMPLETION_WAIT',
  bits: 128,
  spec: 'AMD IOMMU 2.4.1',
  doc: 'report that the commands before are done',
  fields: {
    S: flag(0, 'store DATA at ADDR'),
    I: flag(1, 'set Status.ComWaitInt'),
    F: flag(2, 'wait for posted writes too'),
    ADDR: addr(51, 3, 'where to store'),
    OPCODE,
    DATA: uint(127, 64, 'what to store'),
  },
});

/** INVALIDATE_DEVTAB_ENTRY. */
export const INVALIDATE_DEVTAB_ENTRY = defineLayout({
  name: 'INVALIDATE_DEVTAB_ENTRY',
  bits: 128,
  spec: 'AMD IOMMU 2.4.2',
  doc: 'forget a cached device table entry',
  fields: { DEVICE_ID: uint(15, 0, 'device'), OPCODE },
});

/** INVALIDATE_IOMMU_PAGES. */
export const INVALIDATE_IOMMU_PAGES = defineLayout({
  name: 'INVALIDATE_IOMMU_PAGES',
  bits: 128,
  spec: 'AMD IOMMU 2.4.3',
  doc: 'forget cached translations of a domain',
  fields: {
    PASID: uint(19, 0, 'PASID, when GN'),
    DOMAIN_ID: uint(47, 32, 'domain'),
    OPCODE,
    S: flag(64, 'more than one page: the size is coded in ADDR'),
    PDE: flag(65, 'cached directories too'),
    GN: flag(66, 'guest (PASID) translations'),
    ADDR: addr(127, 76, 'page, or range with its size in the trailing ones'),
  },
});

/** INVALIDATE_IOTLB_PAGES. */
export const INVALIDATE_IOTLB_PAGES = defineLayout({
  name: 'INVALIDATE_IOTLB_PAGES',
  bits: 128,
  spec: 'AMD IOMMU 2.4.4',
  doc: "forget translations in a device's own TLB",
  fields: {
    DEVICE_ID: uint(15, 0, 'device'),
    PASID_15_8: uint(23, 16, 'PASID [15:8], when GN'),
    MAX_PEND: uint(31, 24, 'most invalidations under way'),
    QUEUE_ID: uint(47, 32, 'queue'),
    PASID_7_0: uint(55, 48, 'PASID [7:0], when GN'),
    PASID_19_16: uint(59, 56, 'PASID [19:16], when GN'),
    OPCODE,
    S: flag(64, 'more than one page: the size is coded in ADDR'),
    GN: flag(66, 'translations with PASID'),
    TYPE: uint(69, 68, 'reserved without EFR.InvIotlbTypeSup'),
    ADDR: addr(127, 76, 'page, or range with its size in the trailing ones'),
  },
});

/** INVALIDATE_INTERRUPT_TABLE. */
export const INVALIDATE_INTERRUPT_TABLE = defineLayout({
  name: 'INVALIDATE_INTERRUPT_TABLE',
  bits: 128,
  spec: 'AMD IOMMU 2.4.5',
  doc: 'forget cached interrupt table entries of a device',
  fields: { DEVICE_ID: uint(15, 0, 'device'), OPCODE },
});

/** PREFETCH_IOMMU_PAGES. */
export const PREFETCH_IOMMU_PAGES = defineLayout({
  name: 'PREFETCH_IOMMU_PAGES',
  bits: 128,
  spec: 'AMD IOMMU 2.4.6',
  doc: 'bring translations into the caches',
  fields: {
    DEVICE_ID: uint(15, 0, 'device'),
    PF_COUNT: uint(31, 24, 'pages'),
    PASID: uint(51, 32, 'PASID, when GN'),
    OPCODE,
    S: flag(64, 'the size is coded in ADDR'),
    GN: flag(66, 'with PASID'),
    INVAL: flag(68, 'forget what is cached first'),
    ADDR: addr(127, 76, 'first page'),
  },
});

/** COMPLETE_PPR_REQUEST. */
export const COMPLETE_PPR_REQUEST = defineLayout({
  name: 'COMPLETE_PPR_REQUEST',
  bits: 128,
  spec: 'AMD IOMMU 2.4.7',
  doc: 'answer a page request group',
  fields: {
    DEVICE_ID: uint(15, 0, 'device'),
    PASID: uint(51, 32, 'PASID, when GN'),
    OPCODE,
    GN: flag(66, 'PASID applies'),
    PRGI: uint(104, 96, 'page request group index'),
    RESPONSE: uint(111, 108, 'response code'),
  },
});

/** INVALIDATE_IOMMU_ALL. */
export const INVALIDATE_IOMMU_ALL = defineLayout({
  name: 'INVALIDATE_IOMMU_ALL',
  bits: 128,
  spec: 'AMD IOMMU 2.4.8',
  doc: 'forget everything',
  fields: { OPCODE },
});

/** INSERT_GUEST_EVENT: put an event into a guest's log. */
export const INSERT_GUEST_EVENT = defineLayout({
  name: 'INSERT_GUEST_EVENT',
  bits: 128,
  spec: 'AMD IOMMU 2.4.9',
  doc: "put an event into a guest's log",
  fields: { GUEST_ID: uint(47, 32, 'guest'), OPCODE, DATA: uint(127, 64, 'what to put') },
});

/** RESET_VMMIO: registers of a guest as after reset. */
export const RESET_VMMIO = defineLayout({
  name: 'RESET_VMMIO',
  bits: 128,
  spec: 'AMD IOMMU 2.4.10',
  doc: 'reset the registers of a guest',
  fields: {
    GUEST_ID: uint(15, 0, 'guest'),
    ALL_27: flag(27, 'all guests'),
    ALL_28: flag(28, 'all guests'),
    COMMAND: flag(31, 'the command buffer part'),
    OPCODE,
  },
});

/** Layouts of the commands, by code. */
export const COMMAND_LAYOUTS: Readonly<Record<number, Layout>> = {
  [COMMAND.COMPLETION_WAIT]: COMPLETION_WAIT,
  [COMMAND.INVALIDATE_DEVTAB_ENTRY]: INVALIDATE_DEVTAB_ENTRY,
  [COMMAND.INVALIDATE_IOMMU_PAGES]: INVALIDATE_IOMMU_PAGES,
  [COMMAND.INVALIDATE_IOTLB_PAGES]: INVALIDATE_IOTLB_PAGES,
  [COMMAND.INVALIDATE_INTERRUPT_TABLE]: INVALIDATE_INTERRUPT_TABLE,
  [COMMAND.PREFETCH_IOMMU_PAGES]: PREFETCH_IOMMU_PAGES,
  [COMMAND.COMPLETE_PPR_REQUEST]: COMPLETE_PPR_REQUEST,
  [COMMAND.INVALIDATE_IOMMU_ALL]: INVALIDATE_IOMMU_ALL,
  [COMMAND.INSERT_GUEST_EVENT]: INSERT_GUEST_EVENT,
  [COMMAND.RESET_VMMIO]: RESET_VMMIO,
};
