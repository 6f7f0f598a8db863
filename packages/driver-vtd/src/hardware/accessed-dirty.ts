/**
 * Accessed and dirty updates that a walk owes: collected on the way, done when it succeeded, so that
 * a faulting request changes nothing.
 *
 * @spec VT-d 3.6.2, 3.7.2 (accessed, extended accessed and dirty flags)
 */
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { atomicSetBits, type HardwareMemory } from './memory.ts';

/** Whose entry is updated, and whether the update is allowed. */
export const UPDATE = {
  /** A second-stage entry. */
  SECOND_STAGE: 0,
  /** A first-stage entry that may be written. */
  FIRST_STAGE: 1,
  /** A first-stage entry on a page that the second stage does not let be written. */
  FIRST_STAGE_READ_ONLY: 2,
} as const;

/** Five first-stage levels and the page, each through five second-stage levels, and the levels. */
const CAPACITY = 64;

/** The list of owed updates; emptied for every walk. */
export class PendingUpdates {
  count = 0;
  readonly address = new Float64Array(CAPACITY);
  readonly bits = new Int32Array(CAPACITY);
  readonly kind = new Uint8Array(CAPACITY);

  /** @hot Owe one update: byte address of the entry's low dword, bits to set there. */
  add(address: number, bits: number, kind: number): void {
    const at = this.count;
    if (at === CAPACITY) return;
    this.address[at] = address;
    this.bits[at] = bits;
    this.kind[at] = kind;
    this.count = at + 1;
  }

  /**
   * Whether all of them may be done, first cause first.
   * @param snooped the walk is snooped, so that atomic updates are coherent
   * @returns 0, or a fault reason
   */
  check(snooped: boolean): number {
    for (let i = 0; i < this.count; i++) {
      const kind = this.kind[i];
      if (kind === UPDATE.FIRST_STAGE_READ_ONLY) return FAULT_REASON.FS_AD_NO_SS_WRITE;
      if (snooped) continue;
      return kind === UPDATE.SECOND_STAGE
        ? FAULT_REASON.SS_AD_NOT_SNOOPED
        : FAULT_REASON.FS_AD_NOT_SNOOPED;
    }
    return 0;
  }

  /**
   * Do them, each in one atomic operation.
   * @returns 0, or the fault reason of the first that memory refused
   */
  commit(memory: HardwareMemory): number {
    for (let i = 0; i < this.count; i++) {
      if (atomicSetBits(memory, this.address[i] as number, this.bits[i] as number)) continue;
      return this.kind[i] === UPDATE.SECOND_STAGE
        ? FAULT_REASON.SS_AD_FAILED
        : FAULT_REASON.FS_AD_FAILED;
    }
    return 0;
  }
}
