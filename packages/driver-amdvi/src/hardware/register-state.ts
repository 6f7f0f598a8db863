/**
 * From registers to {@link UnitState}: what their bits mean to translation, logs and commands.
 *
 * @spec AMD IOMMU 3.4
 */
import { decode } from '@iommukit/bits';
import * as spec from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import type { RegisterBank } from './register-bank.ts';
import { absentControl, SEGMENTS } from './register-map.ts';
import type { UnitState } from './unit-state.ts';

const PAGE_BYTES = 4096;

/** Control as fields. */
export type ControlFields = ReturnType<typeof readControl>;

/** Decode Control. */
export const readControl = (bank: RegisterBank) => decode(spec.CONTROL, bank.words(spec.CONTROL));

/** Bits of absent features read back 0, and so does a segment count that the unit does not have. */
export const maskControl = (bank: RegisterBank, features: Features): void => {
  const words = bank.words(spec.CONTROL);
  const [lo, hi] = absentControl(features);
  words[0] = (words[0] as number) & ~lo;
  words[1] = (words[1] as number) & ~hi;
  if (readControl(bank).DEV_TBL_SEG_EN <= features.segmentsLg2) return;
  words[1] = (words[1] as number) & ~spec.CONTROL.fields.DEV_TBL_SEG_EN.mask;
};

/** Take over everything but the Run bits. */
export const reloadState = (bank: RegisterBank, features: Features, state: UnitState): void => {
  const control = readControl(bank);
  state.htRange = !features.htRangeIgnore;
  reloadSwitches(control, state);
  reloadDeviceTable(bank, control, state);
  reloadExclusion(bank, state);
  state.fast = state.enabled && !state.exclusion;
};

const reloadSwitches = (control: ControlFields, state: UnitState): void => {
  state.enabled = control.IOMMU_EN === 1;
  state.eventInterrupt = control.EVENT_INT_EN === 1;
  state.waitInterrupt = control.COM_WAIT_INT_EN === 1;
  state.pprInterrupt = control.PPR_INT_EN === 1;
  state.guestTables = control.GT_EN === 1;
  state.guestGcr3 = control.GCR3_TRP_MODE === 1;
  state.guestAccessed = control.GA_UPDATE_DIS === 0;
  state.guestDirty = control.GD_UPDATE_DIS === 0;
  state.pageRequests = control.PPR_EN === 1;
  state.pprLogEnabled = control.PPR_LOG_EN === 1;
  state.blockStopMarkers = control.BLK_STOP_MRK_EN === 1;
  state.autoResponse = control.PPR_AUTO_RSP_EN === 1;
  state.autoResponseAlways = control.PPR_AUTO_RSP_AON === 1;
  state.invalidationTimesOut = (spec.INV_TIME_OUT_MS[control.INV_TIME_OUT] ?? 0) > 0;
};

const reloadDeviceTable = (bank: RegisterBank, control: ControlFields, state: UnitState): void => {
  state.segmentsLg2 = control.DEV_TBL_SEG_EN;
  SEGMENTS.forEach((register, segment) => {
    const { BASE, SIZE } = decode(register, bank.words(register));
    state.segmentBase[segment] = BASE;
    state.segmentBytes[segment] = (SIZE + 1) * PAGE_BYTES;
  });
};

const reloadExclusion = (bank: RegisterBank, state: UnitState): void => {
  const excluded = decode(spec.EXCL_BASE, bank.words(spec.EXCL_BASE));
  const { LIMIT } = decode(spec.EXCL_LIMIT, bank.words(spec.EXCL_LIMIT));
  state.exclusion = excluded.EX_EN === 1;
  state.exclusionForAll = excluded.ALLOW === 1;
  state.exclusionFirstPfn = excluded.BASE / PAGE_BYTES;
  state.exclusionLastPfn = LIMIT / PAGE_BYTES;
};
