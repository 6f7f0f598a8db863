/**
 * The rules a CD must obey, in the specification's order.
 *
 * @spec SMMUv3 5.4.1 (validity of CD)
 */
import { decode } from '@iommukit/bits';
import { CD } from '../spec/context-descriptor.ts';
import { STRW } from '../spec/stream-table-entry.ts';
import type { Features } from './capabilities.ts';
import { type Stage1Config, type Stage1Half, WORLD } from './configuration.ts';
import { TERMS } from './faults.ts';
import { granuleOfTg0, granuleOfTg1, stage1StartLevel, startTableBytes } from './geometry.ts';
import { hasReservedBits } from './reserved-bits.ts';
import { isByteOrderLegal, maxTsz } from './stage2-check.ts';
import { outputBitsOf } from './stream-entry-check.ts';

const decodeCd = (words: ArrayLike<number>) => decode(CD, words);
type CdFields = ReturnType<typeof decodeCd>;

const GRANULE_64K = 16;
/** The ASID of contexts in a world without ASIDs. */
const NO_ASID = -1;

const BAD: Stage1Config = {
  bad: true,
  world: WORLD.NS_EL1,
  asid: 0,
  aset: 0,
  lower: undefined,
  upper: undefined,
  outputBytes: 0,
  bigEndian: false,
  affd: false,
  ha: false,
  haft: false,
  hd: false,
  wxn: false,
  pan: false,
  epan: false,
  tbi0: false,
  tbi1: false,
  terms: TERMS.RECORD,
};

interface HalfFields {
  readonly disabled: boolean;
  readonly tsz: number;
  readonly granuleLg2: number | undefined;
  readonly root: number;
  readonly had: boolean;
  readonly e0pd: boolean;
}

/** What the stream of a CD says about it. */
export interface ContextStream {
  /** STRW. */
  readonly world: number;
  /** S1STALLD. */
  readonly stage1NeverStalls: boolean;
}

const EL1_STREAM: ContextStream = { world: STRW.NS_EL1, stage1NeverStalls: false };

/**
 * Decode a CD of 16 dwords.
 *
 * @param e2h CR2.E2H: which world EL2 streams are in
 */
export const resolveContextDescriptor = (
  words: ArrayLike<number>,
  features: Features,
  stream: ContextStream = EL1_STREAM,
  e2h = false,
): Stage1Config => {
  const cd = decodeCd(words);
  if (cd.V === 0) return BAD;
  if (features.strictReserved && hasReservedBits(CD, words)) return BAD;
  const world = worldOf(stream, e2h);
  const oneHalf = world === WORLD.EL2;
  if (!areTermsLegal(cd, stream, features)) return BAD;
  const off = { lower: !oneHalf && cd.EPD0 === 1, upper: oneHalf || cd.EPD1 === 1 };
  if (!(off.lower && off.upper) && !isByteOrderLegal(cd.ENDI === 1, features)) return BAD;
  if (cd.AA64 === 0 || !areUpdatesLegal(cd, features)) return BAD;
  if (!oneHalf && cd.ASID > 0xff && !features.asid16) return BAD;
  const lower = resolveHalf(lowerFields(cd, off.lower), cd, features, oneHalf);
  const upper = resolveHalf(upperFields(cd, off.upper), cd, features, oneHalf);
  if (lower === 'bad' || upper === 'bad') return BAD;
  return {
    bad: false,
    world,
    asid: oneHalf ? NO_ASID : cd.ASID,
    aset: cd.ASET,
    lower,
    upper,
    outputBytes: 2 ** outputBitsOf(cd.IPS, true, features),
    bigEndian: cd.ENDI === 1,
    affd: cd.AFFD === 1,
    ha: cd.HA === 1,
    haft: cd.HAFT === 1 && features.httu === 3,
    // Dirty state without the access flag is unpredictable: this unit keeps it off.
    hd: cd.HD === 1 && cd.HA === 1,
    wxn: cd.WXN === 1,
    pan: cd.PAN === 1,
    epan: cd.EPAN === 1 && features.epan,
    tbi0: cd.TBI0 === 1,
    tbi1: cd.TBI1 === 1,
    terms: termsOf(cd),
  };
};

const worldOf = (stream: ContextStream, e2h: boolean): number => {
  if (stream.world !== STRW.EL2) return WORLD.NS_EL1;
  return e2h ? WORLD.EL2_E2H : WORLD.EL2;
};

/** A, R and S. */
const termsOf = (cd: CdFields): number => {
  const record = cd.R === 1 ? TERMS.RECORD : 0;
  if (cd.S === 1) return record | TERMS.STALL;
  return cd.A === 0 ? record | TERMS.RAZ_WI : record;
};

const areTermsLegal = (cd: CdFields, stream: ContextStream, features: Features): boolean => {
  if (stream.stage1NeverStalls && cd.S === 1) return false;
  if (features.abortsOnly && cd.A === 0) return false;
  return cd.S === 1 ? features.stalls : features.terminates;
};

const areUpdatesLegal = (cd: CdFields, features: Features): boolean => {
  if (cd.HA === 1 && features.httu < 1) return false;
  if (cd.HD === 1 && features.httu < 2) return false;
  return !(cd.HAFT === 1 && features.httu === 3 && cd.HA === 0);
};

const lowerFields = (cd: CdFields, disabled: boolean): HalfFields => ({
  disabled,
  tsz: cd.T0SZ,
  granuleLg2: granuleOfTg0(cd.TG0),
  root: cd.TTB0,
  had: cd.HAD0 === 1,
  e0pd: cd.E0PD0 === 1,
});

const upperFields = (cd: CdFields, disabled: boolean): HalfFields => ({
  disabled,
  tsz: cd.T1SZ,
  granuleLg2: granuleOfTg1(cd.TG1),
  root: cd.TTB1,
  had: cd.HAD1 === 1,
  e0pd: cd.E0PD1 === 1,
});

/** One half; undefined when it is switched off and nothing of it is checked. */
const resolveHalf = (
  half: HalfFields,
  cd: CdFields,
  features: Features,
  onePrivilege: boolean,
): Stage1Half | undefined | 'bad' => {
  if (half.disabled) return undefined;
  const { granuleLg2, tsz, root } = half;
  if (granuleLg2 === undefined || !features.granules.includes(granuleLg2)) return 'bad';
  const ds = cd.DS === 1 && features.ds && granuleLg2 !== GRANULE_64K;
  const smallest = features.va52 && (ds || granuleLg2 === GRANULE_64K) ? 12 : 16;
  if (tsz < smallest || tsz > maxTsz(granuleLg2, features)) return 'bad';
  const wide = ds || (granuleLg2 === GRANULE_64K && features.oaBits === 52);
  if (root >= 2 ** outputBitsOf(cd.IPS, wide, features)) return 'bad';
  const inputBits = 64 - tsz;
  const startLevel = stage1StartLevel(granuleLg2, inputBits);
  const align = Math.max(startTableBytes(granuleLg2, startLevel, inputBits), wide ? 64 : 16);
  return {
    root: root - (root % align),
    granuleLg2,
    startLevel,
    inputFrames: 2 ** (inputBits - 12),
    wide,
    had: half.had && features.had,
    e0pd: half.e0pd && features.e0pd && !onePrivilege,
  };
};
