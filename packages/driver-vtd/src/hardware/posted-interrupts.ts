/**
 * Posting: recording an interrupt in a descriptor in memory, and telling a processor if it is time.
 *
 * @spec VT-d 5.2.3 (operation), 9.11 (descriptor)
 */
import type { InterruptMessage } from '@iommukit/core';
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { POSTED_INTERRUPT_DESCRIPTOR } from '../spec/interrupt-entry.ts';
import { anyReserved } from './context-walker.ts';
import { fillMessage } from './interrupt-message.ts';
import { atomicFetchOr, type HardwareMemory, readDwords } from './memory.ts';
import type { TraceSink } from './trace.ts';

const LAYOUT = POSTED_INTERRUPT_DESCRIPTOR;
const { ON, SN, NV, NDST } = LAYOUT.fields;
/** NDST outside [303:296], in place: reserved in xAPIC mode. */
const XAPIC_NDST_RESERVED = 0xffff_00ff;
const CONTROL_OFFSET = ON.word * 4;

/** An interrupt to post. */
export interface PostedInterrupt {
  /** Byte address of the descriptor, a multiple of 64. */
  readonly descriptor: number;
  readonly vector: number;
  readonly urgent: boolean;
  /** x2APIC mode. */
  readonly extended: boolean;
}

/** What posting ended in; faults are negative reasons. */
export const POSTED = { SILENTLY: 0, NOTIFIED: 1 } as const;

/** Posts interrupts into memory. */
export class InterruptPoster {
  trace: TraceSink | undefined;
  /** Change memory; off while a request is explained. */
  commit = true;

  readonly #memory: HardwareMemory;
  readonly #words = new Int32Array(LAYOUT.words);
  readonly #reserved = Int32Array.from(LAYOUT.reservedMasks);

  constructor(memory: HardwareMemory) {
    this.#memory = memory;
  }

  /**
   * Set the vector's bit, and ON when a notification is due.
   * @param message the notification, filled when there is one
   * @returns one of {@link POSTED}, or `-reason`
   */
  post(interrupt: PostedInterrupt, message: InterruptMessage): number {
    const { descriptor, vector, urgent, extended } = interrupt;
    const words = this.#words;
    if (!readDwords(this.#memory, descriptor, words, LAYOUT.words)) {
      this.trace?.busError(LAYOUT, descriptor);
      return -FAULT_REASON.IR_POSTED_ACCESS;
    }
    this.trace?.read(LAYOUT, descriptor, Array.from(words), 'posted interrupt descriptor');
    const destination = words[NDST.word] as number;
    const reserved = !extended && (destination & XAPIC_NDST_RESERVED) !== 0;
    if (reserved || anyReserved(words, this.#reserved, 0, LAYOUT.words))
      return -FAULT_REASON.IR_POSTED_RESERVED;
    const notify = this.#record(descriptor, vector, urgent);
    if (notify < 0) return notify;
    const control = words[NV.word] as number;
    if (notify === POSTED.NOTIFIED)
      fillMessage(message, {
        destination: extended ? destination : (destination >>> 8) & 0xff,
        logical: false,
        redirectionHint: false,
        vector: (control & NV.mask) >>> NV.shift,
        deliveryMode: 0,
        level: false,
      });
    return notify;
  }

  /** Each dword is updated atomically; ON decides alone who notifies. */
  #record(descriptor: number, vector: number, urgent: boolean): number {
    const control = this.#words[ON.word] as number;
    const due = urgent || (control & SN.mask) === 0;
    if (!this.commit) {
      this.trace?.rule(`would set PIR bit ${vector}${due ? ' and ON' : ''}`);
      return due && (control & ON.mask) === 0 ? POSTED.NOTIFIED : POSTED.SILENTLY;
    }
    const pir = descriptor + (vector >>> 5) * 4;
    const before = atomicFetchOr(this.#memory, pir, 1 << (vector & 31));
    if (before === undefined) return -FAULT_REASON.IR_POSTED_ACCESS;
    if (!due) return POSTED.SILENTLY;
    const old = atomicFetchOr(this.#memory, descriptor + CONTROL_OFFSET, ON.mask) ?? ON.mask;
    return (old & ON.mask) === 0 ? POSTED.NOTIFIED : POSTED.SILENTLY;
  }
}
