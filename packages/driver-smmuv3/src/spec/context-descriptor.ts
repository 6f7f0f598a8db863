/**
 * Context descriptors (CD) and the level-1 descriptors of their tables.
 *
 * @spec SMMUv3 5.3, 5.4
 */
import { addr, defineLayout, flag, uint } from '@iommukit/bits';

/** Bytes of a CD, and of a level-1 descriptor. */
export const CD_BYTES = 64;
export const L1CD_BYTES = 8;

/** Level-1 context descriptor. */
export const L1CD = defineLayout({
  name: 'L1CD',
  bits: 64,
  spec: 'SMMUv3 5.3',
  doc: 'level 1 context descriptor',
  fields: { V: flag(0, 'valid'), L2PTR: addr(51, 12, 'context descriptors') },
});

/** Context descriptor. */
export const CD = defineLayout({
  name: 'CD',
  bits: 512,
  spec: 'SMMUv3 5.4',
  doc: 'context descriptor',
  fields: {
    T0SZ: uint(5, 0, '64 - input bits of TTB0'),
    TG0: uint(7, 6, 'granule: 0 4K, 1 64K, 2 16K'),
    IR0: uint(9, 8),
    OR0: uint(11, 10),
    SH0: uint(13, 12),
    EPD0: flag(14, 'no walks through TTB0'),
    ENDI: flag(15, 'big-endian tables'),
    T1SZ: uint(21, 16, '64 - input bits of TTB1'),
    TG1: uint(23, 22, 'granule: 1 16K, 2 4K, 3 64K'),
    IR1: uint(25, 24),
    OR1: uint(27, 26),
    SH1: uint(29, 28),
    EPD1: flag(30, 'no walks through TTB1'),
    V: flag(31, 'valid'),
    IPS: uint(34, 32, 'output size code'),
    AFFD: flag(35, 'no access flag faults'),
    WXN: flag(36, 'writable is not executable'),
    UWXN: flag(37),
    TBI0: flag(38, 'ignore the top byte, TTB0'),
    TBI1: flag(39, 'ignore the top byte, TTB1'),
    PAN: flag(40, 'privileged access never'),
    AA64: flag(41, 'AArch64 tables'),
    HD: flag(42, 'hardware updates the dirty state'),
    HA: flag(43, 'hardware updates the access flag'),
    S: flag(44, 'stall'),
    R: flag(45, 'record'),
    A: flag(46, 'abort'),
    ASET: flag(47, 'ASID set: 1 = private'),
    ASID: uint(63, 48, 'ASID'),
    NSCFG0: flag(64),
    HAD0: flag(65, 'ignore hierarchical permissions, TTB0'),
    E0PD0: flag(66, 'no user accesses through TTB0'),
    HAFT: flag(67, 'hardware updates the access flag of table descriptors'),
    TTB0: addr(115, 68, 'root of the lower half'),
    EPAN: flag(123, 'PAN counts for pages that users can only execute'),
    HWU: uint(127, 124),
    NSCFG1: flag(128),
    HAD1: flag(129, 'ignore hierarchical permissions, TTB1'),
    E0PD1: flag(130, 'no user accesses through TTB1'),
    TTB1: addr(179, 132, 'root of the upper half'),
    DS: flag(186, '52-bit addresses with 4K and 16K'),
    MAIR0: uint(223, 192),
    MAIR1: uint(255, 224),
    AMAIR: uint(319, 256),
    IMPDEF: uint(351, 320),
    PARTID: uint(367, 352),
    PMG: uint(375, 368),
  },
});
