/**
 * PRI: page requests on their way to the page request queue.
 *
 * @spec VT-d 7.4, 7.1.3 (answers to faults)
 */
import type { PageRequest } from '@iommukit/core';
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { RESPONSE_CODE } from '../spec/invalidation-descriptors.ts';
import { PGTT } from '../spec/pasid-entry.ts';
import { TTM } from '../spec/registers.ts';
import { CONTEXT } from './context-cache.ts';
import type { FaultReporter, RequestParts, RequestState } from './request-parts.ts';
import type { Translator } from './translate.ts';
import { ADDRESS_TYPE } from './translation-request.ts';

/** Serves page requests. */
export class PageRequestService {
  readonly #parts: RequestParts;
  readonly #translator: Translator;
  readonly #state: RequestState;
  readonly #report: FaultReporter;

  constructor(parts: RequestParts, state: RequestState, report: FaultReporter) {
    this.#parts = parts;
    this.#translator = parts.translator;
    this.#state = state;
    this.#report = report;
  }

  /** Take one request. */
  accept(request: PageRequest): void {
    this.#state.pageRequests++;
    const { features, pageRequests } = this.#parts;
    if (!this.#state.enabled || !features.pageRequests) return;
    this.#translator.fpd = false;
    this.#parts.sanitizer?.begin(request.rid, request.pasid);
    const { last, read, write } = request;
    const stop = features.stopMarker && last && !read && !write;
    const reason = this.#pageRequestReason(request);
    // A stop marker that cannot be written goes without a word (ECAP.SMS).
    if (stop && (reason !== 0 || pageRequests.full)) return;
    if (reason !== 0) {
      this.#report.pageRequest(request, reason);
      pageRequests.respond(request, RESPONSE_CODE.INVALID);
      return;
    }
    if (pageRequests.refuses(request)) return;
    if (!this.#parts.dry && !stop) this.#implicitInvalidation(request);
    pageRequests.push(request, !stop);
  }

  #pageRequestReason({ rid, pasid }: PageRequest): number {
    const t = this.#translator;
    if (t.ttm === TTM.LEGACY) return FAULT_REASON.LEGACY_PAGE_REQUEST;
    const mode = t.modeReason(pasid);
    if (mode !== 0) return mode;
    const reason = t.contextForScalable(rid, -1, ADDRESS_TYPE.UNTRANSLATED);
    if (reason !== 0) return reason;
    if ((t.context.info & CONTEXT.PRE) === 0) return FAULT_REASON.SM_PRE_BLOCKS;
    if (pasid >= 0) {
      const refused = t.explicitPasid(pasid, ADDRESS_TYPE.UNTRANSLATED);
      if (refused !== 0) return refused;
    }
    return t.pasidEntry(rid, pasid >= 0 ? pasid : t.context.ridPasid);
  }

  /** A page request makes the unit forget what it knows of that page (E.3). */
  #implicitInvalidation({ addressPfn }: PageRequest): void {
    const { pgtt, did, pasidTag } = this.#translator;
    const { iotlb } = this.#parts.caches;
    if (pgtt === PGTT.FIRST_STAGE) iotlb.invalidatePasidPages(did, pasidTag, addressPfn, 0);
    else if (pgtt === PGTT.NESTED) iotlb.invalidateDomain(did);
    else iotlb.invalidatePages(did, addressPfn, 0);
  }
}
