/**
 * Interrupts of a unit: messages where an address is programmed, pulses of wires otherwise.
 *
 * @spec SMMUv3 3.18 (interrupts), 6.3.17 (errors of messages)
 */
import { type GERROR_IRQ, GLOBAL_ERROR, IRQ_CTRL } from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import type { GlobalErrors } from './global-errors.ts';
import { type HardwareMemory, joinAddress, writeDwords } from './memory.ts';
import type { RegisterBank } from './register-bank.ts';

/** Wires of a unit. */
export const INTERRUPT_LINE = {
  EVENTQ: 'eventq',
  PRIQ: 'priq',
  GERROR: 'gerror',
  SYNC: 'cmdq-sync',
} as const;

/** One of {@link INTERRUPT_LINE}. */
export type InterruptLine = (typeof INTERRUPT_LINE)[keyof typeof INTERRUPT_LINE];

/** Where interrupts go. */
export interface InterruptPort {
  /** A message-signalled interrupt. Answering false means that the write aborted. */
  raiseMessage?(address: number, data: number): unknown;
  /** A wire pulses: the unit has no messages, or their address is 0; SYNC always. */
  pulse?(line: InterruptLine): void;
  /** An event for CPUs that wait for one (IDR0.SEV). */
  sendEvent?(): void;
}

/** A source of interrupts other than SYNC. */
export interface InterruptSource {
  readonly line: InterruptLine;
  /** Bit of IRQ_CTRL. */
  readonly enable: number;
  readonly message: typeof GERROR_IRQ;
  /** Global error of a message that aborts. */
  readonly abortError: number;
}

/** Sends the interrupts of one unit. */
export class Interrupts {
  readonly #bank: RegisterBank;
  readonly #features: Features;
  readonly #memory: HardwareMemory;
  readonly #port: InterruptPort;
  /** Who hears of messages that abort. */
  errors: GlobalErrors | undefined;

  constructor(bank: RegisterBank, features: Features, memory: HardwareMemory, port: InterruptPort) {
    this.#bank = bank;
    this.#features = features;
    this.#memory = memory;
    this.#port = port;
  }

  /** A queue or an error has something to say; only if IRQ_CTRL lets it. */
  raise({ line, enable, message, abortError }: InterruptSource): void {
    const bank = this.#bank;
    if (((bank.words(IRQ_CTRL)[0] as number) & enable) === 0) return;
    const [lo = 0, hi = 0] = bank.words(message.CFG0);
    const address = joinAddress(lo, hi);
    if (!this.#features.msi || address === 0) this.#port.pulse?.(line);
    else this.#send(address, bank.words(message.CFG1)[0] as number, abortError);
  }

  /** A SYNC that interrupts has completed. @param address of its message; 0 = none */
  synchronized(address: number, data: number): void {
    if (this.#features.msi && address !== 0) {
      this.#send(address, data, GLOBAL_ERROR.MSI_CMDQ_ABT_ERR);
    }
    this.#port.pulse?.(INTERRUPT_LINE.SYNC);
  }

  /** Wake CPUs that wait for an event. */
  sendEvent(): void {
    if (this.#features.sev) this.#port.sendEvent?.();
  }

  /** One dword; addresses have as many bits as the output size. */
  #send(address: number, data: number, abortError: number): void {
    const target = address % 2 ** this.#features.oaBits;
    const port = this.#port;
    const taken = port.raiseMessage
      ? port.raiseMessage(target, data)
      : writeDwords(this.#memory, target, [data]);
    if (taken === false) this.errors?.raise(abortError);
  }
}
