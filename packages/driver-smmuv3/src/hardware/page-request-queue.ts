/**
 * The PRI queue: page requests in, entries in memory, automatic answers where there is no room.
 *
 * @spec SMMUv3 8 (page request queue), 3.9.1.3 (automatic responses)
 */
import { type PageRequest, PRG_RESPONSE } from '@iommukit/core';
import { PAGE_REQUEST } from '../spec/page-request.ts';
import { GLOBAL_ERROR } from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import type { ConfigurationAccess } from './configuration-access.ts';
import type { DevicePort } from './device-commands.ts';
import type { GlobalErrors } from './global-errors.ts';
import { type HardwareMemory, writeDwords } from './memory.ts';
import type { Queue } from './queue.ts';
import type { UnitState } from './unit-state.ts';

const { SSID, PRIV, EXEC, READ, WRITE, LAST, SSV, PRG_INDEX } = PAGE_REQUEST.fields;
const OVERFLOW = 0x8000_0000;
const LOW_PFN_BITS = 2 ** 20;
const NO_PASID = -1;

/** What the queue works with. */
export interface PageRequestQueueParts {
  readonly memory: HardwareMemory;
  readonly features: Features;
  readonly state: UnitState;
  readonly errors: GlobalErrors;
  readonly configuration: Pick<ConfigurationAccess, 'stream'>;
  readonly bus: DevicePort;
  /** Dwords of PRIQ_PROD and PRIQ_CONS. */
  readonly prod: Uint32Array;
  readonly cons: Uint32Array;
  /** @param last the request is the last of its group */
  interrupt(wasEmpty: boolean, last: boolean): void;
}

/** Writes page requests while CR0.PRIQEN and SMMUEN are set. */
export class PageRequestQueue {
  readonly queue: Queue;
  /** CR0.PRIQEN. */
  enabled = false;
  readonly #with: PageRequestQueueParts;
  readonly #words = new Uint32Array(4);

  constructor(queue: Queue, parts: PageRequestQueueParts) {
    this.queue = queue;
    this.#with = parts;
  }

  /** Take one page request. */
  accept(request: PageRequest): void {
    const fate = this.fate;
    if (fate === 'failure') this.#fails(request);
    else if (fate === 'overflow') this.#overflow(request);
    else this.#write(request);
  }

  /** What would become of a page request now. */
  get fate(): 'queued' | 'overflow' | 'failure' {
    const { state, errors } = this.#with;
    const closed = !this.enabled || !state.enabled;
    if (closed || errors.isActive(GLOBAL_ERROR.PRIQ_ABT_ERR)) return 'failure';
    return this.#overflowed || this.queue.isFull ? 'overflow' : 'queued';
  }

  #write(request: PageRequest): void {
    const { errors, memory } = this.#with;
    const { queue } = this;
    const wasEmpty = queue.isEmpty;
    encodeRequest(request, this.#words);
    if (!writeDwords(memory, queue.producerAddress, this.#words)) {
      errors.raise(GLOBAL_ERROR.PRIQ_ABT_ERR);
      this.#fails(request);
      return;
    }
    queue.advanceProducer();
    this.#with.interrupt(wasEmpty, request.last);
  }

  /** Nothing enters the queue from an overflow on until software acknowledges it. */
  get #overflowed(): boolean {
    const { prod, cons } = this.#with;
    return (((prod[0] as number) ^ (cons[0] as number)) & OVERFLOW) !== 0;
  }

  /** The device is told that it may try again. */
  #overflow(request: PageRequest): void {
    const { prod, features, configuration } = this.#with;
    if (!this.#overflowed) prod[0] = ((prod[0] as number) ^ OVERFLOW) >>> 0;
    if (request.pasid < 0 || features.answersWithPasid) {
      this.#answer(request, request.pasid, PRG_RESPONSE.SUCCESS);
      return;
    }
    const stream = configuration.stream(request.rid);
    if (stream === undefined || stream.bad) this.#fails(request);
    else {
      const pasid = stream.answersWithPasid ? request.pasid : NO_PASID;
      this.#answer(request, pasid, PRG_RESPONSE.SUCCESS);
    }
  }

  #fails(request: PageRequest): void {
    this.#answer(request, NO_PASID, PRG_RESPONSE.FAILURE);
  }

  /** A group has one answer; a stop marker, and what is not the last of its group, has none. */
  #answer(request: PageRequest, pasid: number, code: number): void {
    const { rid, prgi, last } = request;
    if (!last || isStopMarker(request)) return;
    this.#with.bus.deliverPageResponse?.({ rid, pasid, prgi, code });
  }
}

/** The device has stopped using a PASID; nobody answers that. */
const isStopMarker = ({ pasid, last, read, write }: PageRequest): boolean =>
  pasid >= 0 && last && !read && !write;

const encodeRequest = (request: PageRequest, words: Uint32Array): void => {
  const { rid, pasid, addressPfn, read, write, exec, priv, last, prgi } = request;
  words[0] = rid;
  words[1] =
    (pasid >= 0 ? SSV.mask | (pasid << SSID.shift) : 0) |
    (last ? LAST.mask : 0) |
    (read ? READ.mask : 0) |
    (write ? WRITE.mask : 0) |
    (pasid >= 0 && exec ? EXEC.mask : 0) |
    (pasid >= 0 && priv ? PRIV.mask : 0);
  words[2] = ((addressPfn % LOW_PFN_BITS) << 12) | (prgi & PRG_INDEX.mask);
  words[3] = Math.floor(addressPfn / LOW_PFN_BITS);
};
