import { addressToPfn } from '@iommukit/bits';
import type { EndpointState } from '../snapshot/scenario-state.ts';
import { DeviceTlb, type DeviceTlbEntry } from './device-tlb.ts';
import { DmaPort, offsetInPage } from './dma-port.ts';
import type { DmaTransfer, StartDmaOptions } from './dma-transfer.ts';
import type { DmaOptions, EndpointOptions, WantedPage } from './endpoint-options.ts';
import type { IommuGroup } from './group.ts';
import type { Machine } from './machine.ts';
import { PageRequestGroups, type PageResponseListener } from './page-request-groups.ts';
import {
  ACCESS,
  ATS_STATUS,
  BLOCKED,
  createAtsCompletion,
  INVALIDATION_ANSWER,
  type InvalidationAnswer,
  NO_PASID,
  type TranslationAgent,
} from './request.ts';

const PAGE_BYTES = 4096;
/** Instead of a frame: the unit serves untranslated requests only there (U=1). */
const UNTRANSLATED = Number.NEGATIVE_INFINITY;

/**
 * A device on the bus. It knows nothing of IOMMUs: it sends requests with its RID, the machine
 * routes them to the unit in charge.
 */
export class Endpoint {
  readonly name: string;
  readonly rid: number;
  readonly pasidBits: number;
  readonly ats: boolean;
  readonly pri: boolean;
  /** Its requests may have the No Snoop attribute. */
  readonly noSnoop: boolean;
  readonly group: IommuGroup;
  /** The device's own TLB (ATC), used by ATS devices. */
  readonly deviceTlb: DeviceTlb;
  /** How it answers invalidations from now on: a device may hang, or go wrong, at any time. */
  invalidationAnswer: InvalidationAnswer;
  /** The unit that translates for this device; undefined = no IOMMU, addresses pass through. */
  agent: TranslationAgent | undefined;
  readonly #completion = createAtsCompletion();
  readonly #groups = new PageRequestGroups();
  readonly #dma: DmaPort;

  /** Made by {@link Machine.addEndpoint}, which checks the options. */
  constructor(machine: Machine, rid: number, group: IommuGroup, options: EndpointOptions) {
    this.rid = rid;
    this.group = group;
    this.name = options.name ?? String(options.rid);
    this.pasidBits = options.pasidBits ?? 0;
    this.ats = options.ats ?? false;
    this.pri = options.pri ?? false;
    this.noSnoop = options.noSnoop ?? false;
    this.deviceTlb = new DeviceTlb(options.deviceTlbEntries);
    this.invalidationAnswer = options.invalidationAnswer ?? INVALIDATION_ANSWER.COMPLETE;
    this.#dma = new DmaPort(this, machine.memory, machine);
  }

  /**
   * Write memory by untranslated requests, page by page. Where the unit in charge knows interrupt
   * requests, 4 bytes to FEEx_xxxxh without PASID are a message-signalled interrupt.
   *
   * @param iova first byte, 64 bits
   * @returns bytes written before the first blocked page or hole; `source.length` = all. Negative
   *   when the IOMMU stalls a request and nobody resolved that during the call: -1 - bytes written
   *   so far. What is left (a copy of it) is written when the stall ends
   */
  dmaWrite(iova: number | bigint, source: Uint8Array, options: DmaOptions = {}): number {
    return this.#dma.move(iova, source, this.#checkedPasid(options), options, true);
  }

  /**
   * Read memory by untranslated requests, page by page.
   *
   * @param iova first byte, 64 bits
   * @returns bytes read before the first blocked page or hole; `target.length` = all. Negative when
   *   the IOMMU stalls a request and nobody resolved that during the call: -1 - bytes read so far.
   *   The device gives the rest up: `target` does not change after the call
   */
  dmaRead(iova: number | bigint, target: Uint8Array, options: DmaOptions = {}): number {
    return this.#dma.move(iova, target, this.#checkedPasid(options), options, false);
  }

  /**
   * Start a write that may stall: where {@link Endpoint.dmaWrite} stops, this one waits.
   *
   * @param source not to be changed before the transfer is done
   */
  startWrite(
    iova: number | bigint,
    source: Uint8Array,
    options: StartDmaOptions = {},
  ): DmaTransfer {
    return this.#dma.start(iova, source, this.#checkedPasid(options), options, true);
  }

  /** Start a read that may stall; see {@link Endpoint.startWrite}. */
  startRead(iova: number | bigint, target: Uint8Array, options: StartDmaOptions = {}): DmaTransfer {
    return this.#dma.start(iova, target, this.#checkedPasid(options), options, false);
  }

  /** Transfers that wait for the IOMMU, oldest first. */
  get stalledTransfers(): readonly DmaTransfer[] {
    return this.#dma.stalledTransfers;
  }

  /** Called by the machine when a stalled request of this device is over. */
  receiveResumed(ticket: number, frame: number): void {
    this.#dma.resumed(ticket, frame);
  }

  /** Give up every transfer that waits for the IOMMU; what comes for them later is dropped. */
  cancelStalled(): void {
    this.#dma.cancelStalled();
  }

  /**
   * Write memory through the device's TLB: a translation request where it misses, then
   * translated requests.
   *
   * @returns bytes written before the first page that is not there or not writable
   */
  atsWrite(iova: number | bigint, source: Uint8Array, options: DmaOptions = {}): number {
    return this.#translatedDma(iova, source, options, true);
  }

  /** Read memory through the device's TLB; see {@link Endpoint.atsWrite}. */
  atsRead(iova: number | bigint, target: Uint8Array, options: DmaOptions = {}): number {
    return this.#translatedDma(iova, target, options, false);
  }

  /**
   * Ask for the translation of one page, without moving data.
   *
   * @returns whether the page is there with the wanted right
   */
  atsTranslate(iova: number | bigint, write: boolean, options: DmaOptions = {}): boolean {
    const frame = this.#translated(this.#checkedPasid(options), addressToPfn(iova), write);
    return frame >= 0 || frame === UNTRANSLATED;
  }

  /**
   * Ask for missing pages as one page request group.
   *
   * @param pages at least one; the last one carries the "last" flag
   * @param onResponse called once with a PRG response code: 0 success, 1 invalid, 15 failure
   * @throws {RangeError} when the device has no PRI, the list is empty, or all 512 group
   *   indexes await a response
   */
  requestPages(
    pages: readonly WantedPage[],
    options: DmaOptions,
    onResponse: PageResponseListener,
  ): void {
    const pasid = this.#checkedPasid(options);
    const agent = this.agent;
    if (!this.pri || !agent?.pageRequest) {
      throw new RangeError(`${this.name} cannot send page requests: it has no PRI, or no IOMMU`);
    }
    if (pages.length === 0) throw new RangeError('a page request group needs at least one page');
    const prgi = this.#groups.open(this.name, onResponse);
    pages.forEach(({ iova, write }, index) => {
      agent.pageRequest?.({
        rid: this.rid,
        pasid,
        addressPfn: addressToPfn(iova),
        read: true,
        write,
        exec: false,
        priv: false,
        last: index === pages.length - 1,
        prgi,
      });
    });
  }

  /** Called by the machine when a PRG response for this device arrives. */
  receivePageResponse(prgi: number, code: number): void {
    this.#groups.answer(prgi, code);
  }

  /**
   * Called by the machine when an invalidation request for this device arrives; see
   * {@link DeviceTlb.invalidate}. A device without ATS has nothing that could answer.
   */
  receiveInvalidation(
    pasid: number,
    addressPfn: number,
    sizeLg2: number,
    global: boolean,
  ): InvalidationAnswer {
    const answer = this.ats ? this.invalidationAnswer : INVALIDATION_ANSWER.NONE;
    if (answer === INVALIDATION_ANSWER.NONE) return answer;
    this.deviceTlb.invalidate(pasid, addressPfn, sizeLg2, global);
    return answer;
  }

  /** Page request groups that wait for an answer and the device TLB, for a snapshot. */
  save(): Pick<EndpointState, 'invalidationAnswer' | 'waiting' | 'nextPrgi' | 'tlb' | 'stats'> {
    return {
      invalidationAnswer: this.invalidationAnswer,
      ...this.#groups.save(),
      tlb: this.deviceTlb.save(),
      stats: { ...this.deviceTlb.stats },
    };
  }

  /** @param onResponse told of answers to groups that were asked for before the snapshot */
  load(state: EndpointState, onResponse: (prgi: number, code: number) => void): void {
    this.#groups.load(state, onResponse);
    this.invalidationAnswer = state.invalidationAnswer as InvalidationAnswer;
    this.deviceTlb.load(state.tlb, state.stats);
  }

  /**
   * Function-level reset: the device's TLB is empty, page requests without answer are forgotten
   * (see {@link PageRequestGroups.forget}), stalled transfers are cancelled.
   *
   * @spec PCI Express Base 6.0, 10.5 (ATS and FLR)
   */
  reset(): void {
    this.deviceTlb.clear();
    this.#groups.forget();
    this.cancelStalled();
  }

  #checkedPasid(options: DmaOptions): number {
    const pasid = options.pasid ?? NO_PASID;
    if (pasid !== NO_PASID && !(pasid >= 0 && pasid < 2 ** this.pasidBits)) {
      throw new RangeError(
        `${this.name} cannot use PASID ${pasid}: its PASIDs have ${this.pasidBits} bits` +
          (this.pasidBits === 0 ? ' (no PASID capability)' : `, 0 to ${2 ** this.pasidBits - 1}`),
      );
    }
    return pasid;
  }

  /** @returns a frame, a negative code, or {@link UNTRANSLATED} */
  #translated(pasid: number, iovaPfn: number, write: boolean): number {
    const agent = this.agent;
    if (!agent?.translationRequest || !agent.translatedPage) return BLOCKED;
    let entry = this.deviceTlb.lookup(pasid, iovaPfn);
    if (!entry || (write && !entry.write)) {
      entry = this.#fetch(agent, pasid, iovaPfn, write);
      const { untranslatedOnly, read, write: writable } = this.#completion;
      if (untranslatedOnly === 1) return (write ? writable : read) === 1 ? UNTRANSLATED : BLOCKED;
    }
    if (!entry || !(write ? entry.write : entry.read)) return BLOCKED;
    return agent.translatedPage(this.rid, pasid, entry.pfn, write ? ACCESS.WRITE : ACCESS.READ);
  }

  /** One ATS translation request; only pages with some right are cached (PCIe 10.2.3). */
  #fetch(
    agent: TranslationAgent,
    pasid: number,
    iovaPfn: number,
    write: boolean,
  ): DeviceTlbEntry | undefined {
    const completion = this.#completion;
    const access = write ? ACCESS.READ | ACCESS.WRITE : ACCESS.READ;
    completion.untranslatedOnly = 0;
    agent.translationRequest?.(this.rid, pasid, iovaPfn, access, completion);
    if (completion.status !== ATS_STATUS.SUCCESS) return undefined;
    if (completion.read === 0 && completion.write === 0) return undefined;
    if (completion.untranslatedOnly === 1) return undefined;
    return this.deviceTlb.insert(pasid, iovaPfn, completion);
  }

  #translatedDma(
    iova: number | bigint,
    bytes: Uint8Array,
    options: DmaOptions,
    write: boolean,
  ): number {
    const pasid = this.#checkedPasid(options);
    let pfn = addressToPfn(iova);
    let offset = offsetInPage(iova);
    let done = 0;
    while (done < bytes.length) {
      const length = Math.min(PAGE_BYTES - offset, bytes.length - done);
      const frame = this.#translated(pasid, pfn, write);
      if (frame < 0 && frame !== UNTRANSLATED) return done;
      const part = bytes.subarray(done, done + length);
      const moved =
        frame === UNTRANSLATED
          ? Math.max(
              this.#dma.move((BigInt(pfn) << 12n) + BigInt(offset), part, pasid, {}, write),
              0,
            )
          : this.#dma.copy(frame * PAGE_BYTES + offset, part, write);
      done += moved;
      if (moved < length) return done;
      pfn += 1;
      offset = 0;
    }
    return done;
  }
}
