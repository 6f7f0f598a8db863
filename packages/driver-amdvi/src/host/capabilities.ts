import { decode } from '@iommukit/bits';
import { refuse } from '@iommukit/core';
import { EFR, EFR2 } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

/** What the host half needs to know of a unit. */
export interface Capabilities {
  /** EFR and EFR2 as they are, u32 words, for hw_info. */
  readonly featureWords: readonly [number, number, number, number];
  /** Levels of host tables: 4, 5 or 6. */
  readonly hostLevels: number;
  /** Width of a host IOVA: 48, 57 or 64. */
  readonly iovaBits: number;
  /** Width of physical addresses, which firmware announces. */
  readonly hostAddressBits: number;
  /** INVALIDATE_IOMMU_ALL. */
  readonly invalidateAll: boolean;
}

/**
 * Read what a unit is.
 *
 * @throws {IommuError} ENODEV for a unit whose interrupt cannot be programmed through registers
 */
export const readCapabilities = (
  registers: RegisterFile,
  hostAddressBits: number,
): Capabilities => {
  const words = [EFR.offset, EFR.offset + 4, EFR2.offset, EFR2.offset + 4].map((offset) =>
    registers.readReg32(offset),
  ) as [number, number, number, number];
  const efr = decode(EFR, words);
  if (efr.MSI_CAP_MMIO_SUP === 0) {
    throw refuse(
      'ENODEV',
      'bring-up',
      'interrupt-registers',
      'the MSI capability of this unit is only in PCI configuration space',
      { accepted: 'a unit with EFR.MsiCapMmioSup' },
    );
  }
  const hostLevels = 4 + efr.HATS;
  return {
    featureWords: words,
    hostLevels,
    iovaBits: Math.min(12 + 9 * hostLevels, 64),
    hostAddressBits,
    invalidateAll: efr.IA_SUP === 1,
  };
};
