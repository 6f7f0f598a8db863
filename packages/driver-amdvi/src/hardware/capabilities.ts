/**
 * What a unit can do: feature registers and capability header in, plain numbers out.
 *
 * @spec AMD IOMMU 3.2 (capability block), 3.4.7 (EFR), 3.4.16 (EFR2)
 */
import { decode, hi32, lo32 } from '@iommukit/bits';
import { EFR, EFR2 } from '../spec/registers.ts';

/** The feature registers of a unit; a real machine's values give that machine. */
export interface AmdviCapabilities {
  /** EFR, 64 bits; default {@link DEFAULT_EFR}. */
  readonly efr?: bigint;
  /** EFR2, 64 bits; default {@link DEFAULT_EFR2}. */
  readonly efr2?: bigint;
  /** Capability header IotlbSup: ATS and INVALIDATE_IOTLB_PAGES; default false. */
  readonly iotlbSup?: boolean;
  /** Capability header NpCache: software must expect cached absence; only announced. */
  readonly npCache?: boolean;
  /** MiscInfo0.PAsize: width of physical addresses, 40 to 52; default 52. */
  readonly physicalAddressBits?: number;
}

/** INVALIDATE_IOMMU_ALL, six host levels, eight segments, MSI in MMIO, accessed and dirty bits. */
export const DEFAULT_EFR = 0x0012_40c0_0000_0840n;

/** The HyperTransport region is ordinary memory. */
export const DEFAULT_EFR2 = 0x800n;

/**
 * Everything that this model does,: guest tables of five levels and three
 * GCR3 levels, 20-bit PASIDs, page requests with automatic responses and early warning, prefetch,
 * x2APIC interrupts, hardware error registers, and what {@link DEFAULT_EFR} has.
 */
export const FULL_EFR = 0x2077_53f3_2200_99dfn;

/** {@link DEFAULT_EFR2} and GCR3 tables at guest physical addresses. */
export const FULL_EFR2 = 0x808n;

/** The capabilities as plain numbers and booleans. */
export interface Features {
  readonly efrLo: number;
  readonly efrHi: number;
  readonly efr2Lo: number;
  readonly efr2Hi: number;
  /** Host table levels: 4, 5 or 6; 0 = no host tables. */
  readonly hostLevels: number;
  /** lg2 of the device table segments. */
  readonly segmentsLg2: number;
  readonly invalidateAll: boolean;
  readonly accessed: boolean;
  readonly dirty: boolean;
  readonly msiInMmio: boolean;
  /** GTSup: guest tables, GCR3 tables, PASIDs. */
  readonly guestTables: boolean;
  /** Levels of guest tables: 4 or 5. */
  readonly guestLevels: number;
  /** Largest DTE.GLX: GCR3 levels - 1. */
  readonly glx: number;
  /** Width of a PASID; 0 without guest tables. */
  readonly pasidBits: number;
  readonly guestIov: boolean;
  readonly noExecute: boolean;
  readonly userChecks: boolean;
  readonly pageRequests: boolean;
  readonly prefetch: boolean;
  readonly iotlbSup: boolean;
  readonly npCache: boolean;
  readonly iotlbTypes: boolean;
  readonly secureAts: boolean;
  readonly vIommu: boolean;
  readonly hardwareErrors: boolean;
  readonly guestApic: boolean;
  readonly smiFilters: number;
  readonly marcs: boolean;
  /** 0 = one event log, 1 = two, 2 = two that swap when full. */
  readonly dualEventLog: number;
  readonly dualPprLog: number;
  readonly pprAutoResponse: boolean;
  readonly pprOverflowEarly: boolean;
  readonly x2apic: boolean;
  /** FD_0000_0000h to FF_FFFF_FFFFh is ordinary memory. */
  readonly htRangeIgnore: boolean;
  readonly physicalAddressBits: number;
}

const DEFAULT_PHYSICAL_BITS = 52;

/**
 * @throws {RangeError} for reserved codes of HATS, GATS, GLXSup and the dual logs, and impossible
 *   address widths
 */
export const resolveFeatures = (capabilities: AmdviCapabilities = {}): Features => {
  const efr = capabilities.efr ?? DEFAULT_EFR;
  const efr2 = capabilities.efr2 ?? DEFAULT_EFR2;
  const fields = decode(EFR, [lo32(efr), hi32(efr)]);
  const more = decode(EFR2, [lo32(efr2), hi32(efr2)]);
  checkCodes(fields);
  const guestTables = fields.GT_SUP === 1;
  return {
    efrLo: lo32(efr),
    efrHi: hi32(efr),
    efr2Lo: lo32(efr2),
    efr2Hi: hi32(efr2),
    hostLevels: fields.HATS === 3 ? 0 : 4 + fields.HATS,
    segmentsLg2: fields.DEV_TBL_SEG_SUP,
    invalidateAll: fields.IA_SUP === 1,
    accessed: fields.HA_SUP === 1,
    dirty: fields.HD_SUP === 1,
    msiInMmio: fields.MSI_CAP_MMIO_SUP === 1,
    guestTables,
    guestLevels: 4 + fields.GATS,
    glx: fields.GLX_SUP,
    pasidBits: guestTables ? Math.min(fields.PAS_MAX + 1, 20) : 0,
    guestIov: fields.GIO_SUP === 1,
    noExecute: fields.NX_SUP === 1,
    userChecks: fields.US_SUP === 1,
    pageRequests: fields.PPR_SUP === 1,
    prefetch: fields.PREF_SUP === 1,
    iotlbSup: capabilities.iotlbSup ?? false,
    npCache: capabilities.npCache ?? false,
    iotlbTypes: fields.INV_IOTLB_TYPE_SUP === 1,
    secureAts: fields.SATS_SUP === 1,
    vIommu: fields.VIOMMU_SUP === 1,
    hardwareErrors: fields.HE_SUP === 1,
    guestApic: fields.GA_SUP === 1,
    smiFilters: fields.SMI_F_SUP === 0 ? 0 : 2 ** Math.min(fields.SMI_FRC, 4),
    marcs: fields.MARC_SUP !== 0,
    dualEventLog: fields.DUAL_EVENT_LOG_SUP,
    dualPprLog: fields.DUAL_PPR_LOG_SUP,
    pprAutoResponse: fields.PPR_AUTO_RSP_SUP === 1,
    pprOverflowEarly: fields.PPR_OVRFLW_EARLY_SUP === 1,
    x2apic: fields.XT_SUP === 1,
    htRangeIgnore: more.HT_RANGE_IGNORE === 1,
    physicalAddressBits: checkedWidth(capabilities.physicalAddressBits),
  };
};

/** Codes without a meaning, by field of EFR: the largest that has one. */
const LARGEST_CODE = { GATS: 1, GLX_SUP: 2, DUAL_PPR_LOG_SUP: 2, DUAL_EVENT_LOG_SUP: 2 } as const;

const checkCodes = (fields: Readonly<Record<keyof typeof LARGEST_CODE, number>>): void => {
  for (const [name, largest] of Object.entries(LARGEST_CODE)) {
    const code = fields[name as keyof typeof LARGEST_CODE];
    if (code > largest)
      throw new RangeError(`EFR.${name} ${code} is reserved: use 0 to ${largest}`);
  }
};

const checkedWidth = (bits = DEFAULT_PHYSICAL_BITS): number => {
  if (Number.isInteger(bits) && bits >= 40 && bits <= 52) return bits;
  throw new RangeError(`physicalAddressBits ${bits}: expected 40 to 52`);
};
