/**
 * VMSAv8-64 translation table descriptors, 64 bits, both stages.
 *
 * @spec SMMUv3 3.4; Arm ARM D8.3
 */
import { addr, defineLayout, flag, ignored, uint } from '@iommukit/bits';

/** Bits 1:0. BLOCK at the last level, and anything even, is invalid. */
export const DESCRIPTOR_TYPE = { INVALID: 0, BLOCK: 1, TABLE_OR_PAGE: 3 } as const;

/** Table descriptor. */
export const TABLE_DESCRIPTOR = defineLayout({
  name: 'TABLE_DESCRIPTOR',
  bits: 64,
  spec: 'Arm ARM D8.3.1',
  doc: 'points to the next table',
  fields: {
    TYPE: uint(1, 0, '3'),
    IGN9_2: ignored(9, 2),
    AF: flag(10, 'access flag, with HAFT'),
    IGN11: ignored(11, 11),
    ADDR: addr(47, 12, 'next table'),
    IGN58_51: ignored(58, 51),
    PXN_TABLE: flag(59),
    XN_TABLE: flag(60),
    AP_TABLE: uint(62, 61, 'bit 0 removes EL0 access, bit 1 writes'),
    NS_TABLE: flag(63),
  },
});

/** Stage 1 block or page descriptor. */
export const S1_LEAF = defineLayout({
  name: 'S1_LEAF',
  bits: 64,
  spec: 'Arm ARM D8.3.1',
  doc: 'stage 1 block or page',
  fields: {
    TYPE: uint(1, 0, '1 block, 3 page'),
    ATTR_INDX: uint(4, 2, 'MAIR index'),
    NS: flag(5),
    AP1: flag(6, 'EL0 access'),
    AP2: flag(7, 'read only'),
    SH: uint(9, 8),
    AF: flag(10, 'access flag'),
    NG: flag(11, 'not global'),
    ADDR: addr(47, 12, 'output'),
    DBM: flag(51, 'hardware may make it dirty'),
    CONTIGUOUS: flag(52),
    PXN: flag(53),
    UXN: flag(54),
    SW: ignored(58, 55, 'for software'),
    PBHA: ignored(62, 59),
  },
});

/** Stage 2 block or page descriptor. */
export const S2_LEAF = defineLayout({
  name: 'S2_LEAF',
  bits: 64,
  spec: 'Arm ARM D8.3.2',
  doc: 'stage 2 block or page',
  fields: {
    TYPE: uint(1, 0, '1 block, 3 page'),
    MEM_ATTR: uint(5, 2, '0 to 3 device'),
    S2AP_READ: flag(6, 'read'),
    S2AP_WRITE: flag(7, 'write'),
    SH: uint(9, 8),
    AF: flag(10, 'access flag'),
    ADDR: addr(47, 12, 'output'),
    DBM: flag(51, 'hardware may make it dirty'),
    CONTIGUOUS: flag(52),
    XN0: flag(53, 'with XNX: the meaning of XN1 swapped between user and privileged'),
    XN1: flag(54, 'not executable'),
    SW: ignored(58, 55, 'for software'),
    PBHA: ignored(62, 59),
  },
});
