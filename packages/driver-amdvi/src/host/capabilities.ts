import { decode } from '@iommukit/bits';
import { refuse } from '@iommukit/core';
import { EFR, EFR2 } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

/** What firmware announces of a unit, and its registers do not say. */
export interface Firmware {
  /** Width of physical addresses, bits. */
  readonly hostAddressBits: number;
  /** IotlbSup of the capability header and the IVHD: devices may keep translations (ATS). */
  readonly iotlbSup: boolean;
  /** NpCache: entries that are not present are cached too, so that new mappings need a flush. */
  readonly npCache: boolean;
}

/** What the host half needs to know of a unit. */
export interface Capabilities extends Firmware {
  /** EFR and EFR2 as they are, u32 words, for hw_info. */
  readonly featureWords: readonly [number, number, number, number];
  /** Levels of host tables: 4, 5 or 6; 0 = none. */
  readonly hostLevels: number;
  /** Width of a host IOVA: 48, 57 or 64; 0 without host tables. */
  readonly iovaBits: number;
  /** INVALIDATE_IOMMU_ALL. */
  readonly invalidateAll: boolean;
  /** HDSup: dirty bits of host tables. */
  readonly dirty: boolean;
  /** GTSup: guest tables, GCR3, INVALIDATE with GN. */
  readonly guestTables: boolean;
  /** GIoSup: requests without PASID can go through guest tables. */
  readonly guestIo: boolean;
  /** Levels of guest tables of this host: 4 or 5. */
  readonly guestLevels: 4 | 5;
  /** Most levels of a GCR3 table: 1, 2 or 3. */
  readonly gcr3Levels: number;
  /** Width of a PASID that PASMax and GLXSup both reach; 0 without guest tables. */
  readonly pasidBits: number;
  /** PPRSup: page requests. */
  readonly pageRequests: boolean;
  /** EPHSup: enhanced handling of page requests. */
  readonly enhancedPageRequests: boolean;
  /** GCR3TRPModeSup: a guest's GCR3 root pointer can stay the guest-physical address it is. */
  readonly guestRootPointers: boolean;
  /** HtRangeIgnore: the HyperTransport window is ordinary memory. */
  readonly htRangeIgnore: boolean;
}

/** EFR.HATS of a unit without host tables. */
const NO_HOST_TABLES = 3;
const PASID_BITS_PER_LEVEL = 9;
const MAX_PASID_BITS = 20;

/**
 * Read what a unit is.
 *
 * @throws {IommuError} ENODEV for a unit whose interrupt cannot be programmed through registers
 */
export const readCapabilities = (registers: RegisterFile, firmware: Firmware): Capabilities => {
  const words = [EFR.offset, EFR.offset + 4, EFR2.offset, EFR2.offset + 4].map((offset) =>
    registers.readReg32(offset),
  ) as [number, number, number, number];
  const efr = decode(EFR, words);
  const efr2 = decode(EFR2, words.slice(2));
  if (efr.MSI_CAP_MMIO_SUP === 0) {
    throw refuse(
      'ENODEV',
      'bring-up',
      'interrupt-registers',
      'the MSI capability of this unit is only in PCI configuration space',
      { accepted: 'a unit with EFR.MsiCapMmioSup' },
    );
  }
  const hostLevels = efr.HATS === NO_HOST_TABLES ? 0 : 4 + efr.HATS;
  const guestTables = efr.GT_SUP === 1;
  const gcr3Levels = Math.min(efr.GLX_SUP, 2) + 1;
  const reach = Math.min(PASID_BITS_PER_LEVEL * gcr3Levels, MAX_PASID_BITS);
  return {
    ...firmware,
    featureWords: words,
    hostLevels,
    iovaBits: hostLevels === 0 ? 0 : Math.min(12 + 9 * hostLevels, 64),
    invalidateAll: efr.IA_SUP === 1,
    dirty: efr.HD_SUP === 1 && hostLevels > 0,
    guestTables,
    guestIo: efr.GIO_SUP === 1,
    guestLevels: efr.GATS === 1 ? 5 : 4,
    gcr3Levels,
    pasidBits: guestTables ? Math.min(efr.PAS_MAX + 1, reach) : 0,
    pageRequests: efr.PPR_SUP === 1,
    enhancedPageRequests: efr.EPH_SUP === 1,
    guestRootPointers: efr2.GCR3_TRP_MODE_SUP === 1,
    htRangeIgnore: efr2.HT_RANGE_IGNORE === 1,
  };
};

/**
 * Guest (v2) tables as tables of the host.
 *
 * @linux drivers/iommu/amd/init.c (amd_iommu_v2_pgtbl_supported)
 */
export const hasGuestDomains = (caps: Capabilities): boolean => caps.guestTables && caps.guestIo;

/**
 * PASIDs of the host.
 *
 * @linux drivers/iommu/amd/init.c (amd_iommu_pasid_supported, amd_iommu_gt_ppr_supported)
 */
export const hasPasids = (caps: Capabilities): boolean =>
  caps.guestTables && caps.pageRequests && caps.enhancedPageRequests;

/**
 * Guest tables over host tables.
 *
 * @linux drivers/iommu/amd/iommu.c (is_nest_parent_supported)
 */
export const nests = (caps: Capabilities): boolean =>
  caps.hostLevels > 0 && caps.guestTables && caps.guestIo && caps.guestRootPointers;
