/**
 * The event log: records events, overflows, interrupts.
 *
 * @spec AMD IOMMU 2.5
 */
import { STATUS } from '../spec/registers.ts';
import { type HardwareMemory, writeDwords } from './memory.ts';
import type { Ring } from './ring.ts';
import type { UnitState } from './unit-state.ts';

const OVERFLOW = STATUS.fields.EVT_OVERFLOW.mask;
const INT = STATUS.fields.EVT_LOG_INT.mask;
const RUN = STATUS.fields.EVT_LOG_RUN.mask;

/** Writes events while Status.EvtLogRun is set. */
export class EventLog {
  readonly ring: Ring;
  readonly #memory: HardwareMemory;
  readonly #state: UnitState;
  readonly #status: Uint32Array;
  readonly #interrupt: () => void;
  readonly #words = new Uint32Array(4);

  constructor(
    memory: HardwareMemory,
    state: UnitState,
    ring: Ring,
    status: Uint32Array,
    interrupt: () => void,
  ) {
    this.#memory = memory;
    this.#state = state;
    this.ring = ring;
    this.#status = status;
    this.#interrupt = interrupt;
  }

  get running(): boolean {
    return ((this.#status[0] as number) & RUN) !== 0;
  }

  /** Follow Control.EventLogEn and IommuEn; an overflow that software did not clear stays a stop. */
  setEnabled(enabled: boolean): void {
    const status = this.#status[0] as number;
    const run = enabled && (status & OVERFLOW) === 0;
    this.#status[0] = run ? status | RUN : status & ~RUN;
  }

  /** Record one event: dwords 0 to 3 of the entry. Dropped when the log is off or stopped. */
  record(w0: number, w1: number, w2: number, w3: number): void {
    if (!this.running || !this.ring.isSane) return;
    const { ring } = this;
    const next = ring.after(ring.tail);
    if (next === ring.head) {
      this.#status[0] = (this.#status[0] as number) & ~RUN;
      this.#raise(OVERFLOW);
      return;
    }
    this.#words.set([w0, w1, w2, w3]);
    writeDwords(this.#memory, ring.base + ring.tail, this.#words);
    ring.tail = next;
    this.#raise(INT);
  }

  /** Set a status bit; the interrupt is its edge. */
  #raise(bit: number): void {
    const status = this.#status[0] as number;
    this.#status[0] = status | bit;
    if ((status & bit) === 0 && this.#state.eventInterrupt) this.#interrupt();
  }
}
