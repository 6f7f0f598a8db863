/**
 * Rules about requests that need no state: what access bits ask for, and the interrupt range.
 */
import { ACCESS, ATS_STATUS, type AtsCompletion } from '@iommukit/core';
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { REQUEST_TYPE } from './fault-recording.ts';
import { TLB } from './iotlb.ts';
import { RIGHT } from './second-stage-walker.ts';
import { ADDRESS_TYPE, INTERRUPT_RANGE, type TranslationRequest } from './translation-request.ts';

const EXEC_NEED = 1 << 30;
const { READ, WRITE, EXEC, ATOMIC, ZERO_LENGTH } = ACCESS;

/** What an IOTLB entry must offer for each combination of access bits. */
export function needTable(zeroLengthRead: boolean): Int32Array {
  return Int32Array.from({ length: 128 }, (_, access) => {
    const { want, write } = wantOf(access, zeroLengthRead);
    const exec = (access & EXEC) !== 0 ? EXEC_NEED : 0;
    return TLB.GOOD | want | (write ? TLB.CLEAN_WRITE : 0) | exec;
  });
}

function wantOf(access: number, zeroLengthRead: boolean): { want: number; write: boolean } {
  if ((access & ATOMIC) !== 0) return { want: RIGHT.R | RIGHT.W, write: true };
  const write = (access & WRITE) !== 0;
  if ((access & ZERO_LENGTH) !== 0 && !write)
    return { want: zeroLengthRead ? 0 : RIGHT.R, write: false };
  const read = (access & READ) !== 0 || !write;
  return { want: (read ? RIGHT.R : 0) | (write ? RIGHT.W : 0), write };
}

/** T1 and T2 of a request. */
export function requestType(access: number): number {
  if ((access & ATOMIC) !== 0) return REQUEST_TYPE.ATOMIC;
  return (access & WRITE) !== 0 ? REQUEST_TYPE.WRITE : REQUEST_TYPE.READ;
}

/** FEEx_xxxxh. */
export const inInterruptRange = (pfn: number) =>
  pfn >= INTERRUPT_RANGE.FIRST_PFN && pfn <= INTERRUPT_RANGE.LAST_PFN;

/** An empty completion: Unsupported Request. */
export function clearCompletion(completion: AtsCompletion): void {
  completion.status = ATS_STATUS.UNSUPPORTED_REQUEST;
  completion.pfn = 0;
  completion.sizeLg2 = 12;
  completion.read = 0;
  completion.write = 0;
  completion.exec = 0;
  completion.priv = 0;
  completion.global = 0;
  completion.untranslatedOnly = 0;
  completion.noSnoop = 0;
}

function overlaps(pfn: number, frames: number): boolean {
  const first = pfn - (pfn % frames);
  return first <= INTERRUPT_RANGE.LAST_PFN && first + frames > INTERRUPT_RANGE.FIRST_PFN;
}

/** A large page whose input or result meets the interrupt address range. */
export function touchesInterruptRange(
  target: number,
  input: number,
  sizeLg2: number,
  untagged: boolean,
): boolean {
  const frames = 2 ** (sizeLg2 - 12);
  return overlaps(target, frames) || (untagged && overlaps(input, frames));
}

/** A kept legacy permission fault is told as the present request's kind. */
export function samePermission(reason: number, access: number): number {
  const R = FAULT_REASON;
  if (reason === R.LEGACY_WRITE || reason === R.LEGACY_READ)
    return (access & (WRITE | ATOMIC)) !== 0 ? R.LEGACY_WRITE : R.LEGACY_READ;
  return reason;
}

/** An empty request, to be filled and reused. */
export const createTranslationRequest = (): TranslationRequest => ({
  rid: 0,
  pasid: -1,
  pfn: 0,
  want: 0,
  write: false,
  blameWrite: false,
  priv: false,
  exec: false,
  addressType: ADDRESS_TYPE.UNTRANSLATED,
});
