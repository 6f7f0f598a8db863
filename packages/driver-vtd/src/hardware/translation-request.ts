/**
 * What a request asks of the tables.
 *
 * @spec VT-d 3.2, 3.14 (interrupt address range)
 */

/** First and last frame of the interrupt address range FEEx_xxxxh. */
export const INTERRUPT_RANGE = { FIRST_PFN: 0xf_ee00, LAST_PFN: 0xf_eeff } as const;

/** Address types of requests (PCIe AT field). */
export const ADDRESS_TYPE = { UNTRANSLATED: 0, TRANSLATION: 1, TRANSLATED: 2 } as const;

/** What a request asks, filled before `Translator.resolve`. */
export interface TranslationRequest {
  rid: number;
  /** 20 bits, -1 = none. */
  pasid: number;
  /** 4 KiB frame of the address, 52 bits. */
  pfn: number;
  /** Rights that must be there; 0 = report what is there. */
  want: number;
  /** Sets dirty bits where writing is allowed. */
  write: boolean;
  /** Complaints about missing permission say "write": write and atomic requests. */
  blameWrite: boolean;
  priv: boolean;
  exec: boolean;
  /** One of {@link ADDRESS_TYPE}, not TRANSLATED. */
  addressType: number;
}
