/**
 * PASID directory and PASID table entries.
 *
 * @spec VT-d 9.5 (directory entry), 9.6 (table entry)
 */
import { addr, defineLayout, enumeration, flag, ignored, uint } from '@iommukit/bits';
import { ADDRESS_WIDTH } from './context-entry.ts';

/** PASID granular translation types. */
export const PGTT = {
  FIRST_STAGE: 1,
  SECOND_STAGE: 2,
  NESTED: 3,
  PASS_THROUGH: 4,
} as const;

/** First-stage paging modes. */
export const FSPM = { LEVEL4: 0, LEVEL5: 1 } as const;

/** PASID directory entry, 64 bits, index PASID[19:6]. */
export const PASID_DIR_ENTRY = defineLayout({
  name: 'PASID_DIR_ENTRY',
  bits: 64,
  spec: 'VT-d 9.5',
  doc: 'scalable-mode PASID directory entry, index = PASID[19:6]',
  fields: {
    P: flag(0, 'present'),
    FPD: flag(1, 'fault processing disable'),
    SMPTBLPTR: addr(63, 12, 'PASID table of 64 entries, host physical'),
  },
});

/** PASID table entry, 512 bits, index PASID[5:0]. */
export const PASID_ENTRY = defineLayout({
  name: 'PASID_ENTRY',
  bits: 512,
  spec: 'VT-d 9.6',
  doc: 'scalable-mode PASID table entry, index = PASID[5:0]',
  fields: {
    P: flag(0, 'present'),
    FPD: flag(1, 'fault processing disable'),
    AW: enumeration(4, 2, ADDRESS_WIDTH, 'second-stage address width; ignored for PGTT 1 and 4'),
    PGTT: enumeration(8, 6, PGTT, 'PASID granular translation type'),
    SSADE: flag(9, 'second-stage accessed/dirty enable; ignored for PGTT 1 and 4'),
    SSPTPTR: addr(63, 12, 'second-stage table, host physical; ignored for PGTT 1 and 4'),
    DID: uint(79, 64, 'domain id'),
    PWSNP: flag(87, 'page walks are snooped'),
    PGSNP: flag(88, 'page accesses are snooped'),
    CD: flag(89, 'cache disable'),
    EMTE: flag(90, 'extended memory type enable'),
    PAT: uint(127, 96, 'page attribute table'),
    SRE: flag(128, 'supervisor requests are served'),
    FSPM: enumeration(131, 130, FSPM, 'first-stage paging mode'),
    WPE: flag(132, 'write protect: supervisor writes need R/W; ignored for PGTT 2 and 4'),
    IGN: ignored(134, 133, 'ignored (once NXE, SMEP)'),
    EAFE: flag(135, 'extended accessed flag enable'),
    FSPTPTR: addr(191, 140, 'first-stage table: host physical (PGTT 1) or guest physical (PGTT 3)'),
    HPTSZ: uint(257, 256, 'host permission table size'),
    HPTPFD: flag(258, 'host permission table prefetch disable'),
    HPTPTR: addr(319, 268, 'host permission table'),
    HPTDID: uint(335, 320, 'host permission table domain id'),
  },
});
