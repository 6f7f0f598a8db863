/**
 * Entries of the VT-d second-stage page table.
 * @spec VT-d 9.8
 * @module
 */
import { addr, defineLayout, flag, ignored, uint } from '@iommukit/bits';

const ACCESS = {
  R: flag(0, 'read; R = W = 0 is not present'),
  W: flag(1, 'write'),
};

const LEAF = {
  ...ACCESS,
  IGN_2: ignored(2, 2),
  EMT: uint(5, 3, 'extended memory type; used with EMTE'),
  IPAT: flag(6, 'ignore PAT; used with EMTE'),
  A: flag(8, 'accessed; used with SSADE'),
  D: flag(9, 'dirty; used with SSADE'),
  IGN_10: ignored(10, 10),
  SNP: flag(11, 'snoop; reserved without snoop control'),
  IGN_60_52: ignored(60, 52),
  IGN_61: ignored(61, 61),
  IGN_63: ignored(63, 63),
};

/** Entry that points to a table. */
export const SS_TABLE = defineLayout({
  name: 'SS_TABLE',
  bits: 64,
  spec: 'VT-d 9.8',
  doc: 'second-stage PML5E, PML4E, PDPE or PDE that references a table',
  fields: {
    ...ACCESS,
    IGN_6_2: ignored(6, 2),
    PS: flag(7, 'page size: 0'),
    A: flag(8, 'accessed; used with SSADE'),
    IGN_10_9: ignored(10, 9),
    ADDR: addr(51, 12, 'table'),
    IGN_60_52: ignored(60, 52),
    IGN_61: ignored(61, 61),
    IGN_63: ignored(63, 63),
  },
});

/** 4 KiB leaf. */
export const SS_PTE = defineLayout({
  name: 'SS_PTE',
  bits: 64,
  spec: 'VT-d 9.8',
  doc: 'second-stage PTE: 4 KiB page',
  fields: { ...LEAF, IGN_7: ignored(7, 7), ADDR: addr(51, 12, 'page') },
});

/** 2 MiB leaf. */
export const SS_PDE_2M = defineLayout({
  name: 'SS_PDE_2M',
  bits: 64,
  spec: 'VT-d 9.8',
  doc: 'second-stage PDE: 2 MiB page',
  fields: { ...LEAF, PS: flag(7, 'page size: 1'), ADDR: addr(51, 21, 'page') },
});

/** 1 GiB leaf. */
export const SS_PDPE_1G = defineLayout({
  name: 'SS_PDPE_1G',
  bits: 64,
  spec: 'VT-d 9.8',
  doc: 'second-stage PDPE: 1 GiB page',
  fields: { ...LEAF, PS: flag(7, 'page size: 1'), ADDR: addr(51, 30, 'page') },
});
