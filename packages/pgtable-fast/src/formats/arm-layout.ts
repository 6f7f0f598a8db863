/**
 * VMSAv8-64 descriptors of stage 1 and stage 2.
 * @spec Arm ARM D8.3
 * @module
 */
import { addr, defineLayout, enumeration, flag, ignored, uint } from '@iommukit/bits';

const TYPE = enumeration(1, 0, { INVALID: 0, BLOCK: 1, RESERVED: 2, TABLE_OR_PAGE: 3 });

/** Descriptor that points to a table. */
export const ARM_TABLE = defineLayout({
  name: 'ARM_TABLE',
  bits: 64,
  spec: 'Arm ARM D8.3',
  doc: 'table descriptor; the hierarchical attributes are stage 1 only',
  fields: {
    Type: TYPE,
    IGN_7_2: ignored(7, 2),
    SH: uint(9, 8, 'with DS: table address 51:50'),
    AF: flag(10, 'used with HAFT'),
    IGN_11: ignored(11, 11),
    ADDR: addr(49, 12, 'table; bits 15:12 are address 51:48 with a 64 KiB granule'),
    IGN_58_50: ignored(58, 50),
    PXNTable: flag(59),
    UXNTable: flag(60),
    APTable: uint(62, 61, 'bit 0: no EL0 access, bit 1: read-only'),
    NSTable: flag(63),
  },
});

const LEAF = {
  Type: TYPE,
  SH: uint(9, 8, 'shareability; with DS: output address 51:50'),
  AF: flag(10, 'access flag'),
  ADDR: addr(49, 12, 'output; bits 15:12 are address 51:48 with a 64 KiB granule'),
  DBM: flag(51, 'dirty bit modifier'),
  Contiguous: flag(52, 'one of a group that maps a contiguous range'),
  IGN_58_55: ignored(58, 55),
};

/** Stage 1 block or page. */
export const ARM_S1_LEAF = defineLayout({
  name: 'ARM_S1_LEAF',
  bits: 64,
  spec: 'Arm ARM D8.3',
  doc: 'stage 1 block or page descriptor',
  fields: {
    ...LEAF,
    AttrIndx: uint(4, 2, 'index into MAIR'),
    NS: flag(5, 'non-secure'),
    AP1: flag(6, 'AP[1]: EL0 access'),
    AP2: flag(7, 'AP[2]: read-only'),
    nG: flag(11, 'not global'),
    GP: flag(50, 'guarded page'),
    PXN: flag(53, 'privileged execute never'),
    UXN: flag(54, 'unprivileged execute never'),
    PBHA: uint(62, 59),
    IGN_63: ignored(63, 63),
  },
});

/** Stage 2 block or page. */
export const ARM_S2_LEAF = defineLayout({
  name: 'ARM_S2_LEAF',
  bits: 64,
  spec: 'Arm ARM D8.3',
  doc: 'stage 2 block or page descriptor',
  fields: {
    ...LEAF,
    MemAttr: uint(5, 2, 'memory type'),
    S2AP0: flag(6, 'S2AP[0]: read'),
    S2AP1: flag(7, 'S2AP[1]: write'),
    IGN_11: ignored(11, 11),
    IGN_50: ignored(50, 50),
    XN: uint(54, 53, 'execute never'),
    PBHA: uint(62, 59),
    IGN_63: ignored(63, 63),
  },
});
