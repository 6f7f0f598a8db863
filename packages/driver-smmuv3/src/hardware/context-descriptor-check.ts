/**
 * The rules a CD must obey, in the specification's order.
 *
 * @spec SMMUv3 5.4.1 (validity of CD)
 */
import { decode } from '@iommukit/bits';
import { CD } from '../spec/context-descriptor.ts';
import type { Features } from './capabilities.ts';
import type { Stage1Config, Stage1Half } from './configuration.ts';
import { granuleOfTg0, granuleOfTg1, stage1StartLevel, startTableBytes } from './geometry.ts';
import { outputBitsOf } from './stream-entry-check.ts';

const MAX_TSZ = 39;

const BAD: Stage1Config = {
  bad: true,
  asid: 0,
  aset: 0,
  lower: undefined,
  upper: undefined,
  outputBytes: 0,
  affd: false,
  wxn: false,
  pan: false,
  tbi0: false,
  tbi1: false,
  record: true,
};

interface HalfFields {
  readonly disabled: boolean;
  readonly tsz: number;
  readonly granuleLg2: number | undefined;
  readonly root: number;
  readonly had: boolean;
}

/** Decode a CD of 16 dwords. */
export const resolveContextDescriptor = (
  words: ArrayLike<number>,
  features: Features,
): Stage1Config => {
  const cd = decode(CD, words);
  if (cd.V === 0) return BAD;
  // The unit terminates only (STALL_MODEL 1), by abort only (TERM_MODEL 1).
  if (cd.A === 0 || cd.S === 1) return BAD;
  if (cd.ENDI === 1 && !(cd.EPD0 === 1 && cd.EPD1 === 1)) return BAD;
  if (cd.AA64 === 0 || cd.HA === 1 || cd.HD === 1 || cd.HAFT === 1) return BAD;
  if (cd.ASID > 0xff && !features.asid16) return BAD;
  const lower = resolveHalf(
    {
      disabled: cd.EPD0 === 1,
      tsz: cd.T0SZ,
      granuleLg2: granuleOfTg0(cd.TG0),
      root: cd.TTB0,
      had: cd.HAD0 === 1,
    },
    cd.IPS,
    features,
  );
  const upper = resolveHalf(
    {
      disabled: cd.EPD1 === 1,
      tsz: cd.T1SZ,
      granuleLg2: granuleOfTg1(cd.TG1),
      root: cd.TTB1,
      had: cd.HAD1 === 1,
    },
    cd.IPS,
    features,
  );
  if (lower === 'bad' || upper === 'bad') return BAD;
  return {
    bad: false,
    asid: cd.ASID,
    aset: cd.ASET,
    lower,
    upper,
    outputBytes: 2 ** outputBitsOf(cd.IPS, true, features),
    affd: cd.AFFD === 1,
    wxn: cd.WXN === 1,
    pan: cd.PAN === 1,
    tbi0: cd.TBI0 === 1,
    tbi1: cd.TBI1 === 1,
    record: cd.R === 1,
  };
};

/** One half; undefined when it is switched off and nothing of it is checked. */
const resolveHalf = (
  half: HalfFields,
  ips: number,
  features: Features,
): Stage1Half | undefined | 'bad' => {
  if (half.disabled) return undefined;
  const { granuleLg2, tsz, root } = half;
  if (granuleLg2 === undefined || !features.granules.includes(granuleLg2)) return 'bad';
  const smallest = granuleLg2 === 16 && features.va52 ? 12 : 16;
  if (tsz < smallest || tsz > MAX_TSZ) return 'bad';
  const wide = granuleLg2 === 16 && features.oaBits === 52;
  if (root >= 2 ** outputBitsOf(ips, wide, features)) return 'bad';
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
  };
};
