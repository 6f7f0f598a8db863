/**
 * Untranslated requests from the bus, and the door for all other kinds.
 *
 * @spec VT-d 3.2, 3.14, 7.1.3 (answers to faults)
 */
import { ACCESS, type AtsCompletion, type PageRequest } from '@iommukit/core';
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { AtsService } from './ats.ts';
import type { Caches } from './caches.ts';
import { sourceOf, spreadOf } from './iotlb.ts';
import { IotlbAccess } from './iotlb-access.ts';
import { PageRequestService } from './page-requests.ts';
import {
  BLOCKED_SILENTLY,
  FaultReporter,
  INTERRUPT_REQUEST,
  type RequestParts,
  RequestState,
} from './request-parts.ts';
import { createTranslationRequest, inInterruptRange } from './request-rules.ts';
import { RIGHT } from './second-stage-walker.ts';
import type { TraceSink } from './trace.ts';
import type { Translator } from './translate.ts';
import { ADDRESS_TYPE } from './translation-request.ts';

const { READ, WRITE, EXEC, PRIV, ATOMIC, ZERO_LENGTH } = ACCESS;

/** Serves requests with the latched state of the unit. */
export class RequestEngine {
  readonly state = new RequestState();
  readonly #parts: RequestParts;
  readonly #translator: Translator;
  readonly #caches: Caches;
  readonly #iotlb: IotlbAccess;
  readonly #need: Int32Array;
  readonly #report: FaultReporter;
  readonly #ats: AtsService;
  readonly #pageRequests: PageRequestService;
  readonly #request = createTranslationRequest();

  constructor(parts: RequestParts) {
    this.#parts = parts;
    this.#translator = parts.translator;
    this.#caches = parts.caches;
    this.#iotlb = new IotlbAccess(parts);
    this.#need = this.#iotlb.need;
    this.#report = new FaultReporter(parts);
    this.#ats = new AtsService(parts, this.state, this.#iotlb, this.#report);
    this.#pageRequests = new PageRequestService(parts, this.state, this.#report);
  }

  /** Set while requests are explained. */
  trace: TraceSink | undefined;
  /** Off while a request is explained as if nothing were cached. */
  consultIotlb = true;

  /** Registers changed: decide again whether the short path is enough. */
  refresh(): void {
    const { protectedMemory, sanitizer, dry, interrupts } = this.#parts;
    this.state.interrupts = interrupts.active;
    this.state.fast =
      this.state.enabled && !protectedMemory.active && sanitizer === undefined && !dry;
  }

  /**
   * Untranslated DMA to one page. @hot
   * @returns frame, `-reason` of a fault, {@link BLOCKED_SILENTLY} or {@link INTERRUPT_REQUEST}
   */
  translatePage(rid: number, pasid: number, pfn: number, access: number): number {
    if (!this.state.fast) return this.#slow(rid, pasid, pfn, access);
    const priv = pasid >= 0 ? (access >>> 3) & 1 : 0;
    const source = sourceOf(rid, pasid, priv);
    const spread = spreadOf(rid, pasid);
    const need = this.#need[access & 127] as number;
    const { page4K, page2M, page1G } = this.#caches.iotlb;
    let slot = page4K.find(source, spread, pfn);
    if (slot >= 0) {
      if (((page4K.meta[slot] as number) & need) === need) {
        this.state.hits++;
        return page4K.target[slot] as number;
      }
    } else {
      if (page2M.live !== 0) {
        slot = page2M.find(source, spread, Math.floor(pfn / 0x200));
        if (slot >= 0 && ((page2M.meta[slot] as number) & need) === need) {
          this.state.hits++;
          return (page2M.target[slot] as number) + ((pfn | 0) & 0x1ff);
        }
      }
      if (page1G.live !== 0) {
        slot = page1G.find(source, spread, Math.floor(pfn / 0x4_0000));
        if (slot >= 0 && ((page1G.meta[slot] as number) & need) === need) {
          this.state.hits++;
          return (page1G.target[slot] as number) + ((pfn | 0) & 0x3_ffff);
        }
      }
    }
    return this.#miss(rid, pasid, pfn, access, source, spread);
  }

  #slow(rid: number, pasid: number, pfn: number, access: number): number {
    const { protectedMemory, sanitizer } = this.#parts;
    if (!this.state.enabled) {
      if (this.state.interrupts && pasid < 0 && inInterruptRange(pfn))
        return this.#interruptRequest(rid, pfn, access);
      this.trace?.rule('GSTS.TES=0: the address passes unchanged');
      this.state.bypassed++;
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
    const hit = this.consultIotlb ? this.#iotlb.find(source, spread, pfn) : undefined;
    const good = hit !== undefined && (hit.meta & need) === need;
    if (this.consultIotlb)
      this.trace?.cache(
        'IOTLB',
        good,
        hit === undefined || good ? '' : 'an entry without the right',
      );
    if (good) {
      this.state.hits++;
      this.#parts.sanitizer?.used(rid, pasid, pfn, access, hit.target);
      return hit.target;
    }
    return this.#miss(rid, pasid, pfn, access, source, spread);
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
    this.state.misses++;
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
      ? this.#iotlb.cachedFault(source, spread, pfn, access)
      : 0;
    if (reason === 0) {
      const translator = this.#translator;
      reason = translator.resolve(request);
      if (reason === 0) {
        if (translator.walked) this.#iotlb.fill(source, spread, pfn, pasid < 0);
        return translator.pfn;
      }
      if (this.#parts.features.keepsFaults) this.#iotlb.fillFault(source, spread, pfn, reason);
    }
    return this.#report.blocked(reason, rid, pasid, pfn, access, ADDRESS_TYPE.UNTRANSLATED);
  }

  /** D.1 steps 4 to 6: FEEx_xxxxh without PASID is never translated. */
  #interruptRequest(rid: number, pfn: number, access: number): number {
    const plainWrite = (access & WRITE) !== 0 && (access & (READ | ATOMIC)) === 0;
    if (plainWrite) return this.state.interrupts ? INTERRUPT_REQUEST : pfn;
    if ((access & ZERO_LENGTH) !== 0 && (access & (WRITE | ATOMIC)) === 0) return pfn;
    const reason = FAULT_REASON.IR_ILLEGAL_REQUEST;
    this.#translator.fpd = false;
    if (this.#parts.features.interruptRemapping)
      this.#report.blocked(reason, rid, -1, 0, access, ADDRESS_TYPE.UNTRANSLATED);
    return -reason;
  }

  /** ATS translation request; `access` without WRITE is NW=1. */
  translationRequest(
    rid: number,
    pasid: number,
    pfn: number,
    access: number,
    completion: AtsCompletion,
  ): void {
    this.#ats.translationRequest(rid, pasid, pfn, access, completion);
  }

  /** Translated request: the address is host physical already. */
  translatedPage(rid: number, pasid: number, pfn: number, access: number): number {
    return this.#ats.translatedPage(rid, pasid, pfn, access);
  }

  /** PRI page request. */
  pageRequest(request: PageRequest): void {
    this.#pageRequests.accept(request);
  }
}
