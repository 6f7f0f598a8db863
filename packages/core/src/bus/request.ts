/**
 * What travels between a device and its IOMMU: DMA requests, ATS translation requests and
 * completions, page requests and their group responses.
 *
 * Units everywhere: frame numbers count 4 KiB pages (`address / 4096`); of a 64-bit address they
 * have 52 bits and are exact as a `number`. PASIDs have 20 bits, {@link NO_PASID} stands for a
 * request without one. RIDs have 16 bits.
 *
 * @spec PCI Express Base 6.0, 10 (ATS, PRI) and 6.20 (PASID)
 */

/** What a request wants, one bit each; a request is a sum of these. */
export const ACCESS = {
  READ: 1,
  WRITE: 2,
  EXEC: 4,
  PRIV: 8,
  ATOMIC: 16,
  ZERO_LENGTH: 32,
  NO_SNOOP: 64,
} as const;

/** The `pasid` of a request without PASID prefix. */
export const NO_PASID = -1;

/** What {@link TranslationAgent.translatePage} returns for a request that was blocked. */
export const BLOCKED = -1;

/**
 * What {@link TranslationAgent.translatePage} returns for a request that was terminated without an
 * error: the device reads zeros, its writes are ignored. Far from the small numbers that agents tell
 * reasons of blocked requests apart with.
 *
 * @spec SMMUv3 5.5 (CD.A = 0)
 */
export const RAZ_WI = -0xffff;

/**
 * First of the codes for stalled requests; see {@link stalledRequest}. Negative answers above it,
 * but for {@link RAZ_WI}, are those of blocked requests: agents may tell reasons apart with them.
 */
const FIRST_STALLED = -0x1_0000;

/**
 * What {@link TranslationAgent.translatePage} returns for a request that it keeps until software
 * decides: {@link BusPort.requestResumed} names the ticket when that has happened.
 *
 * @param ticket a number that no other stalled request of the agent has, 0 to 2^30
 */
export const stalledRequest = (ticket: number): number => FIRST_STALLED - ticket;

/** Whether an answer is that of a stalled request. @hot */
export const isStalled = (answer: number): boolean => answer <= FIRST_STALLED;

/** The ticket of a stalled request. */
export const stallTicket = (answer: number): number => FIRST_STALLED - answer;

/** Status of an ATS translation completion. */
export const ATS_STATUS = { SUCCESS: 0, COMPLETER_ABORT: 1, UNSUPPORTED_REQUEST: 2 } as const;

/** An ATS translation completion; filled in place so that a device can reuse one object. */
export interface AtsCompletion {
  /** One of {@link ATS_STATUS}. */
  status: number;
  /** First 4 KiB frame of the translated page (of size `sizeLg2`). */
  pfn: number;
  /** Size of the translated region, lg2 of bytes, at least 12. */
  sizeLg2: number;
  /** Rights, 0 or 1. Both 0: nothing is mapped there, ask with a page request. */
  read: number;
  write: number;
  exec: number;
  priv: number;
  global: number;
  /** U bit: the device must use untranslated requests for this region. */
  untranslatedOnly: number;
  /** N bit: the device must not set No Snoop. */
  noSnoop: number;
}

/** An empty completion to hand to {@link TranslationAgent.translationRequest}. */
export const createAtsCompletion = (): AtsCompletion => ({
  status: ATS_STATUS.UNSUPPORTED_REQUEST,
  pfn: 0,
  sizeLg2: 12,
  read: 0,
  write: 0,
  exec: 0,
  priv: 0,
  global: 0,
  untranslatedOnly: 0,
  noSnoop: 0,
});

/** A PRI page request message. */
export interface PageRequest {
  readonly rid: number;
  /** 20 bits, or {@link NO_PASID}. */
  readonly pasid: number;
  /** 4 KiB frame number of the wanted page. */
  readonly addressPfn: number;
  readonly read: boolean;
  readonly write: boolean;
  readonly exec: boolean;
  readonly priv: boolean;
  /** Last request of its group; only such requests are answered. */
  readonly last: boolean;
  /** Page request group index, 9 bits. */
  readonly prgi: number;
}

/** Response codes of a PRG response message. */
export const PRG_RESPONSE = { SUCCESS: 0, INVALID_REQUEST: 1, FAILURE: 15 } as const;

/** A message that an interrupt request became; filled in place so that a caller can reuse one. */
export interface InterruptMessage {
  /** Message address, u32 halves. */
  addressLo: number;
  addressHi: number;
  /** Message data, u32. */
  data: number;
}

/** An empty message to hand to {@link TranslationAgent.remapInterrupt}. */
export const createInterruptMessage = (): InterruptMessage => ({
  addressLo: 0,
  addressHi: 0,
  data: 0,
});

/** A PRG response message, one per group. */
export interface PageGroupResponse {
  readonly rid: number;
  /** 20 bits, or {@link NO_PASID}. */
  readonly pasid: number;
  readonly prgi: number;
  /** One of {@link PRG_RESPONSE}. */
  readonly code: number;
}

/**
 * What comes back for an ATS invalidation request.
 *
 * @spec PCI Express Base 6.0, 10.3.1 to 10.3.3 (invalidate request and completion)
 */
export const INVALIDATION_ANSWER = {
  /** The entries are gone. */
  COMPLETE: 0,
  /** Nothing in time; the device may go on using its entries. */
  NONE: 1,
  /** The entries are gone, but the completion fits no request: its ITag or requester id is wrong. */
  UNEXPECTED: 2,
} as const;

/** One of {@link INVALIDATION_ANSWER}. */
export type InvalidationAnswer = (typeof INVALIDATION_ANSWER)[keyof typeof INVALIDATION_ANSWER];

/**
 * What a bus asks of an IOMMU: the hardware half of a driver, or a plugin's own translate.
 * Blocked requests are recorded by the agent in its own fault records; nothing here throws.
 */
export interface TranslationAgent {
  /**
   * Translate one page of an untranslated DMA. @hot
   *
   * @param rid requester id
   * @param pasid 20 bits, or {@link NO_PASID}
   * @param iovaPfn 4 KiB frame number of the 64-bit IOVA
   * @param access sum of {@link ACCESS} bits
   * @param offset byte offset of the access in its page, for fault records that hold the whole
   *   address (SMMUv3, AMD-Vi); 0 when left out
   * @returns the 4 KiB frame number of the host physical page; negative when there is none:
   *   {@link BLOCKED}, {@link RAZ_WI}, or that of a {@link stalledRequest}. A request whose stall
   *   ended before the call returned is answered at once, as if it had never stalled
   */
  translatePage(
    rid: number,
    pasid: number,
    iovaPfn: number,
    access: number,
    offset?: number,
  ): number;
  /**
   * Answer an ATS translation request. `access` without WRITE is a request with NW=1.
   *
   * @param completion filled in place, also on failure
   */
  translationRequest?(
    rid: number,
    pasid: number,
    iovaPfn: number,
    access: number,
    completion: AtsCompletion,
  ): void;
  /**
   * Check one page of a translated (AT=10) DMA. @hot
   *
   * @param hpaPfn frame number from a completion
   * @returns the frame to access, or negative when blocked
   */
  translatedPage?(rid: number, pasid: number, hpaPfn: number, access: number): number;
  /** Take a PRI page request; the response comes back through {@link BusPort}. */
  pageRequest?(request: PageRequest): void;
  /**
   * Take a write without PASID into the interrupt address range (FEEx_xxxxh), on architectures
   * where such writes are interrupts and never memory.
   *
   * @param address byte address, below 4 GiB
   * @param data what is written, u32
   * @param bytes size of the write; an interrupt request has 4
   * @param message filled in place when there is something to deliver
   * @returns 1 deliver `message`, 0 taken with nothing to deliver, negative blocked
   */
  remapInterrupt?(
    rid: number,
    address: number,
    data: number,
    bytes: number,
    message: InterruptMessage,
  ): number;
}

/** What an IOMMU sends down the bus. */
export interface BusPort {
  /** Deliver a PRG response to its device. */
  deliverPageResponse(response: PageGroupResponse): void;
  /**
   * Invalidate a device's own TLB.
   *
   * @param pasid 20 bits, or {@link NO_PASID} for entries without PASID
   * @param addressPfn first frame of the region
   * @param sizeLg2 lg2 of the region's bytes; 64 = everything
   * @param global drop matching global entries of every PASID too; with {@link NO_PASID} every
   *   matching entry, whatever its PASID (SMMUv3 ATC_INV without SSV)
   */
  invalidateDeviceTlb(
    rid: number,
    pasid: number,
    addressPfn: number,
    sizeLg2: number,
    global: boolean,
  ): InvalidationAnswer;
  /** A message-signalled interrupt: one dword write that no IOMMU remaps. */
  raiseMessage(address: number, data: number): void;
  /**
   * A stalled request of a device is over.
   *
   * @param ticket of the {@link stalledRequest} that its translation was answered with
   * @param frame what the translation gives now: a frame, {@link BLOCKED} or {@link RAZ_WI}
   */
  requestResumed?(rid: number, ticket: number, frame: number): void;
}
