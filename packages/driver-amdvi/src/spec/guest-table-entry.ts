/**
 * Entries of GCR3 tables and of guest (v2) page tables, 64 bits. Guest tables have the format of
 * x86-64 with 4 or 5 levels.
 *
 * @spec AMD IOMMU 2.2.6 (guest translation and GCR3 tables)
 */
import { addr, defineLayout, flag, ignored, mbz } from '@iommukit/bits';

const GUEST_SPEC = 'AMD IOMMU 2.2.6';

/** Bytes of an entry of either table. */
export const GUEST_ENTRY_BYTES = 8;

/** Entry of a GCR3 table: the next level, or at the last level the guest's CR3. */
export const GCR3_ENTRY = defineLayout({
  name: 'GCR3_ENTRY',
  bits: 64,
  spec: GUEST_SPEC,
  doc: 'GCR3 table entry',
  fields: {
    V: flag(0, 'valid'),
    ADDR: addr(51, 12, 'next GCR3 level, or CR3 at the last level'),
  },
});

const common = {
  P: flag(0, 'present'),
  RW: flag(1, 'writes allowed'),
  US: flag(2, 'user requests allowed'),
  PWT: flag(3, 'memory type, no effect'),
  PCD: flag(4, 'memory type, no effect'),
  A: flag(5, 'accessed'),
  IGN11_9: ignored(11, 9),
  IGN62_52: ignored(62, 52),
  XD: flag(63, 'no execute; reserved without EFR.NXSup'),
} as const;

/** Level 1: a 4 KiB page. */
export const GUEST_PTE = defineLayout({
  name: 'GUEST_PTE',
  bits: 64,
  spec: GUEST_SPEC,
  doc: 'guest table leaf of 4 KiB',
  fields: {
    ...common,
    D: flag(6, 'dirty'),
    PAT: flag(7, 'memory type, no effect'),
    G: flag(8, 'global, no effect'),
    ADDR: addr(51, 12, 'page'),
  },
});

/** Level 2 with PS: a 2 MiB page. */
export const GUEST_PDE_2M = defineLayout({
  name: 'GUEST_PDE_2M',
  bits: 64,
  spec: GUEST_SPEC,
  doc: 'guest table leaf of 2 MiB',
  fields: {
    ...common,
    D: flag(6, 'dirty'),
    PS: flag(7, '1 = a page'),
    G: flag(8, 'global, no effect'),
    PAT: flag(12, 'memory type, no effect'),
    ADDR: addr(51, 21, 'page'),
  },
});

/** Level 3 with PS: a 1 GiB page. */
export const GUEST_PDPE_1G = defineLayout({
  name: 'GUEST_PDPE_1G',
  bits: 64,
  spec: GUEST_SPEC,
  doc: 'guest table leaf of 1 GiB',
  fields: {
    ...common,
    D: flag(6, 'dirty'),
    PS: flag(7, '1 = a page'),
    G: flag(8, 'global, no effect'),
    PAT: flag(12, 'memory type, no effect'),
    ADDR: addr(51, 30, 'page'),
  },
});

/** Levels 2 and 3 without PS: a table. */
export const GUEST_TABLE = defineLayout({
  name: 'GUEST_TABLE',
  bits: 64,
  spec: GUEST_SPEC,
  doc: 'guest table entry that points to a table, levels 2 and 3',
  fields: {
    ...common,
    IGN6: ignored(6, 6),
    PS: flag(7, '0 = a table'),
    IGN8: ignored(8, 8),
    ADDR: addr(51, 12, 'table'),
  },
});

/** Levels 4 and 5, where no page can stand. */
export const GUEST_PML = defineLayout({
  name: 'GUEST_PML',
  bits: 64,
  spec: GUEST_SPEC,
  doc: 'guest table entry, levels 4 and 5',
  fields: {
    ...common,
    IGN6: ignored(6, 6),
    PS: mbz(7, 7, 'no pages at these levels'),
    IGN8: ignored(8, 8),
    ADDR: addr(51, 12, 'table'),
  },
});
