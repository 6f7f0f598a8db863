/**
 * What the registers say, in the form in which requests need it.
 *
 * @spec SMMUv3 6.3
 */
import { decode } from '@iommukit/bits';
import * as spec from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import type { RegisterBank } from './register-bank.ts';
import type { UnitState } from './unit-state.ts';

/** Bring `state` up to date after a register was written. GBPA.Update is done with that. */
export const loadState = (bank: RegisterBank, state: UnitState, features: Features): void => {
  const { SMMUEN, ATSCHK, VMW } = decode(spec.CR0, bank.words(spec.CR0));
  const cr2 = decode(spec.CR2, bank.words(spec.CR2));
  state.enabled = SMMUEN === 1;
  state.checkTranslated = ATSCHK === 1;
  state.vmidWildcardBits = VMW <= spec.MAX_VMW ? VMW : 0;
  state.e2h = cr2.E2H === 1;
  state.recordInvalidStreams = cr2.RECINVSID === 1;
  state.recordAtsErrors = cr2.REC_CFG_ATS === 1;
  const gbpa = bank.words(spec.GBPA);
  gbpa[0] = (gbpa[0] as number) & ~spec.GBPA.fields.UPDATE.mask;
  state.bypassAborts = decode(spec.GBPA, gbpa).ABORT === 1;
  loadStreamTable(bank, state, features);
};

const loadStreamTable = (bank: RegisterBank, state: UnitState, features: Features): void => {
  const { ADDR } = decode(spec.STRTAB_BASE, bank.words(spec.STRTAB_BASE));
  const config = decode(spec.STRTAB_BASE_CFG, bank.words(spec.STRTAB_BASE_CFG));
  const sidBits = Math.min(config.LOG2SIZE, features.sidBits);
  const { SPLIT, FMT, LOG2SIZE } = config;
  state.streamCount = 2 ** sidBits;
  state.streamTwoLevel = features.streamTwoLevel && FMT === spec.STRTAB_FMT.TWO_LEVEL;
  state.streamSplit = SPLIT === 8 || SPLIT === 10 ? SPLIT : 6;
  const tableLg2 = state.streamTwoLevel
    ? Math.max(6, LOG2SIZE - state.streamSplit + 3)
    : LOG2SIZE + 6;
  state.streamTable = ADDR - (ADDR % 2 ** tableLg2);
};
