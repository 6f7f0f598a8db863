/**
 * What a device is asked to be, and what it is asked to do.
 * @module
 */
import type { InvalidationAnswer } from './request.ts';

/** What a device is and can do. */
export interface EndpointOptions {
  /** Requester id, `'00:04.0'` or the 16-bit number. */
  readonly rid: string | number;
  /** Name for messages; default the RID's name. */
  readonly name?: string;
  /** PASID width of the device, 0 to 20; default 0 = no PASID capability. */
  readonly pasidBits?: number;
  /** Device asks for translations itself and caches them (PCIe ATS). */
  readonly ats?: boolean;
  /** Device asks for missing pages (PCIe PRI); needs ATS. */
  readonly pri?: boolean;
  /** Device may set No Snoop in its requests (PCIe 2.2.6.5), as Intel's graphics do; default no. */
  readonly noSnoop?: boolean;
  /** Pages that the device's own TLB holds; default {@link DEVICE_TLB_ENTRIES}. */
  readonly deviceTlbEntries?: number;
  /** How an ATS device answers invalidations of its TLB; default `COMPLETE`. */
  readonly invalidationAnswer?: InvalidationAnswer;
  /** Name of the IOMMU group it falls into; default a group of its own. */
  readonly group?: string;
}

/** How a request is made. */
export interface DmaOptions {
  /** 20 bits; default none. */
  readonly pasid?: number;
  /** Extra {@link ACCESS} bits, `ACCESS.PRIV` for instance. */
  readonly access?: number;
}

/** A page that a device asks for. */
export interface WantedPage {
  /** Byte address, 64 bits. */
  readonly iova: number | bigint;
  readonly write: boolean;
}
