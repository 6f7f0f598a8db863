/**
 * Writes of a device into FEEx_xxxxh: on x86 these are interrupts, and reach no memory.
 *
 * @spec PCI Express Base 6.0, 6.1.4 (message-signalled interrupts)
 */
import {
  ACCESS,
  BLOCKED,
  type BusPort,
  createInterruptMessage,
  NO_PASID,
  RAZ_WI,
  type TranslationAgent,
} from './request.ts';

const PAGE_BYTES = 4096;
/** First and last frame of FEEx_xxxxh. */
const FIRST_PFN = 0xf_ee00;
const LAST_PFN = 0xf_eeff;
const { READ, WRITE, ATOMIC } = ACCESS;

/** Sends a device's interrupt requests through the unit in charge of it. */
export class InterruptWrites {
  readonly #bus: BusPort;
  readonly #rid: number;
  readonly #message = createInterruptMessage();

  constructor(bus: BusPort, rid: number) {
    this.#bus = bus;
    this.#rid = rid;
  }

  /** Whether an untranslated request is an interrupt request for this unit. @hot */
  isFor(agent: TranslationAgent, pasid: number, pfn: number, access: number): boolean {
    return (
      pfn >= FIRST_PFN &&
      pfn <= LAST_PFN &&
      pasid === NO_PASID &&
      (access & (READ | WRITE | ATOMIC)) === WRITE &&
      agent.remapInterrupt !== undefined
    );
  }

  /**
   * Send one.
   * @param bytes what is written, little endian; an interrupt request has 4
   * @returns `RAZ_WI`: done, and no memory is touched; or `BLOCKED`
   */
  send(agent: TranslationAgent, pfn: number, offset: number, bytes: Uint8Array): number {
    const [b0 = 0, b1 = 0, b2 = 0, b3 = 0] = bytes;
    const data = (b0 | (b1 << 8) | (b2 << 16) | (b3 << 24)) >>> 0;
    const address = pfn * PAGE_BYTES + offset;
    const message = this.#message;
    const answer =
      agent.remapInterrupt?.(this.#rid, address, data, bytes.length, message) ?? BLOCKED;
    if (answer < 0) return BLOCKED;
    if (answer > 0)
      this.#bus.raiseMessage(message.addressHi * 0x1_0000_0000 + message.addressLo, message.data);
    return RAZ_WI;
  }
}
