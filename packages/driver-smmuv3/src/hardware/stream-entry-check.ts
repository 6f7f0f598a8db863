/**
 * The rules an STE must obey, in the specification's order.
 *
 * @spec SMMUv3 5.2.2 (validity of STE)
 */
import { decode } from '@iommukit/bits';
import { EATS, S1_FMT, STE, STE_CONFIG } from '../spec/stream-table-entry.ts';
import { ADDRESS_BITS, type Features } from './capabilities.ts';
import type { Stage2Config, StreamConfig } from './configuration.ts';
import { granuleOfTg0, stage2StartLevel, startTableBytes } from './geometry.ts';

const decodeSte = (words: ArrayLike<number>) => decode(STE, words);
type SteFields = ReturnType<typeof decodeSte>;

const USES_S1 = 1;
const USES_S2 = 2;
const ENABLED = 4;
const RESERVED_EATS = 3;
/** S2T0SZ without small translation tables. */
const MAX_T0SZ = 39;

const BAD: StreamConfig = {
  bad: true,
  config: STE_CONFIG.ABORT,
  vmid: 0,
  stage2: undefined,
  cdTable: 0,
  cdMax: 0,
  cdFormat: S1_FMT.LINEAR,
  defaultSubstream: 0,
  eats: EATS.OFF,
  answersWithPasid: false,
};

const ABORT: StreamConfig = { ...BAD, bad: false };

/** Decode an STE of 16 dwords. */
export const resolveStreamEntry = (words: ArrayLike<number>, features: Features): StreamConfig => {
  const ste = decodeSte(words);
  if (ste.V === 0) return BAD;
  if ((ste.CONFIG & ENABLED) === 0) return ABORT;
  const usesS1 = (ste.CONFIG & USES_S1) !== 0;
  const usesS2 = (ste.CONFIG & USES_S2) !== 0;
  if ((usesS1 && !features.stage1) || (usesS2 && !features.stage2)) return BAD;
  if (!isAtsLegal(ste, features)) return BAD;
  if (usesS1 && !isStage1Legal(ste, usesS2, features)) return BAD;
  const stage2 = usesS2 ? resolveStage2(ste, features) : undefined;
  if (usesS2 && stage2 === undefined) return BAD;
  if (ste.CONFIG !== STE_CONFIG.BYPASS && features.stage2) {
    if (ste.S2VMID > 0xff && !features.vmid16) return BAD;
  }
  const substreams = features.ssidBits > 0;
  return {
    bad: false,
    config: ste.CONFIG,
    vmid: features.stage2 ? ste.S2VMID : 0,
    stage2,
    cdTable: ste.S1CONTEXTPTR,
    cdMax: substreams ? ste.S1CDMAX : 0,
    cdFormat: ste.S1FMT === 3 ? S1_FMT.LINEAR : ste.S1FMT,
    defaultSubstream: ste.S1DSS,
    eats: features.ats && ste.EATS !== RESERVED_EATS ? ste.EATS : EATS.OFF,
    answersWithPasid: ste.PPAR === 1,
  };
};

/** Rules 3 and 4: split-stage ATS and stalls at stage 2. */
const isAtsLegal = (ste: SteFields, { ats, splitStageAts }: Features): boolean => {
  if (!ats || ste.CONFIG === STE_CONFIG.BYPASS) return true;
  if (ste.EATS === EATS.SPLIT_STAGE) {
    return ste.CONFIG === STE_CONFIG.NESTED && ste.S2S === 0 && splitStageAts;
  }
  return !(ste.EATS === EATS.FULL && (ste.CONFIG & USES_S2) !== 0 && ste.S2S === 1);
};

const isStage1Legal = (ste: SteFields, nested: boolean, features: Features): boolean => {
  // Stalling is not offered (STALL_MODEL 1): forbidding it is an error.
  if (ste.S1STALLD === 1) return false;
  if (features.ssidBits > 0) {
    if (ste.S1CDMAX > features.ssidBits) return false;
    const twoLevel = ste.S1FMT === S1_FMT.TWO_LEVEL_4K || ste.S1FMT === S1_FMT.TWO_LEVEL_64K;
    if (ste.S1CDMAX > 0 && twoLevel && !features.cdTwoLevel) return false;
  }
  // An IPA beyond the range faults at stage 2 as well; both answers are allowed there.
  return nested || ste.S1CONTEXTPTR < 2 ** features.oaBits;
};

/** Stage 2 of an STE; undefined when a rule is broken. */
const resolveStage2 = (ste: SteFields, features: Features): Stage2Config | undefined => {
  if (ste.S2S === 1 || ste.S2AA64 === 0 || ste.S2HA === 1 || ste.S2HD === 1) return undefined;
  const granuleLg2 = granuleOfTg0(ste.S2TG);
  if (granuleLg2 === undefined || !features.granules.includes(granuleLg2)) return undefined;
  const wide = granuleLg2 === 16 && features.oaBits === 52;
  const smallest = Math.max(wide ? 12 : 16, 64 - features.oaBits);
  if (ste.S2T0SZ > MAX_T0SZ || ste.S2T0SZ < smallest) return undefined;
  const inputBits = 64 - ste.S2T0SZ;
  const startLevel =
    ste.S2SL0_2 === 1 ? undefined : stage2StartLevel(granuleLg2, ste.S2SL0, inputBits);
  if (startLevel === undefined || ste.S2DS === 1 || ste.S2ENDI === 1) return undefined;
  const outputBits = outputBitsOf(ste.S2PS, wide, features);
  if (ste.S2TTB >= 2 ** outputBits) return undefined;
  const align = startTableBytes(granuleLg2, startLevel, inputBits);
  return {
    root: ste.S2TTB - (ste.S2TTB % align),
    granuleLg2,
    startLevel,
    inputFrames: 2 ** (inputBits - 12),
    outputBytes: 2 ** outputBits,
    wide,
    affd: ste.S2AFFD === 1,
    protectWalks: ste.S2PTW === 1,
    record: ste.S2R === 1,
  };
};

/**
 * Effective output size of an IPS or S2PS code: capped by OAS, and by 48 bits unless the granule
 * has room for more.
 */
export const outputBitsOf = (code: number, wide: boolean, features: Features): number =>
  Math.min(ADDRESS_BITS[code] ?? 52, features.oaBits, wide ? 52 : 48);
