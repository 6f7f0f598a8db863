import {
  CC_INV_DSC,
  DESCRIPTOR_TYPE,
  DEV_TLB_INV_DSC,
  GRANULARITY,
  IOTLB_INV_DSC,
  P_DEV_TLB_INV_DSC,
  P_IOTLB_GRANULARITY,
  P_IOTLB_INV_DSC,
  PAGE_GRP_RESP_DSC,
  PC_GRANULARITY,
  PC_INV_DSC,
} from '../spec/invalidation-descriptors.ts';
import type { InvalidationQueue } from './invalidation-queue.ts';
import { addressHi, addressLo, alignDown, WHOLE_SPACE_AM } from './page-cover.ts';

const { G } = IOTLB_INV_DSC.fields;

/** First word of each command but its DID: type and granularity. */
const CC_GLOBAL = DESCRIPTOR_TYPE.CC_INV | (GRANULARITY.GLOBAL << CC_INV_DSC.fields.G.shift);
const CC_DEVICE = DESCRIPTOR_TYPE.CC_INV | (GRANULARITY.SELECTIVE << CC_INV_DSC.fields.G.shift);
const IOTLB_GLOBAL = DESCRIPTOR_TYPE.IOTLB_INV | (GRANULARITY.GLOBAL << G.shift);
const IOTLB_DOMAIN = DESCRIPTOR_TYPE.IOTLB_INV | (GRANULARITY.DOMAIN << G.shift);
const IOTLB_PAGE = DESCRIPTOR_TYPE.IOTLB_INV | (GRANULARITY.SELECTIVE << G.shift);
const PC_GLOBAL = DESCRIPTOR_TYPE.PC_INV | (PC_GRANULARITY.GLOBAL << PC_INV_DSC.fields.G.shift);
const PC_PASID = DESCRIPTOR_TYPE.PC_INV | (PC_GRANULARITY.PASID << PC_INV_DSC.fields.G.shift);
const P_IOTLB_PASID =
  DESCRIPTOR_TYPE.P_IOTLB_INV | (P_IOTLB_GRANULARITY.PASID << P_IOTLB_INV_DSC.fields.G.shift);
const P_IOTLB_PAGE =
  DESCRIPTOR_TYPE.P_IOTLB_INV | (P_IOTLB_GRANULARITY.PAGE << P_IOTLB_INV_DSC.fields.G.shift);

const DID_SHIFT = IOTLB_INV_DSC.fields.DID.shift;
const IH = IOTLB_INV_DSC.fields.IH.mask;
const DEV_S = DEV_TLB_INV_DSC.fields.S.mask;
const P_DEV_S = P_DEV_TLB_INV_DSC.fields.S.mask;

/** What the capability registers say about invalidation. */
export interface InvalidationCaps {
  /** CAP.PSI: page-selective IOTLB invalidation. */
  readonly pageSelective: boolean;
  /** CAP.MAMV: largest address mask of an IOTLB command. */
  readonly maxAm: number;
  /** CAP.DWD, CAP.DRD. */
  readonly drainWrites: boolean;
  readonly drainReads: boolean;
  /** ECAP.DIT: descriptors carry the RID of the physical function. */
  readonly throttles: boolean;
}

/**
 * The invalidation commands of one unit by name. Each adds one descriptor to the queue's batch;
 * `queue.submit()` hands them over.
 *
 * @spec VT-d 6.5.2
 */
export class Invalidate {
  readonly queue: InvalidationQueue;
  readonly #caps: InvalidationCaps;
  readonly #drain: number;

  constructor(queue: InvalidationQueue, caps: InvalidationCaps) {
    this.queue = queue;
    this.#caps = caps;
    this.#drain =
      (caps.drainWrites ? IOTLB_INV_DSC.fields.DW.mask : 0) |
      (caps.drainReads ? IOTLB_INV_DSC.fields.DR.mask : 0);
  }

  /** Whole context cache. */
  contextGlobal(): void {
    this.queue.push(CC_GLOBAL, 0, 0, 0);
  }

  /** Context-cache entry of one device; legacy mode looks at the DID too. */
  contextDevice(did: number, rid: number): void {
    const w0 = CC_DEVICE | (did << DID_SHIFT);
    this.queue.push(w0, rid, 0, 0);
  }

  /** Whole IOTLB and paging-structure caches. */
  iotlbGlobal(): void {
    this.queue.push(IOTLB_GLOBAL | this.#drain, 0, 0, 0);
  }

  /** Everything of one DID. @hot */
  iotlbDomain(did: number): void {
    const w0 = IOTLB_DOMAIN | this.#drain | (did << DID_SHIFT);
    this.queue.push(w0, 0, 0, 0);
  }

  /**
   * Second-stage entries of one DID inside a cover, and every first-stage and nested entry of it.
   * Domain-wide where the unit cannot name such a cover. @hot
   *
   * @param leavesOnly no table entry changed (IH)
   */
  iotlbPages(did: number, pfn: number, am: number, leavesOnly: boolean): void {
    if (!this.#caps.pageSelective || am > this.#caps.maxAm) {
      this.iotlbDomain(did);
      return;
    }
    const w0 = IOTLB_PAGE | this.#drain | (did << DID_SHIFT);
    const start = alignDown(pfn, am);
    this.queue.push(w0, 0, addressLo(start) | am | (leavesOnly ? IH : 0), addressHi(start));
  }

  /** Whole PASID cache. */
  pasidGlobal(): void {
    this.queue.push(PC_GLOBAL, 0, 0, 0);
  }

  /** PASID-cache entries of one DID and PASID. */
  pasidEntry(did: number, pasid: number): void {
    const w0 = PC_PASID | (did << DID_SHIFT);
    this.queue.push(w0, pasid, 0, 0);
  }

  /** Everything of one DID and PASID but the second-stage paging structures. @hot */
  pasidIotlb(did: number, pasid: number): void {
    const w0 = P_IOTLB_PASID | (did << DID_SHIFT);
    this.queue.push(w0, pasid, 0, 0);
  }

  /** First-stage and nested entries of one DID and PASID inside a cover. @hot */
  pasidIotlbPages(did: number, pasid: number, pfn: number, am: number, leavesOnly: boolean): void {
    if (am >= WHOLE_SPACE_AM) {
      this.pasidIotlb(did, pasid);
      return;
    }
    const w0 = P_IOTLB_PAGE | (did << DID_SHIFT);
    const start = alignDown(pfn, am);
    this.queue.push(w0, pasid, addressLo(start) | am | (leavesOnly ? IH : 0), addressHi(start));
  }

  /**
   * TLB of a device: its entries without PASID for -1, of that PASID otherwise; `am` 52 and above
   * is everything. @hot
   */
  deviceTlb(rid: number, pasid: number, pfn: number, am: number): void {
    const all = am >= WHOLE_SPACE_AM;
    const span = all ? 0 : sizeEncoded(alignDown(pfn, am), am);
    const lo = all ? 0xffff_f000 : addressLo(span);
    const hi = all ? 0x7fff_ffff : addressHi(span);
    const pfsid = this.#caps.throttles ? rid : 0;
    const pfsidLo = (pfsid & 0xf) << 12;
    const pfsidHi = (pfsid >>> 4) << 20;
    if (pasid < 0) {
      this.queue.push(
        DESCRIPTOR_TYPE.DEV_TLB_INV | pfsidLo,
        rid | pfsidHi,
        lo | (am > 0 ? DEV_S : 0),
        hi,
      );
      return;
    }
    const w0 = DESCRIPTOR_TYPE.P_DEV_TLB_INV | pfsidLo | (rid << 16);
    this.queue.push(w0, pasid | pfsidHi, lo | (am > 0 ? P_DEV_S : 0), hi);
  }

  /**
   * Answer a page request group.
   *
   * @param pasid 20 bits, or -1
   * @param responseCode 0 success, 1 invalid request, 15 response failure
   * @spec VT-d 7.7.1 (page group response descriptor)
   */
  pageGroupResponse(rid: number, pasid: number, prgi: number, responseCode: number): void {
    const withPasid = pasid < 0 ? 0 : PAGE_GRP_RESP_DSC.fields.PP.mask;
    const w0 =
      DESCRIPTOR_TYPE.PAGE_GRP_RESP |
      withPasid |
      (responseCode << PAGE_GRP_RESP_DSC.fields.RC.shift) |
      (rid << 16);
    this.queue.push(w0, Math.max(pasid, 0), prgi << PAGE_GRP_RESP_DSC.fields.PRGI.shift, 0);
  }
}

/**
 * Address of a cover with its size in the low bits, as translation messages carry it: the lowest
 * zero bit names the size.
 *
 * @spec VT-d 6.5.2.5, PCI Express Base 6.0, 10.2.3.2
 */
const sizeEncoded = (startPfn: number, am: number): number =>
  am === 0 ? startPfn : startPfn + 2 ** (am - 1) - 1;
