/**
 * Second-stage paging entries, 64 bits.
 *
 * @spec VT-d 9.9
 */
import { addr, defineLayout, flag, ignored, mbz, uint } from '@iommukit/bits';

const common = {
  R: flag(0, 'read'),
  W: flag(1, 'write'),
  IGN2: ignored(2, 2, 'ignored (once execute)'),
  A: flag(8, 'accessed, when SSADE=1'),
  IGN10: ignored(10, 10),
  IGN60_52: ignored(60, 52, 'available to software'),
  IGN61: ignored(61, 61),
  RSVD62: mbz(62, 62),
  IGN63: ignored(63, 63),
} as const;

const tableAttributes = {
  IGN6_3: ignored(6, 3),
  IGN9: ignored(9, 9),
  RSVD11: mbz(11, 11),
} as const;

const leafAttributes = {
  EMT: uint(5, 3, 'memory type, no effect'),
  IPAT: flag(6, 'ignore PAT, no effect'),
  D: flag(9, 'dirty, when SSADE=1'),
  SNP: flag(11, 'snoop; reserved when ECAP.SC=0'),
} as const;

/** SS-PML5E and SS-PML4E: always a table. */
export const SS_PML_ENTRY = defineLayout({
  name: 'SS_PML_ENTRY',
  bits: 64,
  spec: 'VT-d 9.9',
  doc: 'second-stage PML5 or PML4 entry; bit 7 is reserved',
  fields: {
    ...common,
    ...tableAttributes,
    RSVD7: mbz(7, 7),
    ADDR: addr(51, 12, 'next table, host physical'),
  },
});

/** SS-PDPE and SS-PDE that point to a table (PS=0). */
export const SS_TABLE_ENTRY = defineLayout({
  name: 'SS_TABLE_ENTRY',
  bits: 64,
  spec: 'VT-d 9.9',
  doc: 'second-stage directory entry pointing to a table',
  fields: {
    ...common,
    ...tableAttributes,
    PS: flag(7, 'page size: 0 = table'),
    ADDR: addr(51, 12, 'next table, host physical'),
  },
});

/** SS-PDE that maps 2 MiB (PS=1). */
export const SS_PDE_2M = defineLayout({
  name: 'SS_PDE_2M',
  bits: 64,
  spec: 'VT-d 9.9',
  doc: 'second-stage 2 MiB page; needs CAP.SSLPS[0]',
  fields: {
    ...common,
    ...leafAttributes,
    PS: flag(7, 'page size: 1 = page'),
    ADDR: addr(51, 21, 'page, host physical'),
  },
});

/** SS-PDPE that maps 1 GiB (PS=1). */
export const SS_PDPE_1G = defineLayout({
  name: 'SS_PDPE_1G',
  bits: 64,
  spec: 'VT-d 9.9',
  doc: 'second-stage 1 GiB page; needs CAP.SSLPS[1]',
  fields: {
    ...common,
    ...leafAttributes,
    PS: flag(7, 'page size: 1 = page'),
    ADDR: addr(51, 30, 'page, host physical'),
  },
});

/** SS-PTE: maps 4 KiB. */
export const SS_PTE = defineLayout({
  name: 'SS_PTE',
  bits: 64,
  spec: 'VT-d 9.9',
  doc: 'second-stage 4 KiB page; bit 7 is ignored',
  fields: {
    ...common,
    ...leafAttributes,
    IGN7: ignored(7, 7),
    ADDR: addr(51, 12, 'page, host physical'),
  },
});
