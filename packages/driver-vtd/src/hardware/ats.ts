/**
 * ATS: translation requests, and requests that carry translated addresses.
 *
 * @spec VT-d 4.2, 7.1.3 (answers to faults)
 */
import { ACCESS, ATS_STATUS, type AtsCompletion } from '@iommukit/core';
import { CONTEXT_TT } from '../spec/context-entry.ts';
import { FAULT_REASON, faultCondition } from '../spec/fault-reasons.ts';
import { TTM } from '../spec/registers.ts';
import { CONTEXT } from './context-cache.ts';
import { sourceOf, spreadOf, TLB } from './iotlb.ts';
import type { IotlbAccess } from './iotlb-access.ts';
import {
  BLOCKED_SILENTLY,
  type FaultReporter,
  type RequestParts,
  type RequestState,
} from './request-parts.ts';
import {
  clearCompletion,
  createTranslationRequest,
  inInterruptRange,
  touchesInterruptRange,
} from './request-rules.ts';
import { RIGHT } from './second-stage-walker.ts';
import type { Translator } from './translate.ts';
import { ADDRESS_TYPE, type TranslationRequest } from './translation-request.ts';

const { WRITE, EXEC, PRIV } = ACCESS;

/** Serves ATS requests. */
export class AtsService {
  readonly #parts: RequestParts;
  readonly #translator: Translator;
  readonly #state: RequestState;
  readonly #iotlb: IotlbAccess;
  readonly #report: FaultReporter;
  readonly #request = createTranslationRequest();

  constructor(parts: RequestParts, state: RequestState, iotlb: IotlbAccess, report: FaultReporter) {
    this.#parts = parts;
    this.#translator = parts.translator;
    this.#state = state;
    this.#iotlb = iotlb;
    this.#report = report;
  }

  /** ATS translation request; `access` without WRITE is NW=1. */
  translationRequest(
    rid: number,
    pasid: number,
    pfn: number,
    access: number,
    completion: AtsCompletion,
  ): void {
    this.#state.translationRequests++;
    this.#parts.sanitizer?.begin(rid, pasid);
    clearCompletion(completion);
    if (!this.#state.enabled) return;
    const noWrite = (access & WRITE) === 0;
    if (pasid < 0 && inInterruptRange(pfn)) {
      this.#interruptPage(rid, pfn, access, completion);
      return;
    }
    this.#answer(rid, pasid, pfn, access, noWrite && this.#parts.features.noWriteFlag, completion);
  }

  /**
   * FEEx_xxxxh without PASID: no address is translated, and a write goes untranslated (conditions
   * S.1 and S.2), for a requester that may use ATS at all.
   */
  #interruptPage(rid: number, pfn: number, access: number, completion: AtsCompletion): void {
    const request = this.#request;
    request.rid = rid;
    request.pasid = -1;
    request.pfn = pfn;
    const reason = this.#requesterReason(rid, -1, ADDRESS_TYPE.TRANSLATION);
    if (reason !== 0) {
      this.#refuseTranslation(reason, completion, access);
      return;
    }
    completion.status = ATS_STATUS.SUCCESS;
    if ((access & WRITE) === 0) return;
    completion.write = 1;
    completion.untranslatedOnly = 1;
  }

  #answer(
    rid: number,
    pasid: number,
    pfn: number,
    access: number,
    readOnly: boolean,
    completion: AtsCompletion,
  ): void {
    const request = this.#request;
    const t = this.#translator;
    request.rid = rid;
    request.pasid = pasid;
    request.pfn = pfn;
    request.want = 0;
    request.write = !readOnly;
    request.blameWrite = !readOnly;
    request.priv = (access & PRIV) !== 0;
    request.exec = pasid >= 0 && (access & EXEC) !== 0;
    request.addressType = ADDRESS_TYPE.TRANSLATION;
    const priv = pasid >= 0 && request.priv ? 1 : 0;
    completion.priv = priv;
    const source = sourceOf(rid, pasid, priv);
    const spread = spreadOf(rid, pasid);
    if (this.#state.fast && this.#answerFromIotlb(request, source, spread, readOnly, completion))
      return;
    this.#state.misses++;
    const reason = t.resolve(request);
    if (reason !== 0) {
      this.#refuseTranslation(reason, completion, access);
      return;
    }
    if (t.walked) this.#iotlb.fill(source, spread, pfn, pasid < 0);
    completion.status = ATS_STATUS.SUCCESS;
    completion.read = t.rights & RIGHT.R;
    completion.write = !readOnly && (t.rights & RIGHT.W) !== 0 ? 1 : 0;
    if (completion.read === 0 && completion.write === 0) return;
    let { sizeLg2 } = t;
    if (sizeLg2 > 12 && touchesInterruptRange(t.pfn, pfn, sizeLg2, pasid < 0)) sizeLg2 = 12;
    completion.sizeLg2 = sizeLg2;
    completion.pfn = t.pfn - (t.pfn % 2 ** (sizeLg2 - 12));
    completion.noSnoop = t.noSnoop ? 1 : 0;
  }

  /**
   * Answer a translation request from the IOTLB, in scalable mode. The context entry is looked at
   * all the same: an entry that untranslated requests left behind says nothing about DTE.
   *
   * @returns false when it takes a walk: no entry, D not set yet, or a reason to refuse
   */
  #answerFromIotlb(
    { rid, pasid, pfn, exec }: TranslationRequest,
    source: number,
    spread: number,
    readOnly: boolean,
    completion: AtsCompletion,
  ): boolean {
    const t = this.#translator;
    if (exec || t.ttm !== TTM.SCALABLE || t.modeReason(pasid) !== 0) return false;
    const hit = this.#iotlb.find(source, spread, pfn);
    if (hit === undefined || (hit.meta & TLB.GOOD) === 0) return false;
    const writable = (hit.meta & RIGHT.W) !== 0 && !readOnly;
    if (writable && (hit.meta & TLB.CLEAN_WRITE) === 0) return false;
    if (t.contextForScalable(rid, pasid, ADDRESS_TYPE.TRANSLATION) !== 0) return false;
    this.#state.hits++;
    completion.status = ATS_STATUS.SUCCESS;
    completion.read = (hit.meta & RIGHT.R) !== 0 ? 1 : 0;
    completion.write = writable ? 1 : 0;
    if (completion.read === 0 && !writable) return true;
    completion.sizeLg2 = hit.sizeLg2;
    completion.pfn = hit.target - (hit.target % 2 ** (hit.sizeLg2 - 12));
    completion.noSnoop = (hit.meta & TLB.SNOOP) !== 0 ? 1 : 0;
    return true;
  }

  #refuseTranslation(reason: number, completion: AtsCompletion, access: number): void {
    const { rid, pasid, pfn } = this.#request;
    const answer = faultCondition(reason)?.translation;
    if (answer === 'ok0' || answer === 'eff') {
      completion.status = ATS_STATUS.SUCCESS;
      if (reason !== FAULT_REASON.FS_AD_FAILED) return;
    } else {
      completion.status =
        answer === 'CA' ? ATS_STATUS.COMPLETER_ABORT : ATS_STATUS.UNSUPPORTED_REQUEST;
      completion.priv = 0;
    }
    this.#report.blocked(reason, rid, pasid, pfn, access, ADDRESS_TYPE.TRANSLATION);
  }

  /** Translated request: the address is host physical already. */
  translatedPage(rid: number, pasid: number, pfn: number, access: number): number {
    this.#state.translatedRequests++;
    if (!this.#state.enabled) return BLOCKED_SILENTLY;
    const t = this.#translator;
    t.fpd = false;
    this.#parts.sanitizer?.begin(rid, pasid);
    const reason = this.#translatedReason(rid, pasid, pfn, access);
    if (reason !== 0)
      return this.#report.blocked(reason, rid, pasid, pfn, access, ADDRESS_TYPE.TRANSLATED);
    return this.#parts.protectedMemory.blocks(pfn) ? BLOCKED_SILENTLY : pfn;
  }

  /** HPTE=1: the PASID entry names a host permission table, which has the last word. */
  #permitted(rid: number, pasid: number, pfn: number, access: number): number {
    const t = this.#translator;
    t.hostPermission.used = undefined;
    const reason = t.permittedAddress(rid, pasid, pfn, access);
    const { used } = t.hostPermission;
    if (used !== undefined) this.#parts.sanitizer?.permissionUsed(used);
    return reason;
  }

  #translatedReason(rid: number, pasid: number, pfn: number, access: number): number {
    const t = this.#translator;
    const reason = this.#requesterReason(rid, pasid, ADDRESS_TYPE.TRANSLATED, access);
    if (reason !== 0) return reason;
    if (t.ttm === TTM.SCALABLE && (t.context.info & CONTEXT.HPTE) !== 0)
      return this.#permitted(rid, pasid, pfn, access);
    return t.translatedAddress(pfn);
  }

  /** @returns 0 when the mode and the context entry let the requester use ATS, or a fault reason */
  #requesterReason(rid: number, pasid: number, addressType: number, access = 0): number {
    const t = this.#translator;
    const mode = t.modeReason(pasid);
    if (mode !== 0) return mode;
    if (t.ttm === TTM.SCALABLE) {
      if (pasid >= 0 && (access & EXEC) !== 0 && this.#parts.features.major >= 8)
        return FAULT_REASON.EXECUTE_REQUEST;
      return t.contextForScalable(rid, pasid, addressType);
    }
    const reason = t.context.find(rid, t.rootTable, false);
    t.fpd = (t.context.info & CONTEXT.FPD) !== 0;
    if (reason !== 0) return reason;
    const tt = (t.context.info >>> CONTEXT.TT_SHIFT) & 3;
    return tt === CONTEXT_TT.ATS ? 0 : FAULT_REASON.LEGACY_TT_BLOCKS;
  }
}
