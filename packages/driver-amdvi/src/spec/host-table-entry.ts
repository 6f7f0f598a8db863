/**
 * Entries of host (v1) page tables, 64 bits.
 *
 * @spec AMD IOMMU 2.2.3 (I/O page tables for host translations)
 */
import { addr, defineLayout, flag, ignored, uint } from '@iommukit/bits';

/** NextLevel of entries that are no table: default size of the level, or size in the address. */
export const NEXT_LEVEL = { LEAF: 0, SIZED_LEAF: 7 } as const;

/** Page translation entry: a leaf. */
export const HOST_PTE = defineLayout({
  name: 'HOST_PTE',
  bits: 64,
  spec: 'AMD IOMMU 2.2.3',
  doc: 'host table leaf; NextLevel 0, or 7 with the size coded in ADDR',
  fields: {
    PR: flag(0, 'present'),
    IGN4_1: ignored(4, 1),
    A: flag(5, 'accessed, when DTE.HAD is 1 or 3'),
    D: flag(6, 'dirty, when DTE.HAD is 3'),
    IGN8_7: ignored(8, 7),
    NEXT_LEVEL: uint(11, 9, '0 or 7'),
    ADDR: addr(51, 12, 'page; trailing ones code the size when NextLevel is 7'),
    PMC: uint(58, 57, 'memory control, no effect'),
    U: flag(59, 'ATS: use untranslated requests'),
    FC: flag(60, 'force coherent'),
    IR: flag(61, 'read'),
    IW: flag(62, 'write'),
    IGN63: ignored(63, 63),
  },
});

/** Page directory entry: points to a table of a lower level. */
export const HOST_PDE = defineLayout({
  name: 'HOST_PDE',
  bits: 64,
  spec: 'AMD IOMMU 2.2.3',
  doc: 'host table entry that points to a table',
  fields: {
    PR: flag(0, 'present'),
    IGN4_1: ignored(4, 1),
    A: flag(5, 'accessed'),
    IGN8_6: ignored(8, 6),
    NEXT_LEVEL: uint(11, 9, 'level of the table, 1 up to the level above less one'),
    ADDR: addr(51, 12, 'table'),
    IR: flag(61, 'read'),
    IW: flag(62, 'write'),
    IGN63: ignored(63, 63),
  },
});
