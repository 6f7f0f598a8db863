/**
 * Interrupt requests and messages: what a request says, what a remapped message looks like.
 *
 * @spec VT-d 5.1.2 (request formats), 5.2.3 (notification events)
 */
import type { InterruptMessage } from '@iommukit/core';

const INTERRUPT_ADDRESS = 0xfee0_0000;
/** Address [31:20] of every interrupt request. */
const INTERRUPT_BLOCK = INTERRUPT_ADDRESS >>> 20;
/** Data bit 14: the level is asserted, as remapping hardware always says. */
const ASSERTED = 1 << 14;

/** Fields of a request's address. */
export const REQUEST_ADDRESS = {
  HANDLE_15: 1 << 2,
  SHV: 1 << 3,
  /** Interrupt format: 1 = remappable. */
  REMAPPABLE: 1 << 4,
  HANDLE_SHIFT: 5,
  HANDLE_MASK: 0x7fff,
} as const;

/** Whether a byte address lies in FEEx_xxxxh. */
export const isInterruptAddress = (address: number): boolean =>
  Math.floor(address / 0x10_0000) === INTERRUPT_BLOCK;

/**
 * Index that a remappable request names.
 * @returns 0 to 1FFFEh; handle and subhandle are added without wrapping
 */
export function interruptIndex(address: number, data: number): number {
  const { HANDLE_SHIFT, HANDLE_MASK, HANDLE_15, SHV } = REQUEST_ADDRESS;
  const handle =
    ((address >>> HANDLE_SHIFT) & HANDLE_MASK) | ((address & HANDLE_15) !== 0 ? 0x8000 : 0);
  return (address & SHV) !== 0 ? handle + (data & 0xffff) : handle;
}

/** What a message says. */
export interface MessageFields {
  /** APIC id: 8 bits, or 32 in extended mode. */
  readonly destination: number;
  readonly logical: boolean;
  readonly redirectionHint: boolean;
  readonly vector: number;
  readonly deliveryMode: number;
  readonly level: boolean;
}

/** Fill a message; APIC id bits [31:8] stand in the upper address, as in the event registers. */
export function fillMessage(message: InterruptMessage, fields: MessageFields): void {
  const { destination, logical, redirectionHint, vector, deliveryMode, level } = fields;
  message.addressLo =
    (INTERRUPT_ADDRESS |
      ((destination & 0xff) << 12) |
      (redirectionHint ? 8 : 0) |
      (logical ? 4 : 0)) >>>
    0;
  message.addressHi = (destination & 0xffff_ff00) >>> 0;
  message.data = vector | (deliveryMode << 8) | ASSERTED | (level ? 1 << 15 : 0);
}

/** Fill a message with a request that passes as it is. */
export function passMessage(message: InterruptMessage, address: number, data: number): void {
  message.addressLo = address >>> 0;
  message.addressHi = 0;
  message.data = data >>> 0;
}
