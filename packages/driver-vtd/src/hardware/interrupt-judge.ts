/**
 * What an interrupt remapping table entry says about a request: who may use it, and what it becomes.
 *
 * Readings: a reserved SVT or DLM code counts as a reserved field (24h); the source id is verified
 * before the rest of the entry, in the order of 5.1.4.
 *
 * @spec VT-d 5.1.4 (operation), 5.2.3 (posting), 9.9, 9.10 (entries)
 */
import type { InterruptMessage } from '@iommukit/core';
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { IRTE, IRTE_POSTED, SOURCE_VALIDATION } from '../spec/interrupt-entry.ts';
import type { Features } from './capabilities.ts';
import { anyReserved } from './context-walker.ts';
import { fillMessage } from './interrupt-message.ts';
import type { HardwareMemory } from './memory.ts';
import { highMaskAbove, joinAddress } from './page-index.ts';
import { InterruptPoster, POSTED } from './posted-interrupts.ts';

const E = IRTE.fields;
const POST = IRTE_POSTED.fields;
const ENTRY_WORDS = IRTE.words;
/** DST outside [47:40], in place: reserved in xAPIC mode. */
const XAPIC_DST_RESERVED = 0xffff_00ff;
const RESERVED_DELIVERY_MODES = (1 << 3) | (1 << 6);
/** Function bits that SQ leaves out of the comparison. */
const IGNORED_FUNCTION_BITS = [0, 4, 6, 7] as const;

/** What became of an interrupt request; faults are negative reasons. */
export const INTERRUPT_ANSWER = {
  /** Taken, and nothing is to be delivered: posted without notification. */
  TAKEN: 0,
  /** The message is to be delivered. */
  DELIVER: 1,
} as const;

/** Judges requests by entries. */
export class InterruptJudge {
  /** FPD of the entry that was looked at last; faults before any entry is reached know no FPD. */
  fpd = false;
  /** Interrupts posted. */
  posted = 0;
  readonly poster: InterruptPoster;
  readonly #postedInterrupts: boolean;
  readonly #remapped: Int32Array;
  readonly #posted: Int32Array;

  constructor(memory: HardwareMemory, { postedInterrupts, hawBits }: Features) {
    this.poster = new InterruptPoster(memory);
    this.#postedInterrupts = postedInterrupts;
    this.#remapped = Int32Array.from(IRTE.reservedMasks);
    if (!postedInterrupts) this.#remapped[0] = (this.#remapped[0] as number) | E.IM.mask;
    this.#posted = Int32Array.from(IRTE_POSTED.reservedMasks);
    this.#posted[3] = (this.#posted[3] as number) | highMaskAbove(hawBits, 63);
  }

  /**
   * An entry's verdict on a request.
   * @param extended x2APIC mode
   * @returns one of {@link INTERRUPT_ANSWER}, or `-reason`
   */
  decide(words: Int32Array, rid: number, extended: boolean, message: InterruptMessage): number {
    const lo = words[0] as number;
    this.fpd = (lo & E.FPD.mask) !== 0;
    if ((lo & E.P.mask) === 0) return -FAULT_REASON.IR_NOT_PRESENT;
    const source = sourceReason(words[2] as number, rid);
    if (source !== 0) return -source;
    const posted = this.#postedInterrupts && (lo & E.IM.mask) !== 0;
    return posted ? this.#post(words, extended, message) : this.#remap(words, extended, message);
  }

  #remap(words: Int32Array, extended: boolean, message: InterruptMessage): number {
    const lo = words[0] as number;
    const destination = (words[1] as number) >>> 0;
    const deliveryMode = (lo & E.DLM.mask) >>> E.DLM.shift;
    const bad =
      anyReserved(words, this.#remapped, 0, ENTRY_WORDS) ||
      (!extended && (destination & XAPIC_DST_RESERVED) !== 0) ||
      ((RESERVED_DELIVERY_MODES >>> deliveryMode) & 1) !== 0;
    if (bad) return -FAULT_REASON.IR_RESERVED;
    fillMessage(message, {
      destination: extended ? destination : (destination >>> 8) & 0xff,
      logical: (lo & E.DM.mask) !== 0,
      redirectionHint: (lo & E.RH.mask) !== 0,
      vector: (lo & E.V.mask) >>> E.V.shift,
      deliveryMode,
      level: (lo & E.TM.mask) !== 0,
    });
    return INTERRUPT_ANSWER.DELIVER;
  }

  #post(words: Int32Array, extended: boolean, message: InterruptMessage): number {
    if (anyReserved(words, this.#posted, 0, ENTRY_WORDS)) return -FAULT_REASON.IR_RESERVED;
    const lo = words[0] as number;
    const answer = this.poster.post(
      {
        descriptor: joinAddress((words[1] as number) & POST.PDAL.mask, (words[3] as number) >>> 0),
        vector: (lo & POST.VV.mask) >>> POST.VV.shift,
        urgent: (lo & POST.URG.mask) !== 0,
        extended,
      },
      message,
    );
    if (answer < 0) return answer;
    this.posted++;
    return answer === POSTED.NOTIFIED ? INTERRUPT_ANSWER.DELIVER : INTERRUPT_ANSWER.TAKEN;
  }
}

/** Whether a requester may use an entry: 0, or a fault reason. @param word the entry's third dword */
function sourceReason(word: number, rid: number): number {
  const validation = (word >>> (E.SVT.lo & 31)) & 3;
  const sid = word & 0xffff;
  if (validation === SOURCE_VALIDATION.NONE) return 0;
  if (validation === SOURCE_VALIDATION.REQUESTER_ID) {
    const ignored = IGNORED_FUNCTION_BITS[(word >>> (E.SQ.lo & 31)) & 3] as number;
    return ((sid ^ rid) & ~ignored) === 0 ? 0 : FAULT_REASON.IR_SOURCE;
  }
  if (validation !== SOURCE_VALIDATION.BUS_RANGE) return FAULT_REASON.IR_RESERVED;
  const bus = rid >>> 8;
  return bus >= sid >>> 8 && bus <= (sid & 0xff) ? 0 : FAULT_REASON.IR_SOURCE;
}
