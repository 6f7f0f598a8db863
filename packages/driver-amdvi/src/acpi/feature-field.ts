import { decode, defineLayout, encode, flag, u64, uint } from '@iommukit/bits';
import { EFR } from '../spec/feature-registers.ts';
import { IVHD_FLAG } from './structures.ts';

/** The feature field of an IVHD of type 10h: what firmware says of a unit in place of EFR. */
const FEATURES = defineLayout({
  name: 'IVHD_FEATURES',
  bits: 32,
  spec: 'AMD IOMMU 5.2.2.1',
  doc: 'IVHD type 10h, feature reporting',
  fields: {
    XT_SUP: flag(0),
    NX_SUP: flag(1),
    GT_SUP: flag(2),
    GLX_SUP: uint(4, 3),
    IA_SUP: flag(5),
    GA_SUP: flag(6),
    HE_SUP: flag(7),
    PAS_MAX: uint(12, 8),
    PN_COUNTERS: uint(16, 13),
    PN_BANKS: uint(22, 17),
    MSI_NUM_PPR: uint(27, 23),
    GATS: uint(29, 28),
    HATS: uint(31, 30),
  },
});

/**
 * EFR as the feature field and the flags of a block of type 10h describe it. The message registers
 * (MsiCapMmioSup) are added: this driver sends no configuration cycles.
 *
 * @param features 32 bits
 * @param flags sum of `IVHD_FLAG` bits
 */
export const efrOfFeatures = (features: number, flags: number): bigint => {
  const { PN_COUNTERS, PN_BANKS, MSI_NUM_PPR, ...same } = decode(FEATURES, [features]);
  const [lo = 0, hi = 0] = encode(EFR, {
    ...same,
    PC_SUP: PN_COUNTERS > 0 && PN_BANKS > 0 ? 1 : 0,
    PREF_SUP: (flags & IVHD_FLAG.PREF_SUP) === 0 ? 0 : 1,
    PPR_SUP: (flags & IVHD_FLAG.PPR_SUP) === 0 ? 0 : 1,
    MSI_CAP_MMIO_SUP: 1,
  });
  return u64(lo, hi);
};
