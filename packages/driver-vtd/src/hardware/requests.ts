/**
 * Requests from the bus: untranslated DMA, ATS translation and translated requests, page requests.
 *
 * @spec VT-d 3.2, 4.2 (ATS), 7.1.3 (answers to faults), 7.4 (page requests)
 */
import { ACCESS, ATS_STATUS, type AtsCompletion, type PageRequest } from '@iommukit/core';
import { CONTEXT_TT } from '../spec/context-entry.ts';
import { FAULT_REASON, faultCondition } from '../spec/fault-reasons.ts';
import { RESPONSE_CODE } from '../spec/invalidation-descriptors.ts';
import { PGTT } from '../spec/pasid-entry.ts';
import { TTM } from '../spec/registers.ts';
import type { Caches } from './caches.ts';
import type { Features } from './capabilities.ts';
import { CONTEXT } from './context-cache.ts';
import { type FaultDetails, type FaultRecorder, REQUEST_TYPE } from './fault-recording.ts';
import { sourceOf, spreadOf, TLB } from './iotlb.ts';
import type { PageRequestQueue } from './page-request-queue.ts';
import type { ProtectedMemory } from './protected-memory.ts';
import {
  clearCompletion,
  inInterruptRange,
  needTable,
  requestType,
  samePermission,
  touchesInterruptRange,
} from './request-rules.ts';
import type { Sanitizer } from './sanitizer.ts';
import { RIGHT, SS_FAIL } from './second-stage-walker.ts';
import type { TraceSink } from './trace.ts';
import { ADDRESS_TYPE, type TranslationRequest, type Translator } from './translate.ts';

/** Blocked without a fault reason: protected memory, or requests the unit refuses when it is off. */
export const BLOCKED_SILENTLY = -256;

const { READ, WRITE, EXEC, PRIV, ATOMIC, ZERO_LENGTH } = ACCESS;

/** Counters of a unit. */
export interface RequestStats {
  /** Pages translated or refused while translation was on. */
  translations: number;
  iotlbHits: number;
  iotlbMisses: number;
  /** Pages passed while translation was off. */
  bypassed: number;
  translationRequests: number;
  translatedRequests: number;
  pageRequests: number;
}

/** The parts a request meets. */
export interface RequestParts {
  readonly translator: Translator;
  readonly caches: Caches;
  readonly features: Features;
  readonly faults: Pick<FaultRecorder, 'record'>;
  readonly pageRequests: Pick<PageRequestQueue, 'respond' | 'refuses' | 'push'>;
  readonly protectedMemory: ProtectedMemory;
  /** Checks every use of a cached translation. */
  readonly sanitizer?: Sanitizer | undefined;
  /** Change no cache: requests are only explained. */
  readonly dry?: boolean;
}

/** Serves requests with the latched state of the unit. */
export class RequestEngine {
  /** GSTS.TES. */
  enabled = false;
  readonly counters = {
    hits: 0,
    misses: 0,
    bypassed: 0,
    translationRequests: 0,
    translatedRequests: 0,
    pageRequests: 0,
  };
  /** Nothing but the IOTLB decides about a hit. */
  #fast = false;

  readonly #parts: RequestParts;
  readonly #translator: Translator;
  readonly #caches: Caches;
  readonly #need: Int32Array;
  readonly #request: TranslationRequest = {
    rid: 0,
    pasid: -1,
    pfn: 0,
    want: 0,
    write: false,
    blameWrite: false,
    priv: false,
    exec: false,
    addressType: ADDRESS_TYPE.UNTRANSLATED,
  };
  readonly #fault: FaultDetails = {
    reason: 0,
    rid: 0,
    pasid: -1,
    pfn: 0,
    type: 0,
    addressType: 0,
    priv: false,
    exec: false,
  };

  constructor(parts: RequestParts) {
    this.#parts = parts;
    this.#translator = parts.translator;
    this.#caches = parts.caches;
    this.#need = needTable(parts.features.zeroLengthRead);
  }

  /** Set while requests are explained. */
  trace: TraceSink | undefined;
  /** Off while a request is explained as if nothing were cached. */
  consultIotlb = true;

  /** Registers changed: decide again whether the short path is enough. */
  refresh(): void {
    const { protectedMemory, sanitizer, dry } = this.#parts;
    this.#fast = this.enabled && !protectedMemory.active && sanitizer === undefined && !dry;
  }

  /**
   * Untranslated DMA to one page. @hot
   * @returns frame, `-reason` of a fault, or {@link BLOCKED_SILENTLY}
   */
  translatePage(rid: number, pasid: number, pfn: number, access: number): number {
    if (!this.#fast) return this.#slow(rid, pasid, pfn, access);
    const priv = pasid >= 0 ? (access >>> 3) & 1 : 0;
    const source = sourceOf(rid, pasid, priv);
    const spread = spreadOf(rid, pasid);
    const need = this.#need[access & 127] as number;
    const { page4K, page2M, page1G } = this.#caches.iotlb;
    let slot = page4K.find(source, spread, pfn);
    if (slot >= 0) {
      if (((page4K.meta[slot] as number) & need) === need) {
        this.counters.hits++;
        return page4K.target[slot] as number;
      }
    } else {
      if (page2M.live !== 0) {
        slot = page2M.find(source, spread, Math.floor(pfn / 0x200));
        if (slot >= 0 && ((page2M.meta[slot] as number) & need) === need) {
          this.counters.hits++;
          return (page2M.target[slot] as number) + ((pfn | 0) & 0x1ff);
        }
      }
      if (page1G.live !== 0) {
        slot = page1G.find(source, spread, Math.floor(pfn / 0x4_0000));
        if (slot >= 0 && ((page1G.meta[slot] as number) & need) === need) {
          this.counters.hits++;
          return (page1G.target[slot] as number) + ((pfn | 0) & 0x3_ffff);
        }
      }
    }
    return this.#miss(rid, pasid, pfn, access, source, spread);
  }

  #slow(rid: number, pasid: number, pfn: number, access: number): number {
    const { protectedMemory, sanitizer } = this.#parts;
    if (!this.enabled) {
      this.trace?.rule('GSTS.TES=0: the address passes unchanged');
      this.counters.bypassed++;
      return protectedMemory.blocks(pfn) ? BLOCKED_SILENTLY : pfn;
    }
    sanitizer?.begin(rid, pasid);
    const frame = this.#lookup(rid, pasid, pfn, access);
    if (frame < 0 || !protectedMemory.blocks(frame)) return frame;
    this.trace?.rule('protected memory: blocked, nothing recorded');
    return BLOCKED_SILENTLY;
  }

  /** The long form of {@link translatePage}: same answer, without the short path. */
  #lookup(rid: number, pasid: number, pfn: number, access: number): number {
    const priv = pasid >= 0 ? (access >>> 3) & 1 : 0;
    const source = sourceOf(rid, pasid, priv);
    const spread = spreadOf(rid, pasid);
    const need = this.#need[access & 127] as number;
    const hit = this.consultIotlb ? this.#find(source, spread, pfn) : undefined;
    const good = hit !== undefined && (hit.meta & need) === need;
    if (this.consultIotlb)
      this.trace?.cache(
        'IOTLB',
        good,
        hit === undefined || good ? '' : 'an entry without the right',
      );
    if (good) {
      this.counters.hits++;
      this.#parts.sanitizer?.used(rid, pasid, pfn, access, hit.target);
      return hit.target;
    }
    return this.#miss(rid, pasid, pfn, access, source, spread);
  }

  readonly #hit = { meta: 0, target: 0, sizeLg2: 12 };

  #find(source: number, spread: number, pfn: number) {
    const hit = this.#hit;
    for (let sizeLg2 = 12; sizeLg2 <= 30; sizeLg2 += 9) {
      const array = this.#caches.iotlb.arrayFor(sizeLg2);
      const frames = 2 ** (sizeLg2 - 12);
      const slot = array.find(source, spread, Math.floor(pfn / frames));
      if (slot < 0) continue;
      hit.meta = array.meta[slot] as number;
      hit.target = (array.target[slot] as number) + (pfn % frames);
      hit.sizeLg2 = sizeLg2;
      return hit;
    }
    return undefined;
  }

  #miss(
    rid: number,
    pasid: number,
    pfn: number,
    access: number,
    source: number,
    spread: number,
  ): number {
    if (pasid < 0 && inInterruptRange(pfn)) {
      this.trace?.rule('FEEx_xxxxh without PASID: an interrupt request, never translated');
      return this.#interruptRequest(rid, pfn, access);
    }
    this.counters.misses++;
    const request = this.#request;
    request.rid = rid;
    request.pasid = pasid;
    request.pfn = pfn;
    request.write = (access & (WRITE | ATOMIC)) !== 0;
    request.want = (this.#need[access & 127] as number) & (RIGHT.R | RIGHT.W);
    request.blameWrite = request.write;
    request.priv = (access & PRIV) !== 0;
    request.exec = pasid >= 0 && (access & EXEC) !== 0;
    request.addressType = ADDRESS_TYPE.UNTRANSLATED;
    let reason = this.#parts.features.keepsFaults
      ? this.#cachedFault(source, spread, pfn, access)
      : 0;
    if (reason === 0) {
      const translator = this.#translator;
      reason = translator.resolve(request);
      if (reason === 0) {
        if (translator.walked) this.#fill(source, spread, pfn, pasid < 0);
        return translator.pfn;
      }
      if (this.#parts.features.keepsFaults) this.#fillFault(source, spread, pfn, reason);
    }
    return this.#blocked(reason, rid, pasid, pfn, access, ADDRESS_TYPE.UNTRANSLATED);
  }

  /** D.1 steps 4 to 6: FEEx_xxxxh without PASID is never translated. */
  #interruptRequest(rid: number, pfn: number, access: number): number {
    const plainWrite = (access & WRITE) !== 0 && (access & (READ | ATOMIC)) === 0;
    if (plainWrite || ((access & ZERO_LENGTH) !== 0 && (access & (WRITE | ATOMIC)) === 0))
      return pfn;
    const { faults, features } = this.#parts;
    const reason = FAULT_REASON.IR_ILLEGAL_REQUEST;
    if (features.interruptRemapping) {
      this.#describe(reason, rid, -1, 0, access, ADDRESS_TYPE.UNTRANSLATED);
      faults.record(this.#fault, false);
    }
    return -reason;
  }

  #describe(
    reason: number,
    rid: number,
    pasid: number,
    pfn: number,
    access: number,
    addressType: number,
  ): void {
    const fault = this.#fault;
    fault.reason = reason;
    fault.rid = rid;
    fault.pasid = pasid;
    fault.pfn = pfn;
    fault.type = addressType === ADDRESS_TYPE.TRANSLATION ? REQUEST_TYPE.READ : requestType(access);
    fault.addressType = addressType;
    fault.priv = (access & PRIV) !== 0;
    fault.exec = (access & EXEC) !== 0;
  }

  #blocked(
    reason: number,
    rid: number,
    pasid: number,
    pfn: number,
    access: number,
    addressType: number,
  ): number {
    this.#describe(reason, rid, pasid, pfn, access, addressType);
    this.#parts.faults.record(this.#fault, this.#translator.fpd);
    return -reason;
  }

  /** Keep the translator's result; in pieces of 4 KiB where a large page meets FEEx_xxxxh. */
  #fill(source: number, spread: number, pfn: number, untagged: boolean): void {
    if (this.#parts.dry) return;
    const t = this.#translator;
    let { sizeLg2 } = t;
    if (sizeLg2 > 12 && touchesInterruptRange(t.pfn, pfn, sizeLg2, untagged)) sizeLg2 = 12;
    const frames = 1 << (sizeLg2 - 12);
    const offset = (pfn | 0) & (frames - 1);
    const meta =
      TLB.GOOD |
      t.rights |
      (t.cleanWrite ? TLB.CLEAN_WRITE : 0) |
      (t.noSnoop ? TLB.SNOOP : 0) |
      (t.pgtt << TLB.PGTT_SHIFT);
    const array = this.#caches.iotlb.arrayFor(sizeLg2);
    const page = (pfn - offset) / frames;
    array.insert(source, spread, page, t.pfn - offset, meta, t.did, t.pasidTag);
    this.#parts.sanitizer?.filled(source, sizeLg2, page);
  }

  /** Caching mode: keep a second-stage fault too. */
  #fillFault(source: number, spread: number, pfn: number, reason: number): void {
    const t = this.#translator;
    if (this.#parts.dry) return;
    if (t.ssFailure !== SS_FAIL.EMPTY && t.ssFailure !== SS_FAIL.RESERVED) return;
    const meta = (reason << TLB.REASON_SHIFT) | (t.pgtt << TLB.PGTT_SHIFT) | (t.fpd ? TLB.FPD : 0);
    this.#caches.iotlb.page4K.insert(source, spread, pfn, 0, meta, t.did, t.pasidTag);
  }

  /** Caching mode: the fault that a kept entry means for this access; 0 = walk. */
  #cachedFault(source: number, spread: number, pfn: number, access: number): number {
    const hit = this.#find(source, spread, pfn);
    if (hit === undefined) return 0;
    const reason = hit.meta >>> TLB.REASON_SHIFT;
    this.#translator.fpd = (hit.meta & TLB.FPD) !== 0;
    if (reason !== 0) return samePermission(reason, access);
    const pgtt = (hit.meta & TLB.PGTT_MASK) >>> TLB.PGTT_SHIFT;
    if (pgtt !== 0 && pgtt !== PGTT.SECOND_STAGE) return 0;
    const absent = (this.#need[access & 127] as number) & ~hit.meta & (RIGHT.R | RIGHT.W);
    if (absent === 0) return 0;
    if ((absent & RIGHT.W) !== 0)
      return pgtt === 0 ? FAULT_REASON.LEGACY_WRITE : FAULT_REASON.WRITE;
    return pgtt === 0 ? FAULT_REASON.LEGACY_READ : FAULT_REASON.READ;
  }

  /** ATS translation request; `access` without WRITE is NW=1. */
  translationRequest(
    rid: number,
    pasid: number,
    pfn: number,
    access: number,
    completion: AtsCompletion,
  ): void {
    this.counters.translationRequests++;
    this.#parts.sanitizer?.begin(rid, pasid);
    clearCompletion(completion);
    if (!this.enabled) return;
    const noWrite = (access & WRITE) === 0;
    if (pasid < 0 && inInterruptRange(pfn)) {
      completion.status = ATS_STATUS.SUCCESS;
      if (!noWrite) {
        completion.write = 1;
        completion.untranslatedOnly = 1;
      }
      return;
    }
    this.#answer(rid, pasid, pfn, access, noWrite && this.#parts.features.noWriteFlag, completion);
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
    if (this.#fast && this.#answerFromIotlb(request, source, spread, readOnly, completion)) return;
    this.counters.misses++;
    const reason = t.resolve(request);
    if (reason !== 0) {
      this.#refuseTranslation(reason, completion, access);
      return;
    }
    if (t.walked) this.#fill(source, spread, pfn, pasid < 0);
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
    const hit = this.#find(source, spread, pfn);
    if (hit === undefined || (hit.meta & TLB.GOOD) === 0) return false;
    const writable = (hit.meta & RIGHT.W) !== 0 && !readOnly;
    if (writable && (hit.meta & TLB.CLEAN_WRITE) === 0) return false;
    if (t.contextForScalable(rid, pasid, ADDRESS_TYPE.TRANSLATION) !== 0) return false;
    this.counters.hits++;
    completion.status = ATS_STATUS.SUCCESS;
    completion.read = (hit.meta & RIGHT.R) !== 0 ? 1 : 0;
    completion.write = writable ? 1 : 0;
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
    this.#blocked(reason, rid, pasid, pfn, access, ADDRESS_TYPE.TRANSLATION);
  }

  /** Translated request: the address is host physical already. */
  translatedPage(rid: number, pasid: number, pfn: number, access: number): number {
    this.counters.translatedRequests++;
    if (!this.enabled) return BLOCKED_SILENTLY;
    const t = this.#translator;
    t.fpd = false;
    const reason = this.#translatedReason(rid, pasid, pfn, access);
    if (reason !== 0)
      return this.#blocked(reason, rid, pasid, pfn, access, ADDRESS_TYPE.TRANSLATED);
    return this.#parts.protectedMemory.blocks(pfn) ? BLOCKED_SILENTLY : pfn;
  }

  #translatedReason(rid: number, pasid: number, pfn: number, access: number): number {
    const t = this.#translator;
    const mode = t.modeReason(pasid);
    if (mode !== 0) return mode;
    if (t.ttm === TTM.SCALABLE) {
      if (pasid >= 0 && (access & EXEC) !== 0 && this.#parts.features.major >= 8)
        return FAULT_REASON.EXECUTE_REQUEST;
      const reason = t.contextForScalable(rid, pasid, ADDRESS_TYPE.TRANSLATED);
      return reason !== 0 ? reason : t.translatedAddress(pfn);
    }
    const reason = t.context.find(rid, t.rootTable, false);
    t.fpd = (t.context.info & CONTEXT.FPD) !== 0;
    if (reason !== 0) return reason;
    const tt = (t.context.info >>> CONTEXT.TT_SHIFT) & 3;
    return tt === CONTEXT_TT.ATS ? t.translatedAddress(pfn) : FAULT_REASON.LEGACY_TT_BLOCKS;
  }

  /** PRI page request. */
  pageRequest(request: PageRequest): void {
    this.counters.pageRequests++;
    const { features, pageRequests } = this.#parts;
    if (!this.enabled || !features.pageRequests) return;
    this.#translator.fpd = false;
    const reason = this.#pageRequestReason(request);
    if (reason !== 0) {
      this.#recordPageRequest(request, reason);
      pageRequests.respond(request, RESPONSE_CODE.INVALID);
      return;
    }
    const stop = request.last && !request.read && !request.write;
    if (pageRequests.refuses(request)) return;
    if (!this.#parts.dry && !(stop && features.stopMarker)) this.#implicitInvalidation(request);
    pageRequests.push(request);
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

  #recordPageRequest(request: PageRequest, reason: number): void {
    const fault = this.#fault;
    const { rid, pasid, addressPfn, priv, exec } = request;
    fault.reason = reason;
    fault.rid = rid;
    fault.pasid = pasid;
    fault.pfn = addressPfn;
    fault.type = REQUEST_TYPE.PAGE_REQUEST;
    fault.addressType = ADDRESS_TYPE.UNTRANSLATED;
    fault.priv = priv;
    fault.exec = exec;
    this.#parts.faults.record(fault, this.#translator.fpd);
  }

  /** A page request makes the unit forget what it knows of that page (E.3). */
  #implicitInvalidation({ addressPfn }: PageRequest): void {
    const { pgtt, did, pasidTag } = this.#translator;
    const { iotlb } = this.#caches;
    if (pgtt === PGTT.FIRST_STAGE) iotlb.invalidatePasidPages(did, pasidTag, addressPfn, 0);
    else if (pgtt === PGTT.NESTED) iotlb.invalidateDomain(did);
    else iotlb.invalidatePages(did, addressPfn, 0);
  }
}
