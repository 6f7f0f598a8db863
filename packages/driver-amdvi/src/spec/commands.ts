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

/** INVALIDATE_INTERRUPT_TABLE. */
export const INVALIDATE_INTERRUPT_TABLE = defineLayout({
  name: 'INVALIDATE_INTERRUPT_TABLE',
  bits: 128,
  spec: 'AMD IOMMU 2.4.5',
  doc: 'forget cached interrupt table entries of a device',
  fields: { DEVICE_ID: uint(15, 0, 'device'), OPCODE },
});

/** INVALIDATE_IOMMU_ALL. */
export const INVALIDATE_IOMMU_ALL = defineLayout({
  name: 'INVALIDATE_IOMMU_ALL',
  bits: 128,
  spec: 'AMD IOMMU 2.4.8',
  doc: 'forget everything',
  fields: { OPCODE },
});

/** Layouts of the commands that the model executes, by code. */
export const COMMAND_LAYOUTS: Readonly<Record<number, Layout>> = {
  [COMMAND.COMPLETION_WAIT]: COMPLETION_WAIT,
  [COMMAND.INVALIDATE_DEVTAB_ENTRY]: INVALIDATE_DEVTAB_ENTRY,
  [COMMAND.INVALIDATE_IOMMU_PAGES]: INVALIDATE_IOMMU_PAGES,
  [COMMAND.INVALIDATE_INTERRUPT_TABLE]: INVALIDATE_INTERRUPT_TABLE,
  [COMMAND.INVALIDATE_IOMMU_ALL]: INVALIDATE_IOMMU_ALL,
};
