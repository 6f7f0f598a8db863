/**
 * The unit's own interrupts: MSI through the mirrored capability, or the XT registers.
 *
 * @spec AMD IOMMU 3.4.14 (MSI capability), 3.4.15 (XT interrupts)
 */
import { decode, type Register } from '@iommukit/bits';
import type { BusPort } from '@iommukit/core';
import * as spec from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import { joinAddress } from './memory.ts';
import type { RegisterBank } from './register-bank.ts';

const MSI_BASE = 0xfee0_0000;
const DEST_LOW_SHIFT = 12;
const LOGICAL = 4;
const LOWEST_PRIORITY = 1 << 8;
const DEST_LOW_MASK = 0xff;

/** Sends messages; without a bus they are lost. */
export class InterruptMessages {
  readonly #bank: RegisterBank;
  readonly #features: Features;
  readonly #bus: Partial<Pick<BusPort, 'raiseMessage'>>;

  constructor(bank: RegisterBank, features: Features, bus: Partial<Pick<BusPort, 'raiseMessage'>>) {
    this.#bank = bank;
    this.#features = features;
    this.#bus = bus;
  }

  /** Commands and events. */
  general(): void {
    this.#send(spec.XT_INT);
  }

  /** Page requests. */
  pageRequests(): void {
    this.#send(spec.XT_PPR_INT);
  }

  #send(own: typeof spec.XT_INT): void {
    const { INT_CAP_XT_EN } = decode(spec.CONTROL, this.#words(spec.CONTROL));
    if (INT_CAP_XT_EN === 1) this.#sendXt(own);
    else this.#sendMsi();
  }

  #words(register: Register): Uint32Array {
    return this.#bank.words(register);
  }

  /** Destination bits above 7 stand in the upper half of the address. */
  #sendXt(register: typeof spec.XT_INT): void {
    const xt = decode(register, this.#words(register));
    const mode = xt.DEST_MODE === 1 ? LOGICAL : 0;
    const lo = MSI_BASE + (xt.DEST_LO & DEST_LOW_MASK) * 2 ** DEST_LOW_SHIFT + mode;
    const hi = (xt.DEST_LO & ~DEST_LOW_MASK) + xt.DEST_HI * 2 ** 24;
    const data = xt.VECTOR | (xt.DELIVERY_MODE === 1 ? LOWEST_PRIORITY : 0);
    this.#bus.raiseMessage?.(joinAddress(lo, hi), data);
  }

  #sendMsi(): void {
    if (!this.#features.msiInMmio) return;
    if (decode(spec.MSI_CAP, this.#words(spec.MSI_CAP)).MSI_EN === 0) return;
    const [lo = 0] = this.#words(spec.MSI_ADDR_LO);
    const [hi = 0] = this.#words(spec.MSI_ADDR_HI);
    const [data = 0] = this.#words(spec.MSI_DATA);
    this.#bus.raiseMessage?.(joinAddress(lo, hi), data);
  }
}
