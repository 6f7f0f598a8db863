/**
 * Stream table: level-1 descriptors and entries (STE).
 *
 * @spec SMMUv3 5.1, 5.2
 */
import { addr, defineLayout, enumeration, flag, uint } from '@iommukit/bits';

/** Bytes of an STE, and of a level-1 descriptor. */
export const STE_BYTES = 64;
export const L1STD_BYTES = 8;

/** Level-1 stream table descriptor. */
export const L1STD = defineLayout({
  name: 'L1STD',
  bits: 64,
  spec: 'SMMUv3 5.1',
  doc: 'level 1 stream table descriptor',
  fields: {
    SPAN: uint(4, 0, '2^(Span - 1) entries; 0 = none'),
    L2PTR: addr(51, 6, 'entries'),
  },
});

/** STE.Config: 0 to 3 abort. */
export const STE_CONFIG = { ABORT: 0, BYPASS: 4, S1: 5, S2: 6, NESTED: 7 } as const;
/** STE.STRW, for Config 5: odd values are illegal. */
export const STRW = { NS_EL1: 0, EL2: 2 } as const;
/** STE.S1Fmt. */
export const S1_FMT = { LINEAR: 0, TWO_LEVEL_4K: 1, TWO_LEVEL_64K: 2 } as const;
/** STE.EATS: what ATS requests get; 3 acts as 0. */
export const EATS = { OFF: 0, FULL: 1, SPLIT_STAGE: 2 } as const;
/** STE.S1DSS: requests without SubstreamID where there are substreams. */
export const S1_DSS = { TERMINATE: 0, BYPASS: 1, SSID0: 2 } as const;

/** Stream table entry. */
export const STE = defineLayout({
  name: 'STE',
  bits: 512,
  spec: 'SMMUv3 5.2',
  doc: 'stream table entry',
  fields: {
    V: flag(0, 'valid'),
    CONFIG: enumeration(3, 1, STE_CONFIG, 'what is translated'),
    S1FMT: enumeration(5, 4, S1_FMT, 'CD table format'),
    S1CONTEXTPTR: addr(51, 6, 'CD or CD table'),
    S1CDMAX: uint(63, 59, 'lg2 of CDs'),
    S1DSS: enumeration(65, 64, S1_DSS, 'requests without SubstreamID'),
    S1CIR: uint(67, 66),
    S1COR: uint(69, 68),
    S1CSH: uint(71, 70),
    S2HWU: uint(75, 72),
    DRE: flag(76),
    CONT: uint(80, 77, 'contiguous entries, hint'),
    DCP: flag(81),
    PPAR: flag(82),
    MEV: flag(83, 'events may be merged'),
    SW: uint(87, 84, 'for software'),
    S2FWB: flag(89, 'forced write-back attributes'),
    S1MPAM: flag(90),
    S1STALLD: flag(91, 'stage 1 must not stall'),
    EATS: enumeration(93, 92, EATS, 'what ATS requests get'),
    STRW: uint(95, 94, 'stream world: 0 EL1, 2 EL2'),
    MEMATTR: uint(99, 96),
    MTCFG: flag(100),
    ALLOCCFG: uint(104, 101),
    SHCFG: uint(109, 108, '1 = use incoming'),
    NSCFG: uint(111, 110),
    PRIVCFG: uint(113, 112),
    INSTCFG: uint(115, 114),
    S2VMID: uint(143, 128, 'VMID'),
    S2T0SZ: uint(165, 160, '64 - IPA bits'),
    S2SL0: uint(167, 166, 'start level code'),
    S2IR0: uint(169, 168),
    S2OR0: uint(171, 170),
    S2SH0: uint(173, 172),
    S2TG: uint(175, 174, 'granule: 0 4K, 1 64K, 2 16K'),
    S2PS: uint(178, 176, 'output size code'),
    S2AA64: flag(179, 'AArch64 tables'),
    S2ENDI: flag(180, 'big-endian tables'),
    S2AFFD: flag(181, 'no access flag faults'),
    S2PTW: flag(182, 'table walks must not hit device memory'),
    S2HD: flag(183, 'hardware updates the dirty state'),
    S2HA: flag(184, 'hardware updates the access flag'),
    S2S: flag(185, 'stall stage 2 faults'),
    S2R: flag(186, 'record stage 2 faults'),
    S2HAFT: flag(187, 'hardware updates the access flag of table descriptors'),
    S2SL0_2: flag(194, 'start level -1, with S2SL0 0'),
    S2DS: flag(195, '52-bit addresses with 4K and 16K'),
    S2TTB: addr(243, 196, 'stage 2 root'),
  },
});
