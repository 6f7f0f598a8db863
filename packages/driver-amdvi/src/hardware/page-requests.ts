/**
 * PRI: page requests on their way to the PPR log, and the answers that the unit gives by itself.
 *
 * @spec AMD IOMMU 2.6 (peripheral page requests), 3.4.25 (automatic response)
 */
import type { BusPort, PageRequest } from '@iommukit/core';
import { NO_PASID } from '@iommukit/pgtable-fast';
import { DTE } from '../spec/device-table-entry.ts';
import { EVENT } from '../spec/events.ts';
import { PPR_RESPONSE } from '../spec/ppr-log-entry.ts';
import { PPR_AUTO_RESPONSE } from '../spec/registers.ts';
import { DEVICE, DTE_VERDICT } from './caches.ts';
import type { PprLog } from './ppr-log.ts';
import type { Refuser, RequestParts } from './request-parts.ts';
import { createTranslationRequest } from './translation-request.ts';

const { V, PPR, GPRP, GV } = DTE.fields;
const { CODE, MASK_GN } = PPR_AUTO_RESPONSE.fields;

/** Where page requests and answers go. */
export interface PageRequestSinks {
  readonly log: Pick<PprLog, 'push'>;
  readonly bus: Partial<Pick<BusPort, 'deliverPageResponse'>>;
  /** Dwords of PprAutoResponse. */
  readonly autoResponse: ArrayLike<number>;
}

/** A message that ends a PASID's requests: last of its group, and it wants nothing. */
const isStopMarker = ({ last, read, write, exec }: PageRequest): boolean =>
  last && !read && !write && !exec;

/** Serves page requests. */
export class PageRequestService {
  readonly #parts: RequestParts;
  readonly #refuser: Refuser;
  readonly #sinks: PageRequestSinks;
  readonly #request = createTranslationRequest();

  constructor(parts: RequestParts, refuser: Refuser, sinks: PageRequestSinks) {
    this.#parts = parts;
    this.#refuser = refuser;
    this.#sinks = sinks;
  }

  /** Take one request. */
  accept(request: PageRequest): void {
    const { state, features, counters, trace } = this.#parts;
    counters.pageRequests++;
    if (!state.enabled || !features.pageRequests) return;
    if (!state.pageRequests) {
      trace?.rule('Control.PPREn=0: answered INVALID');
      this.#respond(request, PPR_RESPONSE.INVALID_REQUEST, false);
      return;
    }
    if (this.#refuses(request)) return;
    const stop = isStopMarker(request);
    if (stop && state.blockStopMarkers) return;
    if (state.autoResponseAlways && this.#answersAutomatically(request)) return;
    if (this.#sinks.log.push(request)) return;
    if (state.autoResponse && this.#answersAutomatically(request)) return;
    // The log is off: software learns of the request from the event, and completes it.
    if (!state.pprLogEnabled) this.#parts.events.invalidPprRequest(request, false);
  }

  /** What the device table entry forbids: an event, and INVALID to the device. */
  #refuses(request: PageRequest): boolean {
    const { translator: t, events, trace } = this.#parts;
    const asked = this.#request;
    asked.rid = request.rid;
    asked.pasid = request.pasid;
    asked.pfn = request.addressPfn;
    const found = t.locate(asked);
    if (found === 0 && !this.#hasReservedBits() && this.#allows(request)) return false;
    if (found !== 0 && found !== EVENT.IO_PAGE_FAULT) this.#refuser.record(asked);
    else if (found === 0 && this.#hasReservedBits()) {
      t.configured(asked);
      this.#refuser.record(asked);
    } else {
      trace?.rule('DTE.PPR=0, or a PASID without guest tables: refused');
      events.invalidPprRequest(request, true);
    }
    this.#respond(request, PPR_RESPONSE.INVALID_REQUEST);
    return true;
  }

  #hasReservedBits(): boolean {
    const { words, at } = this.#parts.translator.device;
    return words[at + DEVICE.VERDICT] === DTE_VERDICT.RESERVED_BITS;
  }

  #allows({ pasid }: PageRequest): boolean {
    const { words, at } = this.#parts.translator.device;
    const valid = ((words[at] as number) & V.mask) !== 0;
    const w1 = words[at + 1] as number;
    const guest = this.#parts.state.guestTables && (w1 & GV.mask) !== 0;
    return valid && (w1 & PPR.mask) !== 0 && (pasid === NO_PASID || guest);
  }

  #answersAutomatically(request: PageRequest): boolean {
    const register = this.#sinks.autoResponse[0] as number;
    if (request.pasid !== NO_PASID && (register & MASK_GN.mask) !== 0) return false;
    this.#parts.trace?.rule('answered automatically');
    this.#respond(request, register & CODE.mask);
    return true;
  }

  /** DTE.GPRP: answers carry the PASID. */
  #tagsAnswers(): boolean {
    const { words, at } = this.#parts.translator.device;
    return ((words[at + 1] as number) & GPRP.mask) !== 0;
  }

  /** Only the last request of a group is answered, a stop marker never. */
  #respond(request: PageRequest, code: number, tagged = this.#tagsAnswers()): void {
    const { rid, pasid, prgi, last } = request;
    if (!last || isStopMarker(request) || this.#parts.dry === true) return;
    const answer = { rid, pasid: tagged ? pasid : NO_PASID, prgi, code };
    this.#sinks.bus.deliverPageResponse?.(answer);
  }
}
