/**
 * First-stage paging entries (x86-64 format), 64 bits.
 *
 * @spec VT-d 9.8
 */
import { addr, defineLayout, flag, ignored, mbz } from '@iommukit/bits';

const common = {
  P: flag(0, 'present'),
  RW: flag(1, 'write allowed'),
  US: flag(2, 'user requests allowed'),
  A: flag(5, 'accessed'),
  IGN9: ignored(9, 9),
  EA: flag(10, 'extended accessed, when EAFE=1'),
  IGN11: ignored(11, 11),
  IGN: ignored(62, 52, 'available to software'),
  XD: flag(63, 'execute disable, ignored'),
} as const;

const tableAttributes = {
  IGN4_3: ignored(4, 3),
  IGN6: ignored(6, 6),
  IGN8: ignored(8, 8),
} as const;

const leafAttributes = {
  PWT: flag(3, 'memory type, no effect'),
  PCD: flag(4, 'memory type, no effect'),
  D: flag(6, 'dirty'),
  G: flag(8, 'global, ignored'),
} as const;

/** FS-PML5E and FS-PML4E: always a table. */
export const FS_PML_ENTRY = defineLayout({
  name: 'FS_PML_ENTRY',
  bits: 64,
  spec: 'VT-d 9.8',
  doc: 'first-stage PML5 or PML4 entry; bit 7 is reserved',
  fields: {
    ...common,
    ...tableAttributes,
    RSVD7: mbz(7, 7),
    ADDR: addr(51, 12, 'next table; guest physical when nested'),
  },
});

/** FS-PDPE and FS-PDE that point to a table (PS=0). */
export const FS_TABLE_ENTRY = defineLayout({
  name: 'FS_TABLE_ENTRY',
  bits: 64,
  spec: 'VT-d 9.8',
  doc: 'first-stage directory entry pointing to a table',
  fields: {
    ...common,
    ...tableAttributes,
    PS: flag(7, 'page size: 0 = table'),
    ADDR: addr(51, 12, 'next table; guest physical when nested'),
  },
});

/** FS-PDE that maps 2 MiB (PS=1). */
export const FS_PDE_2M = defineLayout({
  name: 'FS_PDE_2M',
  bits: 64,
  spec: 'VT-d 9.8',
  doc: 'first-stage 2 MiB page',
  fields: {
    ...common,
    ...leafAttributes,
    PS: flag(7, 'page size: 1 = page'),
    PAT: flag(12, 'memory type, no effect'),
    ADDR: addr(51, 21, 'page; guest physical when nested'),
  },
});

/** FS-PDPE that maps 1 GiB (PS=1). */
export const FS_PDPE_1G = defineLayout({
  name: 'FS_PDPE_1G',
  bits: 64,
  spec: 'VT-d 9.8',
  doc: 'first-stage 1 GiB page; needs CAP.FS1GP',
  fields: {
    ...common,
    ...leafAttributes,
    PS: flag(7, 'page size: 1 = page'),
    PAT: flag(12, 'memory type, no effect'),
    ADDR: addr(51, 30, 'page; guest physical when nested'),
  },
});

/** FS-PTE: maps 4 KiB. */
export const FS_PTE = defineLayout({
  name: 'FS_PTE',
  bits: 64,
  spec: 'VT-d 9.8',
  doc: 'first-stage 4 KiB page',
  fields: {
    ...common,
    ...leafAttributes,
    PAT: flag(7, 'memory type, no effect'),
    ADDR: addr(51, 12, 'page; guest physical when nested'),
  },
});
