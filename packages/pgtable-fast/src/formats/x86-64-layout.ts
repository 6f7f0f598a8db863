/**
 * Entries of the x86-64 first-stage page table: VT-d first stage and AMD v2 guest tables.
 * @spec VT-d 9.7
 * @spec AMD IOMMU 2.2.6
 * @module
 */
import { addr, defineLayout, flag, ignored } from '@iommukit/bits';

const UPPER = {
  P: flag(0, 'present'),
  RW: flag(1, 'write'),
  US: flag(2, 'user'),
  PWT: flag(3),
  PCD: flag(4),
  A: flag(5, 'accessed'),
  IGN_62_52: ignored(62, 52),
  XD: flag(63, 'execute disable; ignored by VT-d'),
};

const LEAF = {
  ...UPPER,
  D: flag(6, 'dirty'),
  G: flag(8, 'global; ignored'),
  IGN_9: ignored(9, 9),
  EA: flag(10, 'extended accessed; used with EAFE'),
  IGN_11: ignored(11, 11),
};

/** Entry that points to a table. */
export const FS_TABLE = defineLayout({
  name: 'FS_TABLE',
  bits: 64,
  spec: 'VT-d 9.7',
  doc: 'first-stage PML5E, PML4E, PDPE or PDE that references a table',
  fields: {
    ...UPPER,
    IGN_6: ignored(6, 6),
    PS: flag(7, 'page size: 0'),
    IGN_9_8: ignored(9, 8),
    EA: flag(10, 'extended accessed; used with EAFE'),
    IGN_11: ignored(11, 11),
    ADDR: addr(51, 12, 'table'),
  },
});

/** 4 KiB leaf. */
export const FS_PTE = defineLayout({
  name: 'FS_PTE',
  bits: 64,
  spec: 'VT-d 9.7',
  doc: 'first-stage PTE: 4 KiB page',
  fields: { ...LEAF, PAT: flag(7), ADDR: addr(51, 12, 'page') },
});

/** 2 MiB leaf. */
export const FS_PDE_2M = defineLayout({
  name: 'FS_PDE_2M',
  bits: 64,
  spec: 'VT-d 9.7',
  doc: 'first-stage PDE: 2 MiB page',
  fields: { ...LEAF, PS: flag(7, 'page size: 1'), PAT: flag(12), ADDR: addr(51, 21, 'page') },
});

/** 1 GiB leaf. */
export const FS_PDPE_1G = defineLayout({
  name: 'FS_PDPE_1G',
  bits: 64,
  spec: 'VT-d 9.7',
  doc: 'first-stage PDPE: 1 GiB page',
  fields: { ...LEAF, PS: flag(7, 'page size: 1'), PAT: flag(12), ADDR: addr(51, 30, 'page') },
});
