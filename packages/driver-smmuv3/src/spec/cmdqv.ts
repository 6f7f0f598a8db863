/**
 * The CMDQV of NVIDIA's Tegra241: command queues beside an SMMUv3 that guests drive themselves.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c
 */
import { addr, defineLayout, flag, uint } from '@iommukit/bits';

const SOURCE = 'Linux tegra241-cmdqv.c';

/** Byte offsets of registers and pages. */
export const CMDQV = {
  CONFIG: 0x0,
  PARAM: 0x4,
  STATUS: 0x8,
  /** Two dwords: virtual interfaces (VINTF) with an error. */
  VINTF_ERR_MAP: 0x14,
  VINTF_INT_MASK: 0x1c,
  /** Four dwords: queues with an error. */
  CMDQ_ERR_MAP: 0x24,
  /** One dword a queue. */
  CMDQ_ALLOC: 0x200,
  VINTF: 0x1000,
  VINTF_STRIDE: 0x100,
  VCMDQ_PAGE0: 0x1_0000,
  VCMDQ_PAGE1: 0x2_0000,
  /** Both pages of an interface's own queues. */
  VINTF_PAGES: 0x3_0000,
  VINTF_PAGES_STRIDE: 0x2_0000,
  VCMDQ_STRIDE: 0x80,
  PAGE_BYTES: 0x1_0000,
} as const;

/** Byte offsets of an interface's registers. */
export const VINTF = {
  CONFIG: 0x0,
  STATUS: 0x4,
  /**
   * Two dwords, of this model: where page 0 lies in memory, 4 KiB aligned; 0 = nowhere. In silicon
   * that page is behind the other registers; here programs map memory, and the unit looks at it.
   */
  PAGE0_BASE: 0x10,
  SID_MATCH: 0x40,
  SID_REPLACE: 0x80,
  /** Two times 64 bits: own queues with an error. */
  LVCMDQ_ERR_MAP: 0xc0,
} as const;

/** Byte offsets of a queue's registers on page 0, and on page 1. */
export const VCMDQ = {
  CONS: 0x0,
  PROD: 0x4,
  CONFIG: 0x8,
  STATUS: 0xc,
  GERROR: 0x10,
  GERRORN: 0x14,
  BASE: 0x0,
  CONS_INDX_BASE: 0x8,
} as const;

/** PARAM. */
export const CMDQV_PARAM = defineLayout({
  name: 'CMDQV_PARAM',
  bits: 32,
  spec: SOURCE,
  doc: 'what the CMDQV has',
  fields: {
    VER: uint(3, 0, 'version'),
    VCMDQ_LOG2: uint(7, 4, 'lg2 of queues'),
    VINTF_LOG2: uint(11, 8, 'lg2 of interfaces'),
    SID_PER_VM_LOG2: uint(15, 12, 'lg2 of StreamIDs an interface translates'),
  },
});

/** CMDQ_ALLOC: whose queue it is. */
export const CMDQ_ALLOC = defineLayout({
  name: 'CMDQ_ALLOC',
  bits: 32,
  spec: SOURCE,
  doc: 'the interface of a queue',
  fields: {
    ALLOCATED: flag(0),
    LVCMDQ: uint(7, 1, 'its number there'),
    VINTF: uint(20, 15, 'interface'),
  },
});

/** CONFIG of an interface. */
export const VINTF_CONFIG = defineLayout({
  name: 'VINTF_CONFIG',
  bits: 32,
  spec: SOURCE,
  doc: 'whose an interface is',
  fields: {
    EN: flag(0),
    VMID: uint(16, 1, 'put into commands of a guest'),
    HYP_OWN: flag(17, 'the host sends commands: all of them'),
  },
});

/** SID_MATCH. */
export const SID_MATCH = defineLayout({
  name: 'SID_MATCH',
  bits: 32,
  spec: SOURCE,
  doc: 'a StreamID of a guest; SID_REPLACE has the one behind it',
  fields: { EN: flag(0), VIRT_SID: uint(20, 1, 'StreamID') },
});

/** BASE of a queue. */
export const VCMDQ_BASE = defineLayout({
  name: 'VCMDQ_BASE',
  bits: 64,
  spec: SOURCE,
  doc: 'queue in memory',
  fields: { LOG2SIZE: uint(4, 0, 'lg2 of commands'), ADDR: addr(47, 5, 'first command') },
});
