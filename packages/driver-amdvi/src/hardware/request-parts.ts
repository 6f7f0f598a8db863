/**
 * What all kinds of requests share: the parts of the unit they meet, the counters, and how a refusal
 * becomes an event.
 */
import { ENTRY_KIND, NO_PASID } from '@iommukit/pgtable-fast';
import { DTE } from '../spec/device-table-entry.ts';
import { EVENT } from '../spec/events.ts';
import { type Caches, DEVICE } from './caches.ts';
import type { Features } from './capabilities.ts';
import { type EventRecords, FLAG } from './event-records.ts';
import type { Sanitizer } from './sanitizer.ts';
import type { TraceSink } from './trace.ts';
import type { Translator } from './translate.ts';
import type { TranslationRequest } from './translation-request.ts';
import type { UnitState } from './unit-state.ts';

/** What the agent returns for a refused request (target abort). */
export const BLOCKED = -1;

/** The parts a request meets. */
export interface RequestParts {
  readonly state: UnitState;
  readonly features: Features;
  readonly caches: Caches;
  readonly translator: Translator;
  readonly events: EventRecords;
  readonly counters: RequestCounters;
  /** Checks every use of a cached translation. */
  readonly sanitizer?: Sanitizer | undefined;
  /** Change nothing: the request is only explained. */
  readonly dry?: boolean;
  /** Set while requests are explained. */
  trace?: TraceSink | undefined;
}

/** Counters of a unit's requests. Hits are counted by the IOTLB itself. */
export class RequestCounters {
  bypassed = 0;
  translationRequests = 0;
  translatedRequests = 0;
  pageRequests = 0;
  refused = 0;
}

const { SE, SA } = DTE.fields;

/** Reports refused requests to the event log. */
export class Refuser {
  readonly #parts: RequestParts;

  constructor(parts: RequestParts) {
    this.#parts = parts;
  }

  /**
   * Record the translator's refusal of a request.
   * @param extra flags to add: TR for translation requests
   */
  record(request: TranslationRequest, extra = 0): void {
    const { translator, events, counters } = this.#parts;
    const { code, type, pfn, offset, address } = translator.refusal;
    const flags = translator.refusal.flags | extra;
    const { rid, pasid } = request;
    counters.refused++;
    if (translator.silent) return;
    const guest = (flags & FLAG.GN) !== 0;
    const tag = guest ? Math.max(pasid, 0) : translator.device.domain;
    switch (code) {
      case EVENT.IO_PAGE_FAULT:
        if (this.#suppressed(flags)) return;
        events.pageFault(rid, tag, flags, pfn, offset);
        return;
      case EVENT.ILLEGAL_DEV_TABLE_ENTRY:
        events.illegalDevTableEntry(rid, flags, pfn, offset);
        return;
      case EVENT.DEV_TAB_HARDWARE_ERROR:
        events.devTabHardwareError(rid, flags, address);
        return;
      case EVENT.PAGE_TAB_HARDWARE_ERROR:
        events.pageTabHardwareError(rid, tag, flags, address);
        return;
      default:
        events.invalidDeviceRequest(rid, pasid, type, extra, pfn, offset);
    }
  }

  /** INVALID_DEVICE_REQUEST that no translation was tried for. */
  invalid(request: TranslationRequest, type: number, extra: number): void {
    this.#parts.counters.refused++;
    const { rid, pasid, pfn, offset } = request;
    this.#parts.events.invalidDeviceRequest(rid, pasid, type, extra, pfn, offset);
  }

  /** DTE.SA, or a second fault under DTE.SE. Interrupts have DTE.IG instead. */
  #suppressed(flags: number): boolean {
    const { device } = this.#parts.translator;
    if ((flags & FLAG.I) !== 0) return false;
    const { words, at } = device;
    const w3 = words[at + SE.word] as number;
    const first = words[at + DEVICE.FAULT_LOGGED] === 0;
    if (this.#parts.dry !== true) words[at + DEVICE.FAULT_LOGGED] = 1;
    return (w3 & SA.mask) !== 0 || ((w3 & SE.mask) !== 0 && !first);
  }
}

/** Keep the translator's result in the IOTLB. @hot */
export const keepTranslation = (parts: RequestParts, request: TranslationRequest): void => {
  const t = parts.translator;
  if (t.kind === 0 || parts.dry === true) return;
  const { domain } = t.device;
  const tag = t.pasidTag;
  if (t.kind !== ENTRY_KIND.SECOND_STAGE) parts.caches.guestCached(domain);
  parts.caches.iotlb.insert(
    domain,
    tag,
    request.pfn,
    t.pfn,
    t.sizeLg2,
    t.rights,
    t.dirtyKnown,
    t.kind,
    domain,
    tag,
  );
  parts.sanitizer?.filled(domain, tag, request.pfn, t.sizeLg2);
};

/** The request's PASID as the IOTLB has it: none, itself, or 0 for GIoV. */
export const iotlbTag = (pasid: number, guestZero: boolean): number =>
  pasid === NO_PASID && guestZero ? 0 : pasid;
