/**
 * The stage 2 of an STE: what is illegal, and what the walker needs.
 *
 * @spec SMMUv3 5.2.2 (validity of STE, stage 2)
 */
import type { Features } from './capabilities.ts';
import type { Stage2Config } from './configuration.ts';
import { TERMS } from './faults.ts';
import {
  granuleOfTg0,
  isStartLevelReserved,
  stage2StartLevel,
  startTableBytes,
} from './geometry.ts';
import { outputBitsOf, type SteFields } from './stream-entry-check.ts';

/** T0SZ without small translation tables, with them, and with them for 64K. */
const MAX_T0SZ = 39;
const MAX_T0SZ_SMALL = 48;
const MAX_T0SZ_SMALL_64K = 47;
const GRANULE_64K = 16;
/** MemAttr bits that are all 0 for device memory: with S2FWB one, else two. */
const DEVICE_MASK_FWB = 0b0100;
const DEVICE_MASK = 0b1100;

/** Largest TxSZ: the smallest input range. */
export const maxTsz = (granuleLg2: number, features: Features): number => {
  if (!features.smallTables) return MAX_T0SZ;
  return granuleLg2 === GRANULE_64K ? MAX_T0SZ_SMALL_64K : MAX_T0SZ_SMALL;
};

/** Whether byte order of tables may be asked for. */
export const isByteOrderLegal = (bigEndian: boolean, features: Features): boolean =>
  bigEndian ? features.bigEndian : features.littleEndian;

/** Stage 2 of an STE; undefined when a rule is broken. */
export const resolveStage2 = (ste: SteFields, features: Features): Stage2Config | undefined => {
  if (!areFlagsLegal(ste, features)) return undefined;
  const granuleLg2 = granuleOfTg0(ste.S2TG);
  if (granuleLg2 === undefined || !features.granules.includes(granuleLg2)) return undefined;
  const ds = ste.S2DS === 1 && features.ds && granuleLg2 !== GRANULE_64K;
  const wide = ds || (granuleLg2 === GRANULE_64K && features.oaBits === 52);
  const inputBits = 64 - ste.S2T0SZ;
  const smallest = Math.max(wide ? 12 : 16, 64 - features.oaBits);
  if (ste.S2T0SZ > maxTsz(granuleLg2, features) || ste.S2T0SZ < smallest) return undefined;
  const code = ste.S2SL0 | (ds && granuleLg2 === 12 ? ste.S2SL0_2 << 2 : 0);
  const { smallTables } = features;
  const startLevel = stage2StartLevel(granuleLg2, code, inputBits, { ds, smallTables });
  if (startLevel === undefined) return undefined;
  if (features.strictStartLevels && isStartLevelReserved(granuleLg2, startLevel, features.oaBits))
    return undefined;
  const outputBits = outputBitsOf(ste.S2PS, wide, features);
  if (ste.S2TTB >= 2 ** outputBits || !isByteOrderLegal(ste.S2ENDI === 1, features))
    return undefined;
  const align = Math.max(startTableBytes(granuleLg2, startLevel, inputBits), wide ? 64 : 16);
  return {
    root: ste.S2TTB - (ste.S2TTB % align),
    granuleLg2,
    startLevel,
    inputFrames: 2 ** (inputBits - 12),
    outputBytes: 2 ** outputBits,
    wide,
    bigEndian: ste.S2ENDI === 1,
    affd: ste.S2AFFD === 1,
    ha: ste.S2HA === 1,
    haft: ste.S2HAFT === 1 && features.httu === 3,
    // Dirty state without the access flag is unpredictable: this unit keeps it off.
    hd: ste.S2HD === 1 && ste.S2HA === 1,
    xnx: features.xnx,
    deviceMask: ste.S2FWB === 1 && features.forcedWriteBack ? DEVICE_MASK_FWB : DEVICE_MASK,
    protectWalks: ste.S2PTW === 1,
    terms: (ste.S2R === 1 ? TERMS.RECORD : 0) | (ste.S2S === 1 ? TERMS.STALL : 0),
  };
};

/** Format, stalling, access flag and dirty state. */
const areFlagsLegal = (ste: SteFields, features: Features): boolean => {
  if (ste.S2AA64 === 0) return false;
  if (ste.S2S === 1 ? !features.stalls : !features.terminates) return false;
  if (ste.S2HA === 1 && features.httu < 1) return false;
  if (ste.S2HD === 1 && features.httu < 2) return false;
  return !(ste.S2HAFT === 1 && features.httu === 3 && ste.S2HA === 0);
};
