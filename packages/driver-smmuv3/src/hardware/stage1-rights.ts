/**
 * What a stage-1 leaf permits, to user and privileged accesses.
 *
 * @spec Arm ARM D8.4 (EL1&0, EL2&0 and EL2 regimes); SMMUv3 5.4 (PAN, EPAN, WXN, E0PD)
 */
import { S1_LEAF, TABLE_DESCRIPTOR } from '../spec/translation-descriptor.ts';
import { type Stage1Config, type Stage1Half, WORLD } from './configuration.ts';
import { PRIVILEGED_SHIFT, RIGHT } from './stage2-walker.ts';

const AP1 = S1_LEAF.fields.AP1.mask;
const AP2 = S1_LEAF.fields.AP2.mask;
const PXN = S1_LEAF.fields.PXN.mask;
const UXN = S1_LEAF.fields.UXN.mask;
const PXN_TABLE = TABLE_DESCRIPTOR.fields.PXN_TABLE.mask;
const XN_TABLE = TABLE_DESCRIPTOR.fields.XN_TABLE.mask;
const NO_EL0_TABLE = 1 << TABLE_DESCRIPTOR.fields.AP_TABLE.shift;
/** APTable[1] in the high dword of a table descriptor. */
export const READ_ONLY_TABLE = 2 << TABLE_DESCRIPTOR.fields.AP_TABLE.shift;
/** Bits of table descriptors that the leaf inherits. */
export const INHERITED = PXN_TABLE | XN_TABLE | NO_EL0_TABLE | READ_ONLY_TABLE | 0;
const USER_RIGHTS = (1 << PRIVILEGED_SHIFT) - 1;

/**
 * Rights of a leaf: user in bits 2:0, privileged in 5:3. @hot
 *
 * @param lo the leaf's low dword, AP[2] clear where hardware may make it dirty
 * @param inherited what the table descriptors above take away
 */
export const stage1Rights = (
  config: Stage1Config,
  half: Stage1Half,
  lo: number,
  hi: number,
  inherited: number,
): number => {
  const writable = (lo & AP2) === 0 && (inherited & READ_ONLY_TABLE) === 0;
  const data = writable ? RIGHT.READ | RIGHT.WRITE : RIGHT.READ;
  const executeNever = (hi & UXN) !== 0 || (inherited & XN_TABLE) !== 0 || (config.wxn && writable);
  if (config.world === WORLD.EL2) {
    const rights = executeNever ? data : data | RIGHT.EXEC;
    return rights | (rights << PRIVILEGED_SHIFT);
  }
  const el0 = (lo & AP1) !== 0 && (inherited & NO_EL0_TABLE) === 0;
  let user = el0 ? data : 0;
  if (el0 && !executeNever) user |= RIGHT.EXEC;
  const guarded = config.pan && (el0 || (config.epan && !executeNever));
  let privileged = guarded ? 0 : data;
  if (mayPrivilegedExecute(config, hi, inherited, writable, el0)) privileged |= RIGHT.EXEC;
  return (half.e0pd ? 0 : user & USER_RIGHTS) | (privileged << PRIVILEGED_SHIFT);
};

/** Pages that users can write are never for privileged code. */
const mayPrivilegedExecute = (
  config: Stage1Config,
  hi: number,
  inherited: number,
  writable: boolean,
  el0: boolean,
): boolean => {
  if ((hi & PXN) !== 0 || (inherited & PXN_TABLE) !== 0) return false;
  return !(writable && (el0 || config.wxn));
};
