/**
 * Interrupt messages as far as the device table entry decides on them.
 *
 * @spec AMD IOMMU 2.2.2.1 (IV, IntCtl, IG)
 */
import { DTE, INT_CTL } from '../spec/device-table-entry.ts';

/** What becomes of a message. */
export interface InterruptVerdict {
  /** It goes on unchanged. */
  readonly forward: boolean;
  /** The entry has a reserved value. */
  readonly reserved: boolean;
  /** A refusal is recorded. */
  readonly log: boolean;
}

const FORWARD: InterruptVerdict = { forward: true, reserved: false, log: false };
const RESERVED: InterruptVerdict = { forward: false, reserved: true, log: true };
const ABORT: InterruptVerdict = { forward: false, reserved: false, log: true };
const ABORT_SILENTLY: InterruptVerdict = { forward: false, reserved: false, log: false };

const { IV, IG, INT_CTL: CONTROL } = DTE.fields;

/**
 * Decide on a message. Remapping (IntCtl 2) leaves it as it is: interrupt tables belong to the
 * interrupt controller's model.
 *
 * @param words device table entry, first dword at `at`
 */
export const interruptVerdict = (words: ArrayLike<number>, at: number): InterruptVerdict => {
  const w4 = words[at + IV.word] as number;
  if ((w4 & IV.mask) === 0) return FORWARD;
  const control = ((words[at + CONTROL.word] as number) & CONTROL.mask) >>> CONTROL.shift;
  if (control === INT_CTL.FORWARD || control === INT_CTL.REMAP) return FORWARD;
  if (control === INT_CTL.RESERVED) return RESERVED;
  return (w4 & IG.mask) !== 0 ? ABORT_SILENTLY : ABORT;
};
