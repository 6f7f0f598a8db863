/**
 * A log in memory that the unit fills: one ring, or two of which one takes entries, by choice or
 * because the other is full. Entries, overflow, interrupts.
 *
 * @spec AMD IOMMU 2.5 (event log), 2.6 (PPR log), 2.5.12 (dual logs)
 */
import { DUAL_LOG } from '../spec/registers.ts';
import { type HardwareMemory, writeDwords } from './memory.ts';
import type { Ring } from './ring.ts';

/** Bits of the status register that tell of a log; `overflow` of A and B. */
export interface LogStatusBits {
  readonly overflow: readonly [a: number, b: number];
  readonly written: number;
  readonly run: number;
  readonly active: number;
}

/** What a log is made of. */
export interface LogParts {
  readonly memory: HardwareMemory;
  readonly ringA: Ring;
  readonly ringB: Ring;
  /** Dwords of the status register. */
  readonly status: Uint32Array;
  readonly bits: LogStatusBits;
  /** Send the log's interrupt, if it is enabled. */
  interrupt(): void;
}

/** Writes entries while its Run bit is set. */
export class DualLog {
  /** Entries written, and entries lost because there was no room. */
  written = 0;
  lost = 0;
  protected readonly parts: LogParts;
  readonly #words = new Uint32Array(4);
  #mode: number = DUAL_LOG.A;

  constructor(parts: LogParts) {
    this.parts = parts;
  }

  get running(): boolean {
    const { status, bits } = this.parts;
    return ((status[0] as number) & bits.run) !== 0;
  }

  /** 0 = log A takes entries, 1 = log B. */
  get active(): 0 | 1 {
    const { status, bits } = this.parts;
    return ((status[0] as number) & bits.active) === 0 ? 0 : 1;
  }

  /** The ring that takes entries. */
  get ring(): Ring {
    return this.active === 0 ? this.parts.ringA : this.parts.ringB;
  }

  /** Which ring takes entries: one of {@link DUAL_LOG}. Swapping goes on with the one that is active. */
  select(mode: number): void {
    this.#mode = mode;
    if (mode !== DUAL_LOG.SWAP_WHEN_FULL) this.#activate(mode === DUAL_LOG.B ? 1 : 0);
  }

  #activate(log: 0 | 1): void {
    const { status, bits } = this.parts;
    const word = status[0] as number;
    status[0] = log === 0 ? word & ~bits.active : word | bits.active;
  }

  /** Follow the enables; an overflow that software did not clear stays a stop. */
  setEnabled(enabled: boolean): void {
    const { status, bits } = this.parts;
    const word = status[0] as number;
    const [a, b] = bits.overflow;
    const overflow = this.#mode === DUAL_LOG.SWAP_WHEN_FULL ? a | b : bits.overflow[this.active];
    const run = enabled && (word & overflow) === 0;
    status[0] = run ? word | bits.run : word & ~bits.run;
  }

  /**
   * Write one entry: its dwords 0 to 3. @returns false when the log is off, stopped, or full now
   */
  append(w0: number, w1: number, w2: number, w3: number): boolean {
    if (!this.running) return this.#lose();
    if (!this.ring.isSane) return this.#lose();
    if (this.ring.isFull && !this.#swap()) return this.#lose();
    const { ring } = this;
    this.#words[0] = w0;
    this.#words[1] = w1;
    this.#words[2] = w2;
    this.#words[3] = w3;
    writeDwords(this.parts.memory, ring.base + ring.tail, this.#words);
    ring.tail = ring.after(ring.tail);
    this.written++;
    this.raise(this.parts.bits.written);
    return true;
  }

  #lose(): false {
    this.lost++;
    return false;
  }

  /** The active ring is full: say so, and go on with the other one if it may be used. */
  #swap(): boolean {
    const { status, bits, ringA, ringB } = this.parts;
    const { active } = this;
    const other = active === 0 ? 1 : 0;
    const next = other === 0 ? ringA : ringB;
    const free =
      next.isSane && !next.isFull && ((status[0] as number) & bits.overflow[other]) === 0;
    const swap = this.#mode === DUAL_LOG.SWAP_WHEN_FULL && free;
    if (swap) this.#activate(other);
    else status[0] = (status[0] as number) & ~bits.run;
    this.raise(bits.overflow[active]);
    return swap;
  }

  /** Set a status bit; the interrupt is its edge. */
  protected raise(bit: number): void {
    const { status } = this.parts;
    const word = status[0] as number;
    status[0] = word | bit;
    if ((word & bit) === 0) this.parts.interrupt();
  }
}
