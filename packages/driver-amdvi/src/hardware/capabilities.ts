/**
 * What a unit can do: EFR and EFR2 in, plain numbers out.
 *
 * @spec AMD IOMMU 3.4.7
 */
import { decode, hex, hi32, lo32 } from '@iommukit/bits';
import { EFR, EFR2 } from '../spec/registers.ts';

/** The feature registers of a unit. */
export interface AmdviCapabilities {
  /** 64 bits; default {@link DEFAULT_EFR}. */
  readonly efr?: bigint;
  /** 64 bits; default {@link DEFAULT_EFR2}. */
  readonly efr2?: bigint;
}

/** INVALIDATE_IOMMU_ALL, six host levels, eight segments, MSI in MMIO, accessed and dirty bits. */
export const DEFAULT_EFR = 0x0012_40c0_0000_0840n;

/** The HyperTransport region is ordinary memory. */
export const DEFAULT_EFR2 = 0x800n;

/** EFR bits that this model knows how to be; any other bit is refused. */
const MODELLED_EFR = 0x0012_40c0_0000_0c40n;
const MODELLED_EFR2 = 0x800n;

/** The capabilities as plain numbers and booleans. */
export interface Features {
  readonly efrLo: number;
  readonly efrHi: number;
  readonly efr2Lo: number;
  readonly efr2Hi: number;
  /** Host table levels: 4, 5 or 6. */
  readonly hostLevels: number;
  /** lg2 of the device table segments. */
  readonly segmentsLg2: number;
  readonly invalidateAll: boolean;
  readonly accessed: boolean;
  readonly dirty: boolean;
  readonly msiInMmio: boolean;
}

/**
 * @throws {RangeError} for a feature that the model does not have, or a reserved level count
 */
export const resolveFeatures = (capabilities: AmdviCapabilities = {}): Features => {
  const efr = capabilities.efr ?? DEFAULT_EFR;
  const efr2 = capabilities.efr2 ?? DEFAULT_EFR2;
  refuseUnknown('EFR', efr, MODELLED_EFR);
  refuseUnknown('EFR2', efr2, MODELLED_EFR2);
  const fields = decode(EFR, [lo32(efr), hi32(efr)]);
  if (fields.HATS === 3) {
    throw new RangeError('EFR.HATS 3 is reserved: use 0, 1 or 2 for 4, 5 or 6 host levels');
  }
  if (decode(EFR2, [lo32(efr2), hi32(efr2)]).HT_RANGE_IGNORE === 0) {
    throw new RangeError(
      'EFR2.HT_RANGE_IGNORE must be 1: the HyperTransport region is not modelled',
    );
  }
  return {
    efrLo: lo32(efr),
    efrHi: hi32(efr),
    efr2Lo: lo32(efr2),
    efr2Hi: hi32(efr2),
    hostLevels: 4 + fields.HATS,
    segmentsLg2: fields.DEV_TBL_SEG_SUP,
    invalidateAll: fields.IA_SUP === 1,
    accessed: fields.HA_SUP === 1,
    dirty: fields.HD_SUP === 1,
    msiInMmio: fields.MSI_CAP_MMIO_SUP === 1,
  };
};

const refuseUnknown = (name: string, value: bigint, known: bigint): void => {
  const unknown = value & ~known;
  if (unknown === 0n) return;
  throw new RangeError(
    `${name} ${hex(value)} announces features that are not modelled (bits ${hex(unknown)}): ` +
      `use bits of ${hex(known)}`,
  );
};
