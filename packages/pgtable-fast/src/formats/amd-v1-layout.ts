/**
 * Entries of the AMD v1 host page table.
 * @spec AMD IOMMU 2.2.3
 * @module
 */
import { addr, defineLayout, flag, ignored, uint } from '@iommukit/bits';

const COMMON = {
  PR: flag(0, 'present'),
  IGN_4_1: ignored(4, 1),
  A: flag(5, 'accessed; used with HAD'),
  IGN_8_7: ignored(8, 7),
  NextLevel: uint(
    11,
    9,
    '1-6: level of the table; 0: page of the default size; 7: size coded in ADDR',
  ),
  ADDR: addr(51, 12, 'table or page; its trailing ones code the size when NextLevel is 7'),
  IR: flag(61, 'read'),
  IW: flag(62, 'write'),
  IGN_63: ignored(63, 63),
};

/** Entry that points to a table (PDE). */
export const AMD_V1_PDE = defineLayout({
  name: 'AMD_V1_PDE',
  bits: 64,
  spec: 'AMD IOMMU 2.2.3',
  doc: 'host page directory entry',
  fields: { ...COMMON, IGN_6: ignored(6, 6) },
});

/** Leaf of any level (PTE). */
export const AMD_V1_PTE = defineLayout({
  name: 'AMD_V1_PTE',
  bits: 64,
  spec: 'AMD IOMMU 2.2.3',
  doc: 'host page translation entry',
  fields: {
    ...COMMON,
    D: flag(6, 'dirty; used with HAD'),
    PMC: uint(58, 57, 'newer revisions; no effect'),
    U: flag(59, 'ATS: untranslated access only'),
    FC: flag(60, 'force coherent'),
  },
});
