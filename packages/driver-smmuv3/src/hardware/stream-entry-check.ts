/**
 * The rules an STE must obey, in the specification's order.
 *
 * @spec SMMUv3 5.2.2 (validity of STE)
 */
import { decode } from '@iommukit/bits';
import { EATS, S1_FMT, STE, STE_CONFIG, STRW } from '../spec/stream-table-entry.ts';
import { addressBits, type Features } from './capabilities.ts';
import type { StreamConfig } from './configuration.ts';
import { hasReservedBits } from './reserved-bits.ts';
import { resolveStage2 } from './stage2-check.ts';

const decodeSte = (words: ArrayLike<number>) => decode(STE, words);
/** An STE's fields. */
export type SteFields = ReturnType<typeof decodeSte>;

const USES_S1 = 1;
const USES_S2 = 2;
const ENABLED = 4;
const RESERVED_EATS = 3;

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
  world: 0,
  stage1NeverStalls: false,
  privilegeOverride: 0,
  instructionOverride: 0,
};

const ABORT: StreamConfig = { ...BAD, bad: false };

/** Decode an STE of 16 dwords. */
export const resolveStreamEntry = (words: ArrayLike<number>, features: Features): StreamConfig => {
  const ste = decodeSte(words);
  if (ste.V === 0) return BAD;
  if ((ste.CONFIG & ENABLED) === 0) return ABORT;
  if (features.strictReserved && hasReservedBits(STE, words)) return BAD;
  const usesS1 = (ste.CONFIG & USES_S1) !== 0;
  const usesS2 = (ste.CONFIG & USES_S2) !== 0;
  if ((usesS1 && !features.stage1) || (usesS2 && !features.stage2)) return BAD;
  if (!isAtsLegal(ste, features)) return BAD;
  if (usesS1 && !isStage1Legal(ste, usesS2, features)) return BAD;
  const stage2 = usesS2 ? resolveStage2(ste, features) : undefined;
  if (usesS2 && stage2 === undefined) return BAD;
  const el2 = ste.CONFIG === STE_CONFIG.S1 && features.hyp && ste.STRW === STRW.EL2;
  const hasVmid = features.stage2 && ste.CONFIG !== STE_CONFIG.BYPASS && !el2;
  if (hasVmid && ste.S2VMID > 0xff && !features.vmid16) return BAD;
  const substreams = features.ssidBits > 0;
  return {
    bad: false,
    config: ste.CONFIG,
    vmid: hasVmid ? ste.S2VMID : 0,
    stage2,
    cdTable: ste.S1CONTEXTPTR,
    cdMax: substreams ? ste.S1CDMAX : 0,
    cdFormat: ste.S1FMT === 3 ? S1_FMT.LINEAR : ste.S1FMT,
    defaultSubstream: ste.S1DSS,
    eats: features.ats && ste.EATS !== RESERVED_EATS ? ste.EATS : EATS.OFF,
    answersWithPasid: ste.PPAR === 1,
    world: el2 ? STRW.EL2 : STRW.NS_EL1,
    stage1NeverStalls: ste.S1STALLD === 1,
    privilegeOverride: features.overridesPermissions ? ste.PRIVCFG : 0,
    instructionOverride: features.overridesPermissions ? ste.INSTCFG : 0,
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
  if (!nested && features.hyp && ste.STRW % 2 === 1) return false;
  if (ste.S1STALLD === 1 && !features.stallIsOptional) return false;
  if (features.ssidBits > 0) {
    if (ste.S1CDMAX > features.ssidBits) return false;
    const twoLevel = ste.S1FMT === S1_FMT.TWO_LEVEL_4K || ste.S1FMT === S1_FMT.TWO_LEVEL_64K;
    if (ste.S1CDMAX > 0 && twoLevel && !features.cdTwoLevel) return false;
  }
  // An IPA beyond the range faults at stage 2 as well; both answers are allowed there.
  return nested || ste.S1CONTEXTPTR < 2 ** features.oaBits;
};

/**
 * Effective output size of an IPS or S2PS code: capped by OAS, and by 48 bits unless descriptors
 * have room for more.
 */
export const outputBitsOf = (code: number, wide: boolean, features: Features): number =>
  Math.min(addressBits(code, features.version), features.oaBits, wide ? 52 : 48);
