/**
 * Context table entries: one per function.
 *
 * @spec VT-d 9.3 (context entry), 9.4 (scalable-mode context entry)
 */
import { addr, defineLayout, enumeration, flag, ignored, uint } from '@iommukit/bits';

/** Translation types of a legacy context entry. */
export const CONTEXT_TT = {
  /** Untranslated requests through the second stage; ATS refused. */
  UNTRANSLATED_ONLY: 0,
  /** As above, and translation and translated requests are served. */
  ATS: 1,
  /** Address passes unchanged. */
  PASS_THROUGH: 2,
} as const;

/** Address widths (field AW): levels of the second stage are the value plus two. */
export const ADDRESS_WIDTH = { W39: 1, W48: 2, W57: 3 } as const;

/** Legacy context entry, 128 bits, index = devfn. */
export const CONTEXT_ENTRY = defineLayout({
  name: 'CONTEXT_ENTRY',
  bits: 128,
  spec: 'VT-d 9.3',
  doc: 'legacy-mode context entry, index = devfn',
  fields: {
    P: flag(0, 'present'),
    FPD: flag(1, 'fault processing disable, honoured also when P=0'),
    TT: enumeration(3, 2, CONTEXT_TT, 'translation type'),
    SSPTPTR: addr(63, 12, 'second-stage table, host physical'),
    AW: enumeration(66, 64, ADDRESS_WIDTH, 'second-stage address width'),
    IGN: ignored(70, 67, 'available to software'),
    DID: uint(87, 72, 'domain id'),
  },
});

/** Scalable-mode context entry, 256 bits, index = devfn modulo 128. */
export const SM_CONTEXT_ENTRY = defineLayout({
  name: 'SM_CONTEXT_ENTRY',
  bits: 256,
  spec: 'VT-d 9.4',
  doc: 'scalable-mode context entry, index = devfn modulo 128',
  fields: {
    P: flag(0, 'present'),
    FPD: flag(1, 'fault processing disable, honoured also when P=0'),
    DTE: flag(2, 'device-TLB enable: translation and translated requests are served'),
    PASIDE: flag(3, 'requests with PASID are served'),
    PRE: flag(4, 'page requests are served'),
    HPTE: flag(5, 'host permission table enable'),
    EPTR: flag(6, 'translated requests with PASID are served'),
    PDTS: uint(11, 9, 'directory size: 2^(PDTS+7) entries, PASIDs below 2^(PDTS+13)'),
    PASIDDIRPTR: addr(63, 12, 'PASID directory, host physical'),
    RID_PASID: uint(83, 64, 'PASID of requests without PASID'),
    RID_PRIV: flag(84, 'requests without PASID are privileged'),
  },
});
