/**
 * One event unit: mask, pending bit, and the message it sends.
 *
 * @spec VT-d 7.3, 11.4.7.2 to 11.4.7.5
 */
import type { BusPort } from '@iommukit/core';
import type { RegisterFile } from './register-file.ts';

const IM = 0x8000_0000;
const IP = 0x4000_0000;

/** Fault, invalidation-completion or page-request event: registers CTL, DATA, ADDR, UADDR in a row. */
export class EventUnit {
  readonly #registers: RegisterFile;
  readonly #bus: BusPort;
  readonly #control: number;

  /** @param control offset of its control register */
  constructor(registers: RegisterFile, bus: BusPort, control: number) {
    this.#registers = registers;
    this.#bus = bus;
    this.#control = control;
  }

  /** The interrupt condition arose. */
  signal(): void {
    this.#registers.change(this.#control, IP, 0);
    if ((this.#registers.get(this.#control) & IM) === 0) this.#send();
  }

  /** Software wrote the control register. */
  controlWritten(): void {
    const control = this.#registers.get(this.#control);
    if ((control & IP) !== 0 && (control & IM) === 0) this.#send();
  }

  /** Software cleared every status bit behind the event: a pending message is dropped. */
  statusCleared(): void {
    this.#registers.change(this.#control, 0, IP);
  }

  #send(): void {
    const registers = this.#registers;
    registers.change(this.#control, 0, IP);
    const data = registers.get(this.#control + 4);
    const lo = registers.get(this.#control + 8);
    const hi = registers.get(this.#control + 12);
    this.#bus.raiseMessage(hi * 0x1_0000_0000 + lo, data);
  }
}
