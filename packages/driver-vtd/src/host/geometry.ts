/**
 * Widths, levels and page sizes of the tables that a unit can walk.
 *
 * @spec VT-d 3.6, 3.7, 11.4.2
 * @linux drivers/iommu/intel/iommu.c (compute_vasz_lg2_fs, compute_vasz_lg2_ss)
 */
import type { Capabilities } from './capabilities.ts';

/** Shape of a page table. */
export interface Geometry {
  /** 3, 4 or 5. */
  readonly levels: number;
  /** Width of the IOVA that may be mapped, bits. */
  readonly iovaBits: number;
  /** Page sizes, lg2 of bytes, ascending. */
  readonly pageSizesLg2: readonly number[];
}

/** SAGAW bits: 39-bit with 3 levels, 48 with 4, 57 with 5. */
const SAGAW = { THREE: 2, FOUR: 4, FIVE: 8 } as const;

const pageSizes = (with2M: boolean, with1G: boolean, smallOnly: boolean): number[] => {
  const sizes = [12];
  if (with2M && !smallOnly) sizes.push(21);
  if (with1G && !smallOnly) sizes.push(30);
  return sizes;
};

/**
 * Shape of a first-stage table: 57 bits with 5 levels where both the unit and the address width
 * reach that far, else 48 with 4. The format sign-extends, so the usable half has a bit less.
 */
export const firstStageGeometry = (caps: Capabilities, smallOnly: boolean): Geometry => {
  const five = caps.guestAddressBits > 48 && caps.cap.FS5LP === 1;
  const widthBits = Math.min(five ? 57 : 48, caps.guestAddressBits);
  return {
    levels: five ? 5 : 4,
    iovaBits: widthBits - 1,
    pageSizesLg2: pageSizes(true, caps.cap.FS1GP === 1, smallOnly),
  };
};

/**
 * Shape of a second-stage table; undefined when the unit supports no width that is of use.
 * MGAW limits the IOVA, not the walk: a table may have more levels than its IOVA needs.
 */
export const secondStageGeometry = (
  caps: Capabilities,
  smallOnly: boolean,
): Geometry | undefined => {
  const { SAGAW: sagaw, SSLPS: sslps } = caps.cap;
  const pageSizesLg2 = pageSizes((sslps & 1) !== 0, (sslps & 2) !== 0, smallOnly);
  const mgaw = caps.guestAddressBits;
  if (mgaw > 48 && sagaw & SAGAW.FIVE) {
    return { levels: 5, iovaBits: Math.min(57, mgaw), pageSizesLg2 };
  }
  if (mgaw > 39 && sagaw >= SAGAW.FOUR) {
    return { levels: sagaw & SAGAW.FIVE ? 5 : 4, iovaBits: Math.min(48, mgaw), pageSizesLg2 };
  }
  if (mgaw > 30 && sagaw >= SAGAW.THREE) {
    return { levels: threeLevelFallback(sagaw), iovaBits: Math.min(39, mgaw), pageSizesLg2 };
  }
  return undefined;
};

const threeLevelFallback = (sagaw: number): number => {
  if (sagaw === SAGAW.THREE) return 3;
  return sagaw & SAGAW.FOUR ? 4 : 5;
};

/** AW code of a second-stage table (1 = 3 levels). */
export const addressWidthCode = (levels: number): number => levels - 2;

/** AW code of the widest second stage that a unit walks; pass-through entries of legacy mode carry it. */
export const widestAddressWidthCode = (sagaw: number): number => 31 - Math.clz32(sagaw);
