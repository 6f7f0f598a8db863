/**
 * Address checks and fault reasons that depend on nothing but the request.
 *
 * @spec VT-d 3.6 (canonical addresses), 3.9 (pass-through), 7.1.3
 */
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { SS_FAIL } from './second-stage-walker.ts';
import { INTERRUPT_RANGE } from './translation-request.ts';

const PASS_THROUGH_LG2 = 30;
const ALL_FRAMES = 2 ** 52;
const HALF_57_FRAMES = 2 ** 44;
const HALF_48_FRAMES = 2 ** 35;

/** Legacy reasons of second-stage failures: an empty entry is a missing permission. */
export function legacyReason(failed: number, blameWrite: boolean): number {
  if (failed === SS_FAIL.ROOT_ACCESS) return FAULT_REASON.LEGACY_CONTEXT_INVALID;
  if (failed === SS_FAIL.ACCESS) return FAULT_REASON.LEGACY_PAGING_ACCESS;
  if (failed === SS_FAIL.RESERVED) return FAULT_REASON.LEGACY_PAGING_RESERVED;
  if (failed === SS_FAIL.NO_READ) return FAULT_REASON.LEGACY_READ;
  if (failed === SS_FAIL.NO_WRITE) return FAULT_REASON.LEGACY_WRITE;
  return blameWrite ? FAULT_REASON.LEGACY_WRITE : FAULT_REASON.LEGACY_READ;
}

/** Whether bits 63:N-1 of an address are all equal. */
export function isCanonical(pfn: number, level5: boolean): boolean {
  return level5
    ? pfn < HALF_57_FRAMES || pfn >= ALL_FRAMES - HALF_57_FRAMES
    : pfn < HALF_48_FRAMES || pfn >= ALL_FRAMES - HALF_48_FRAMES;
}

/** Largest of 1 GiB, 2 MiB, 4 KiB around a frame that stays clear of the interrupt range. */
export function passThroughSizeLg2(pfn: number): number {
  for (const sizeLg2 of [PASS_THROUGH_LG2, 21]) {
    const frames = 2 ** (sizeLg2 - 12);
    const first = pfn - (pfn % frames);
    if (first > INTERRUPT_RANGE.LAST_PFN || first + frames <= INTERRUPT_RANGE.FIRST_PFN)
      return sizeLg2;
  }
  return 12;
}
