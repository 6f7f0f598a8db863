/**
 * What all kinds of requests share: the parts of the unit they meet, the switch and the counters,
 * and how a refusal is reported.
 */
import { ACCESS, type PageRequest } from '@iommukit/core';
import type { Caches } from './caches.ts';
import type { Features } from './capabilities.ts';
import { type FaultDetails, type FaultRecorder, REQUEST_TYPE } from './fault-recording.ts';
import type { InterruptRemapper } from './interrupt-remapping.ts';
import type { PageRequestQueue } from './page-request-queue.ts';
import type { ProtectedMemory } from './protected-memory.ts';
import { requestType } from './request-rules.ts';
import type { Sanitizer } from './sanitizer.ts';
import type { Translator } from './translate.ts';
import { ADDRESS_TYPE } from './translation-request.ts';

/** Blocked without a fault reason: protected memory, or requests the unit refuses when it is off. */
export const BLOCKED_SILENTLY = -256;

/**
 * The write is an interrupt request, which no page answers: address and data go to
 * `VtdHardware.remapInterrupt`. Returned only while interrupts are remapped or refused.
 */
export const INTERRUPT_REQUEST = -257;

/** The parts a request meets. */
export interface RequestParts {
  readonly translator: Translator;
  readonly caches: Caches;
  readonly features: Features;
  readonly faults: Pick<FaultRecorder, 'record'>;
  readonly pageRequests: Pick<PageRequestQueue, 'respond' | 'full' | 'refuses' | 'push'>;
  readonly protectedMemory: ProtectedMemory;
  readonly interrupts: Pick<InterruptRemapper, 'active'>;
  /** Checks every use of a cached translation. */
  readonly sanitizer?: Sanitizer | undefined;
  /** Change no cache: requests are only explained. */
  readonly dry?: boolean;
}

/** Switch and counters of a unit. */
export class RequestState {
  /** GSTS.TES. */
  enabled = false;
  /** Nothing but the IOTLB decides about a hit. */
  fast = false;
  /** Writes to FEEx_xxxxh are interrupt requests for this unit, not for the platform behind it. */
  interrupts = false;
  hits = 0;
  misses = 0;
  bypassed = 0;
  translationRequests = 0;
  translatedRequests = 0;
  pageRequests = 0;
}

/** Reports refused requests to the fault records; one object, one reused record. */
export class FaultReporter {
  readonly #faults: Pick<FaultRecorder, 'record'>;
  readonly #translator: Translator;
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

  constructor({ faults, translator }: RequestParts) {
    this.#faults = faults;
    this.#translator = translator;
  }

  /**
   * A DMA or translation request is refused.
   * @returns `-reason`
   */
  blocked(
    reason: number,
    rid: number,
    pasid: number,
    pfn: number,
    access: number,
    addressType: number,
  ): number {
    const fault = this.#fault;
    fault.reason = reason;
    fault.rid = rid;
    fault.pasid = pasid;
    fault.pfn = pfn;
    fault.type = addressType === ADDRESS_TYPE.TRANSLATION ? REQUEST_TYPE.READ : requestType(access);
    fault.addressType = addressType;
    fault.priv = (access & ACCESS.PRIV) !== 0;
    fault.exec = (access & ACCESS.EXEC) !== 0;
    this.#faults.record(fault, this.#translator.fpd);
    return -reason;
  }

  /** A page request is refused. */
  pageRequest(request: PageRequest, reason: number): void {
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
    this.#faults.record(fault, this.#translator.fpd);
  }
}
