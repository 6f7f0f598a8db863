/**
 * ATS: translation requests, and requests that carry translated addresses.
 *
 * @spec AMD IOMMU 2.1.4 (address translation services), 2.5.9 (INVALID_DEVICE_REQUEST)
 */

import { hex } from '@iommukit/bits';
import { ACCESS, ATS_STATUS, type AtsCompletion } from '@iommukit/core';
import { NO_PASID } from '@iommukit/pgtable-fast';
import { DTE } from '../spec/device-table-entry.ts';
import { DEVICE_REQUEST_TYPE, EVENT, TRANSLATION_REQUEST_TYPE } from '../spec/events.ts';
import { DEVICE, DTE_INFO } from './caches.ts';
import { FLAG } from './event-records.ts';
import { RIGHT } from './host-table-walker.ts';
import {
  BLOCKED,
  iotlbTag,
  keepTranslation,
  type Refuser,
  type RequestParts,
} from './request-parts.ts';
import { isHtRange, isInterruptRange, touchesSpecialRange } from './special-ranges.ts';
import {
  createTranslationRequest,
  needOf,
  type TranslationRequest,
} from './translation-request.ts';

const { V, I, IR } = DTE.fields;
const READ_WRITE = RIGHT.R | RIGHT.W;

/** Rights and size of an answer; reused. */
interface Answer {
  pfn: number;
  sizeLg2: number;
  rights: number;
}

/** Serves ATS requests. */
export class AtsService {
  readonly #parts: RequestParts;
  readonly #refuser: Refuser;
  readonly #request = createTranslationRequest();
  readonly #answer: Answer = { pfn: 0, sizeLg2: 12, rights: 0 };

  constructor(parts: RequestParts, refuser: Refuser) {
    this.#parts = parts;
    this.#refuser = refuser;
  }

  /**
   * ATS translation request.
   * @param access without WRITE it is NW=1
   * @param cached answer from the IOTLB
   */
  translationRequest(
    rid: number,
    pasid: number,
    pfn: number,
    access: number,
    completion: AtsCompletion,
    cached: boolean,
  ): void {
    clearCompletion(completion);
    const { state, counters, sanitizer, trace } = this.#parts;
    counters.translationRequests++;
    if (!state.enabled) {
      trace?.rule('Control.IommuEn=0: unsupported request');
      return;
    }
    sanitizer?.begin(rid);
    const request = this.#request;
    request.rid = rid;
    request.pasid = pasid;
    request.pfn = pfn;
    request.offset = 0;
    // What is there is told, not what would be needed; but a user gets nothing of a supervisor's.
    request.need = needOf(pasid, access) & RIGHT.USER;
    request.write = (access & ACCESS.WRITE) !== 0;
    completion.status = ATS_STATUS.COMPLETER_ABORT;
    if (!this.#allowed(request)) return;
    const found = (cached && this.#fromIotlb(request)) || this.#fromTables(request);
    if (found) this.#complete(request, access, completion);
    else if (this.#parts.translator.refusal.code === EVENT.IO_PAGE_FAULT) {
      trace?.rule('no translation: answered with R=W=0, no event');
      completion.status = ATS_STATUS.SUCCESS;
    } else this.#refuser.record(request, FLAG.TR);
  }

  /** Rules 1 and 2: a device of the table, V and I, an address that may be asked for. */
  #allowed(request: TranslationRequest): boolean {
    const t = this.#parts.translator;
    const TYPE = TRANSLATION_REQUEST_TYPE;
    const found = t.locate(request);
    if (found === EVENT.IO_PAGE_FAULT) return this.#invalid(request, TYPE.DEVICE_ID_INVALID);
    if (found !== 0) {
      this.#refuser.record(request, FLAG.TR);
      return false;
    }
    if (!this.#atsAllowed()) {
      this.#parts.trace?.rule('DTE.V=0 or DTE.I=0: translation requests are not allowed');
      return this.#invalid(request, TYPE.TRANSLATION_DENIED);
    }
    const { pfn, pasid } = request;
    const special = isInterruptRange(pfn) || (this.#parts.state.htRange && isHtRange(pfn));
    if (pasid === NO_PASID && special) return this.#invalid(request, TYPE.ACCESS_INVALID);
    return true;
  }

  #invalid(request: TranslationRequest, type: number): boolean {
    this.#refuser.invalid(request, type, FLAG.TR);
    return false;
  }

  #atsAllowed(): boolean {
    const { words, at } = this.#parts.translator.device;
    const valid = ((words[at] as number) & V.mask) !== 0;
    return valid && ((words[at + I.word] as number) & I.mask) !== 0;
  }

  /** Answer from the IOTLB; a page to be written whose dirty bit is not known to be set walks. */
  #fromIotlb(request: TranslationRequest): boolean {
    const { device } = this.#parts.translator;
    const { state, caches, sanitizer, trace } = this.#parts;
    const info = device.words[device.at + DEVICE.INFO] as number;
    if (!state.fast || (info & DTE_INFO.RIGHTS) === 0) return false;
    const { pasid, pfn, write, need } = request;
    if (pasid !== NO_PASID && (info & DTE_INFO.GUEST) === 0) return false;
    const tag = iotlbTag(pasid, (info & DTE_INFO.GUEST_ZERO) !== 0);
    const slot = caches.iotlb.find(device.domain, tag, pfn, need);
    trace?.cache('IOTLB', slot >= 0, `page ${hex(pfn * 4096)}`);
    const entry = slot < 0 ? undefined : caches.iotlb.describe(slot);
    if (entry === undefined) return false;
    const writes = write && (entry.permissions & RIGHT.W) !== 0;
    if (writes && !entry.dirtyKnown) return false;
    const answer = this.#answer;
    answer.pfn = entry.outPfn + (pfn - entry.iovaPfn);
    answer.sizeLg2 = entry.sizeLg2;
    answer.rights = entry.permissions;
    const access =
      (writes ? ACCESS.WRITE : ACCESS.READ) | ((need & RIGHT.USER) === 0 ? ACCESS.PRIV : 0);
    sanitizer?.used(request.rid, pasid, pfn, access, answer.pfn);
    return true;
  }

  #fromTables(request: TranslationRequest): boolean {
    const t = this.#parts.translator;
    if (t.configured(request) !== 0) return false;
    if (this.#parts.dry !== true && t.pending.count !== 0) t.pending.commit(t.memory);
    keepTranslation(this.#parts, request);
    const answer = this.#answer;
    answer.pfn = t.pfn;
    answer.sizeLg2 = t.sizeLg2;
    answer.rights = t.rights;
    return true;
  }

  #complete(request: TranslationRequest, access: number, completion: AtsCompletion): void {
    const { words, at } = this.#parts.translator.device;
    const { pfn, pasid, write } = request;
    const answer = this.#answer;
    const excluded = this.#parts.translator.excluded;
    const allowed = excluded ? READ_WRITE : ((words[at + 1] as number) >>> IR.shift) & READ_WRITE;
    const rights = answer.rights & (allowed | ~READ_WRITE);
    completion.status = ATS_STATUS.SUCCESS;
    completion.read = rights & RIGHT.R;
    completion.write = write && (rights & RIGHT.W) !== 0 ? 1 : 0;
    if (completion.read === 0 && completion.write === 0) return;
    const tagged = pasid !== NO_PASID;
    const executes = tagged && (access & ACCESS.EXEC) !== 0 && completion.read === 1;
    completion.exec = executes && (rights & RIGHT.X) !== 0 ? 1 : 0;
    completion.priv = tagged && (access & ACCESS.PRIV) !== 0 ? 1 : 0;
    completion.untranslatedOnly = (rights & RIGHT.UNTRANSLATED_ONLY) !== 0 ? 1 : 0;
    completion.noSnoop = (rights & RIGHT.COHERENT) !== 0 ? 1 : 0;
    completion.sizeLg2 = this.#answerSize(pfn, tagged);
    completion.pfn = answer.pfn - (answer.pfn % 2 ** (completion.sizeLg2 - 12));
  }

  /** A large page that meets other rules is answered one 4 KiB page at a time. */
  #answerSize(pfn: number, tagged: boolean): number {
    const { sizeLg2 } = this.#answer;
    const { htRange, exclusion } = this.#parts.state;
    if (sizeLg2 === 12 || tagged) return sizeLg2;
    return exclusion || touchesSpecialRange(pfn, 2 ** (sizeLg2 - 12), htRange) ? 12 : sizeLg2;
  }

  /** Translated request: the address goes on as it is if V and I are set and IR and IW allow it. */
  translatedPage(rid: number, pasid: number, pfn: number, access: number, offset: number): number {
    const { state, counters, translator: t, trace } = this.#parts;
    counters.translatedRequests++;
    if (!state.enabled) return pfn;
    const request = this.#request;
    request.rid = rid;
    request.pasid = pasid;
    request.pfn = pfn;
    request.offset = offset;
    request.need = needOf(pasid, access);
    request.write = (request.need & RIGHT.W) !== 0;
    if (t.locate(request) !== 0) {
      this.#refuser.record(request);
      return BLOCKED;
    }
    if (!this.#atsAllowed()) {
      trace?.rule('DTE.V=0 or DTE.I=0: translated requests are not allowed');
      this.#refuser.invalid(request, DEVICE_REQUEST_TYPE.TRANSLATED_DENIED, 0);
      return BLOCKED;
    }
    if (t.translated(request) === 0) return pfn;
    this.#refuser.record(request);
    return BLOCKED;
  }
}

/** An empty completion: Unsupported Request. */
const clearCompletion = (completion: AtsCompletion): void => {
  completion.status = ATS_STATUS.UNSUPPORTED_REQUEST;
  completion.pfn = 0;
  completion.sizeLg2 = 12;
  completion.read = 0;
  completion.write = 0;
  completion.exec = 0;
  completion.priv = 0;
  completion.global = 0;
  completion.untranslatedOnly = 0;
  completion.noSnoop = 0;
};
