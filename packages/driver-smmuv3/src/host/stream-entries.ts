/**
 * The stream table entries that the driver writes, 16 u32 words each.
 *
 * @spec SMMUv3 5.2
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_make_abort_ste and its neighbours)
 */
import { encode } from '@iommukit/bits';
import type { PageTable } from '@iommukit/pgtable-fast';
import { EATS, S1_DSS, STE, STE_CONFIG, STRW } from '../spec/stream-table-entry.ts';
import { type Capabilities, stallIsOptional } from './capabilities.ts';
import type { CdTable } from './cd-table.ts';

/** SHCFG: shareability as it comes in. */
const USE_INCOMING = 1;
/** Walk and fetch attributes: inner and outer write-back, inner shareable. */
const WRITE_BACK = 1;
const INNER_SHAREABLE = 3;
/** S2SL0 of 4K tables by start level 0, 1, 2. */
const SL0_OF_START = [2, 1, 0] as const;

/** Aborts silently; where nobody is attached. */
export const ABORT_ENTRY = encode(STE, { V: 1, CONFIG: STE_CONFIG.ABORT });

/** Lets everything through as it is. */
export const BYPASS_ENTRY = encode(STE, {
  V: 1,
  CONFIG: STE_CONFIG.BYPASS,
  SHCFG: USE_INCOMING,
});

/** What the entries of one device have in common. */
export interface StreamTraits {
  /** The device keeps translations, and may ask for them. */
  readonly ats: boolean;
  /** Faults of the device may stall. */
  readonly stall: boolean;
}

/**
 * Stage 1 through a table of context descriptors.
 *
 * @param defaultSubstream {@link S1_DSS}: what becomes of requests without SubstreamID
 */
export const cdTableEntry = (
  caps: Capabilities,
  table: CdTable,
  { ats, stall }: StreamTraits,
  defaultSubstream: number,
): Uint32Array =>
  encode(STE, {
    V: 1,
    CONFIG: STE_CONFIG.S1,
    S1FMT: table.format,
    S1CONTEXTPTR: table.pa,
    S1CDMAX: table.ssidBits,
    S1DSS: defaultSubstream,
    S1CIR: WRITE_BACK,
    S1COR: WRITE_BACK,
    S1CSH: INNER_SHAREABLE,
    S1STALLD: stallIsOptional(caps) && !stall ? 1 : 0,
    EATS: ats ? EATS.FULL : EATS.OFF,
    STRW: caps.e2h ? STRW.EL2 : STRW.NS_EL1,
    SHCFG: defaultSubstream === S1_DSS.BYPASS ? USE_INCOMING : 0,
  });

/** A stage 2 of the host alone. */
export const stage2Entry = (
  caps: Capabilities,
  table: PageTable,
  vmid: number,
  forcedWriteBack: boolean,
  { ats, stall }: StreamTraits,
): Uint32Array =>
  encode(STE, {
    V: 1,
    CONFIG: STE_CONFIG.S2,
    SHCFG: USE_INCOMING,
    S2FWB: forcedWriteBack ? 1 : 0,
    EATS: ats ? EATS.FULL : EATS.OFF,
    S2VMID: vmid,
    S2T0SZ: 64 - table.iovaBits,
    S2SL0: SL0_OF_START[4 - table.levels] ?? 0,
    S2IR0: WRITE_BACK,
    S2OR0: WRITE_BACK,
    S2SH0: INNER_SHAREABLE,
    S2PS: caps.oaCode,
    S2AA64: 1,
    S2PTW: 1,
    S2S: stall ? 1 : 0,
    S2R: 1,
    S2TTB: table.rootPa,
  });
