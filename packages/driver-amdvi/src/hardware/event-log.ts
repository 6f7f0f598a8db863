/**
 * The event log, and the copy of hardware errors that registers keep.
 *
 * @spec AMD IOMMU 2.5, 3.4.18 (hardware event registers)
 */
import { EVENT, EVENT_ENTRY } from '../spec/events.ts';
import { HW_EVENT_STATUS, STATUS } from '../spec/registers.ts';
import { DualLog, type LogParts } from './dual-log.ts';
import type { EventSink } from './event-records.ts';

const F = STATUS.fields;

/** Status bits of the event log. */
export const EVENT_LOG_BITS = {
  overflow: [F.EVT_OVERFLOW.mask, F.EVT_OVERFLOW_B.mask],
  written: F.EVT_LOG_INT.mask,
  run: F.EVT_LOG_RUN.mask,
  active: F.EVT_LOG_ACTIVE.mask,
} as const;

const CODE_SHIFT = EVENT_ENTRY.fields.CODE.shift;
const HEV = HW_EVENT_STATUS.fields.HEV.mask;
const HEO = HW_EVENT_STATUS.fields.HEO.mask;

/** Event codes of hardware errors. */
const HARDWARE_ERRORS: readonly number[] = [
  EVENT.DEV_TAB_HARDWARE_ERROR,
  EVENT.PAGE_TAB_HARDWARE_ERROR,
  EVENT.COMMAND_HARDWARE_ERROR,
  EVENT.VIOMMU_HARDWARE_ERROR,
];

/** Dwords of the registers that copy hardware errors. */
export interface HardwareEventWords {
  readonly lo: Uint32Array;
  readonly hi: Uint32Array;
  readonly status: Uint32Array;
}

/** Writes events while Status.EvtLogRun is set. */
export class EventLog extends DualLog implements EventSink {
  readonly #copy: HardwareEventWords | undefined;
  readonly #enabled: () => boolean;
  /** Called for every event, also when there is no room for it. */
  onEvent: ((words: readonly [number, number, number, number]) => void) | undefined;

  /**
   * @param copy registers of EFR.HESup
   * @param enabled Control.IommuEn: nothing is recorded without it
   */
  constructor(parts: LogParts, copy: HardwareEventWords | undefined, enabled: () => boolean) {
    super(parts);
    this.#copy = copy;
    this.#enabled = enabled;
  }

  /** Record one event: dwords 0 to 3 of the entry. Dropped when the log is off or stopped. */
  record(w0: number, w1: number, w2: number, w3: number): void {
    if (!this.#enabled()) return;
    this.onEvent?.([w0 >>> 0, w1 >>> 0, w2 >>> 0, w3 >>> 0]);
    if (HARDWARE_ERRORS.includes(w1 >>> CODE_SHIFT)) this.#copyError(w0, w1, w2, w3);
    this.append(w0, w1, w2, w3);
  }

  /** The first error is kept until software clears HEV; those behind it only set HEO. */
  #copyError(w0: number, w1: number, w2: number, w3: number): void {
    const copy = this.#copy;
    if (copy === undefined) return;
    const status = copy.status[0] as number;
    if ((status & HEV) !== 0) {
      copy.status[0] = status | HEO;
      return;
    }
    copy.status[0] = HEV;
    copy.lo.set([w0, w1]);
    copy.hi.set([w2, w3]);
  }
}
