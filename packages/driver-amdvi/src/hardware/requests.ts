/**
 * Untranslated requests from the bus, and the door for all other kinds.
 *
 * @spec AMD IOMMU 2.1.3, 2.2.4
 */
import { hex } from '@iommukit/bits';
import type { AtsCompletion, PageRequest } from '@iommukit/core';
import { NO_PASID } from '@iommukit/pgtable-fast';
import { AtsService } from './ats.ts';
import { type Caches, DEVICE, DTE_INFO } from './caches.ts';
import { RIGHT } from './host-table-walker.ts';
import { PageRequestService, type PageRequestSinks } from './page-requests.ts';
import { BLOCKED, keepTranslation, Refuser, type RequestParts } from './request-parts.ts';
import { isHtRange, isInterruptRange } from './special-ranges.ts';
import { END_OF_TABLE, type Translator } from './translate.ts';
import { createTranslationRequest, needOf } from './translation-request.ts';
import type { UnitState } from './unit-state.ts';

const READ_WRITE = RIGHT.R | RIGHT.W;
const DOMAIN_MASK = 0xffff;
/** The IOTLB was not asked yet. */
const NOT_TRIED = -2;

/** Serves the requests of one unit. */
export class RequestEngine {
  /** Off while a request is explained as if nothing were cached. */
  consultIotlb = true;
  readonly #parts: RequestParts;
  readonly #state: UnitState;
  readonly #caches: Caches;
  readonly #translator: Translator;
  readonly #refuser: Refuser;
  readonly #ats: AtsService;
  readonly #pageRequests: PageRequestService;
  readonly #request = createTranslationRequest();
  /** Nobody looks on: neither the sanitizer nor who explains requests. */
  readonly #unwatched: boolean;

  constructor(parts: RequestParts, sinks: PageRequestSinks) {
    this.#parts = parts;
    this.#unwatched = parts.sanitizer === undefined && parts.dry !== true;
    this.#state = parts.state;
    this.#caches = parts.caches;
    this.#translator = parts.translator;
    this.#refuser = new Refuser(parts);
    this.#ats = new AtsService(parts, this.#refuser);
    this.#pageRequests = new PageRequestService(parts, this.#refuser, sinks);
  }

  /**
   * Untranslated DMA to one page. @hot
   *
   * @param pasid 20 bits, or -1
   * @param pfn 4 KiB frame of the address
   * @param access sum of the bus's access bits
   * @param offset byte offset in the page, for the event
   * @returns 4 KiB frame, or {@link BLOCKED}
   */
  translatePage(rid: number, pasid: number, pfn: number, access: number, offset: number): number {
    let hit = NOT_TRIED;
    if (this.#state.fast && this.#unwatched) {
      const { devices } = this.#caches;
      const at = devices.lookup(rid, NO_PASID);
      if (at >= 0) hit = this.#cached(devices.words, at, pasid, pfn, access);
      if (hit >= 0) return hit;
    }
    return this.#walk(rid, pasid, pfn, access, offset, hit);
  }

  /**
   * A translation that the IOTLB gives under a device table entry. Its rights are not cached with it.
   * @returns 4 KiB frame, or -1
   */
  #cached(words: Int32Array, at: number, pasid: number, pfn: number, access: number): number {
    const info = words[at + DEVICE.INFO] as number;
    const need = needOf(pasid, access);
    if ((need & READ_WRITE & ~info) !== 0) return -1;
    let tag = pasid;
    if (pasid === NO_PASID) {
      if (pfn >= (END_OF_TABLE[(info >>> DTE_INFO.MODE_SHIFT) & 7] as number)) return -1;
      if (isInterruptRange(pfn) || (this.#state.htRange && isHtRange(pfn))) return -1;
      if ((info & DTE_INFO.GUEST_ZERO) !== 0) tag = 0;
    } else if ((info & DTE_INFO.GUEST) === 0) return -1;
    const domain = (words[at + 2] as number) & DOMAIN_MASK;
    return this.#caches.iotlb.lookup(domain, tag, pfn, need);
  }

  /** @param tried what the IOTLB said, or {@link NOT_TRIED} */
  #walk(
    rid: number,
    pasid: number,
    pfn: number,
    access: number,
    offset: number,
    tried: number,
  ): number {
    if (!this.#state.enabled) return this.#bypass(pfn);
    this.#parts.sanitizer?.begin(rid);
    const t = this.#translator;
    const request = this.#request;
    request.rid = rid;
    request.pasid = pasid;
    request.pfn = pfn;
    request.offset = offset;
    request.need = needOf(pasid, access);
    request.write = (request.need & RIGHT.W) !== 0;
    let refused = t.locate(request);
    if (refused === 0) {
      if (tried === NOT_TRIED) {
        const hit = this.#hitAfterFetch(rid, pasid, pfn, access);
        if (hit >= 0) return hit;
      }
      refused = t.located(request);
    }
    if (refused !== 0) {
      this.#refuser.record(request);
      return BLOCKED;
    }
    this.#settle();
    keepTranslation(this.#parts, request);
    return t.pfn;
  }

  #bypass(pfn: number): number {
    this.#parts.trace?.rule('Control.IommuEn=0: the address passes unchanged');
    this.#parts.counters.bypassed++;
    return pfn;
  }

  /** The device table entry was not cached, or somebody looks on: the IOTLB may know the page. */
  #hitAfterFetch(rid: number, pasid: number, pfn: number, access: number): number {
    if (!this.#state.fast || !this.consultIotlb) return -1;
    const { words, at } = this.#translator.device;
    const { sanitizer, trace } = this.#parts;
    const hit = this.#cached(words, at, pasid, pfn, access);
    trace?.cache('IOTLB', hit >= 0, `page ${hex(pfn * 4096)}`);
    if (hit >= 0) sanitizer?.used(rid, pasid, pfn, access, hit);
    return hit;
  }

  /** Accessed and dirty bits are written when the request succeeded. */
  #settle(): void {
    const t = this.#translator;
    if (this.#parts.dry !== true && t.pending.count !== 0) t.pending.commit(t.memory);
  }

  /** ATS translation request; `access` without WRITE is NW=1. */
  translationRequest(
    rid: number,
    pasid: number,
    pfn: number,
    access: number,
    completion: AtsCompletion,
  ): void {
    this.#ats.translationRequest(rid, pasid, pfn, access, completion, this.consultIotlb);
  }

  /** Translated request: the address is system physical already. */
  translatedPage(rid: number, pasid: number, pfn: number, access: number, offset: number): number {
    return this.#ats.translatedPage(rid, pasid, pfn, access, offset);
  }

  /** PRI page request. */
  pageRequest(request: PageRequest): void {
    this.#parts.sanitizer?.begin(request.rid);
    this.#pageRequests.accept(request);
  }

  /**
   * PREFETCH_IOMMU_PAGES of one page: bring its translation into the IOTLB, if there is one.
   * @param forget drop what is cached of it first
   */
  prefetch(rid: number, pasid: number, pfn: number, forget: boolean): void {
    const t = this.#translator;
    const request = this.#request;
    if (!this.#state.enabled) return;
    request.rid = rid;
    request.pasid = pasid;
    request.pfn = pfn;
    request.offset = 0;
    request.need = RIGHT.R;
    request.write = false;
    this.#parts.sanitizer?.begin(rid);
    if (t.locate(request) !== 0) return;
    const { domain } = t.device;
    if (forget) this.#caches.iotlb.invalidateRange(domain, pasid, pfn, 12);
    if (t.resolve(request) !== 0) return;
    this.#settle();
    keepTranslation(this.#parts, request);
  }
}
