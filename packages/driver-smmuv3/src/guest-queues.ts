import type { AtsCompletion, PageRequest, TranslationAgent } from '@iommukit/core';
import type { Cmdqv, SmmuHardware } from './hardware/index.ts';

/** A unit that looks at its guests' queues before it serves a device. */
export class WithGuestQueues implements TranslationAgent {
  readonly #unit: SmmuHardware;
  readonly #queues: Cmdqv;

  constructor(unit: SmmuHardware, queues: Cmdqv) {
    this.#unit = unit;
    this.#queues = queues;
  }

  translatePage(sid: number, pasid: number, pfn: number, access: number, offset = 0): number {
    this.#queues.poll();
    return this.#unit.translatePage(sid, pasid, pfn, access, offset);
  }

  translationRequest(
    sid: number,
    pasid: number,
    pfn: number,
    access: number,
    completion: AtsCompletion,
  ): void {
    this.#queues.poll();
    this.#unit.translationRequest(sid, pasid, pfn, access, completion);
  }

  translatedPage(sid: number, pasid: number, pfn: number, access: number): number {
    this.#queues.poll();
    return this.#unit.translatedPage(sid, pasid, pfn, access);
  }

  pageRequest(request: PageRequest): void {
    this.#unit.pageRequest(request);
  }
}
