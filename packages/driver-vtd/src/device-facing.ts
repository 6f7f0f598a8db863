import {
  type AtsCompletion,
  BLOCKED,
  NO_PASID,
  type PageRequest,
  type TranslationAgent,
} from '@iommukit/core';

/** A unit that serves every kind of DMA request. */
type DmaAgent = Required<Omit<TranslationAgent, 'remapInterrupt'>>;

/**
 * A unit as its devices meet it when ECAP.PTRS=0: the host leaves "Translated Requests with PASID
 * Enable" of every device off then, so none of their translated requests carries one.
 *
 * @spec VT-d 11.4.3 (PTRS), PCI Express Base 6.0, 7.8.9.3 (PASID control register)
 */
export class WithoutTranslatedPasid implements TranslationAgent {
  /** Absent when the unit has none: interrupts then reach the platform as they are. */
  readonly remapInterrupt?: NonNullable<TranslationAgent['remapInterrupt']>;
  readonly #unit: DmaAgent;

  constructor(unit: DmaAgent & Pick<TranslationAgent, 'remapInterrupt'>) {
    this.#unit = unit;
    if (unit.remapInterrupt)
      this.remapInterrupt = (...request) => unit.remapInterrupt?.(...request) ?? BLOCKED;
  }

  translatePage(rid: number, pasid: number, iovaPfn: number, access: number): number {
    return this.#unit.translatePage(rid, pasid, iovaPfn, access);
  }

  translationRequest(
    rid: number,
    pasid: number,
    iovaPfn: number,
    access: number,
    completion: AtsCompletion,
  ): void {
    this.#unit.translationRequest(rid, pasid, iovaPfn, access, completion);
  }

  translatedPage(rid: number, _pasid: number, hpaPfn: number, access: number): number {
    return this.#unit.translatedPage(rid, NO_PASID, hpaPfn, access);
  }

  pageRequest(request: PageRequest): void {
    this.#unit.pageRequest(request);
  }
}
