/**
 * Commands that go on to a device: invalidation of its own cache, answers to its page requests.
 *
 * @spec SMMUv3 4.5 (ATS and PRI commands), 3.9.1.4 (ATC invalidation timeout)
 */
import { type BusPort, INVALIDATION_ANSWER, PRG_RESPONSE } from '@iommukit/core';
import { ATC_INV, ATC_SIZE_ALL, COMMAND, PRI_RESP, PRI_RESPONSE } from '../spec/commands.ts';
import type { Features } from './capabilities.ts';
import type { UnitState } from './unit-state.ts';

const { SSEC, SSV, SSID, GLOBAL, SIZE } = ATC_INV.fields;
const { PRG_INDEX, RESP } = PRI_RESP.fields;
const LOW_PFN_BITS = 2 ** 20;
const FRAME_LG2 = 12;
const EVERYTHING_LG2 = 64;
const NO_PASID = -1;

const ANSWERS: Readonly<Record<number, number>> = {
  [PRI_RESPONSE.FAILURE]: PRG_RESPONSE.FAILURE,
  [PRI_RESPONSE.INVALID_REQUEST]: PRG_RESPONSE.INVALID_REQUEST,
  [PRI_RESPONSE.SUCCESS]: PRG_RESPONSE.SUCCESS,
};

/** The part of the bus that leads to devices; without it no device answers, and none waits. */
export type DevicePort = Partial<Pick<BusPort, 'invalidateDeviceTlb' | 'deliverPageResponse'>>;

/** Executes ATC_INV and PRI_RESP. */
export class DeviceCommands {
  readonly #features: Features;
  readonly #state: UnitState;
  readonly #bus: DevicePort;
  /** An ATC_INV found no answer: the next SYNC says so. */
  timedOut = false;

  constructor(features: Features, state: UnitState, bus: DevicePort) {
    this.#features = features;
    this.#state = state;
    this.#bus = bus;
  }

  /** @returns false for an illegal command, or one of an absent feature */
  execute(opcode: number, words: Int32Array): boolean {
    if (((words[0] as number) & SSEC.mask) !== 0) return false;
    if (opcode === COMMAND.ATC_INV) return this.#features.ats && this.#invalidate(words);
    if (opcode === COMMAND.PRI_RESP) return this.#features.pri && this.#respond(words);
    return false;
  }

  /** Without a PASID in the message, entries of every PASID in the range go. */
  #invalidate([w0 = 0, sid = 0, w2 = 0, w3 = 0]: Int32Array): boolean {
    const size = w2 & SIZE.mask;
    if (size > ATC_SIZE_ALL) return false;
    if (!this.#reaches(sid)) return true;
    const hasPasid = (w0 & SSV.mask) !== 0;
    const pfn = (w3 >>> 0) * LOW_PFN_BITS + (w2 >>> FRAME_LG2);
    const answer = this.#bus.invalidateDeviceTlb?.(
      sid >>> 0,
      hasPasid ? w0 >>> SSID.shift : NO_PASID,
      size === ATC_SIZE_ALL ? 0 : pfn - (pfn % 2 ** size),
      size === ATC_SIZE_ALL ? EVERYTHING_LG2 : size + FRAME_LG2,
      !hasPasid || (w0 & GLOBAL.mask) !== 0,
    );
    // A completion that fits no request is dropped, and the request waits in vain.
    if (answer !== undefined && answer !== INVALIDATION_ANSWER.COMPLETE) this.timedOut = true;
    return true;
  }

  #respond([w0 = 0, sid = 0, w2 = 0]: Int32Array): boolean {
    const code = ANSWERS[(w2 & RESP.mask) >>> RESP.shift];
    if (code === undefined) return false;
    if (!this.#reaches(sid)) return true;
    const pasid = (w0 & SSV.mask) === 0 ? NO_PASID : w0 >>> SSID.shift;
    this.#bus.deliverPageResponse?.({ rid: sid >>> 0, pasid, prgi: w2 & PRG_INDEX.mask, code });
    return true;
  }

  /** Messages need SMMUEN, and a StreamID that there can be. */
  #reaches(sid: number): boolean {
    return this.#state.enabled && sid >>> 0 < 2 ** this.#features.sidBits;
  }
}
