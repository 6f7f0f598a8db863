/**
 * The events a unit records, each with the fields that its code has.
 *
 * @spec AMD IOMMU 2.5.2 to 2.5.9
 */
import type { PageRequest } from '@iommukit/core';
import { EVENT, EVENT_ENTRY, HARDWARE_ERROR_TYPE, PPR_EVENT_ENTRY } from '../spec/events.ts';

const { GN, NX, US, I, PR, RW, PE, RZ, TR, TYPE, CODE } = EVENT_ENTRY.fields;

/** Flags of an event, in place in its second dword. */
export const FLAG = {
  GN: GN.mask | 0,
  NX: NX.mask | 0,
  US: US.mask | 0,
  I: I.mask | 0,
  PR: PR.mask | 0,
  RW: RW.mask | 0,
  PE: PE.mask | 0,
  RZ: RZ.mask | 0,
  TR: TR.mask | 0,
} as const;

const PAGE_BYTES = 4096;
const LOW_16 = 0xffff;
const PPR = PPR_EVENT_ENTRY.fields;
const LOW_PFN_BITS = 2 ** 20;
const MASTER_ABORT = HARDWARE_ERROR_TYPE.MASTER_ABORT << TYPE.shift;

/** DeviceID, and above it PASID [19:16]. */
const withPasid = (rid: number, tag: number): number => rid | ((tag >>> 16) << 16);

const code = (event: number): number => event << CODE.shift;
const addressLo = (pfn: number, offset: number): number =>
  ((pfn % LOW_PFN_BITS) * PAGE_BYTES + offset) | 0;
const addressHi = (pfn: number): number => Math.floor(pfn / LOW_PFN_BITS) | 0;
const halfLo = (pa: number): number => pa | 0;
const halfHi = (pa: number): number => Math.floor(pa / 2 ** 32) | 0;

/** Takes the four dwords of an event. */
export interface EventSink {
  record(w0: number, w1: number, w2: number, w3: number): void;
}

/** Makes event entries. */
export class EventRecords {
  readonly #log: EventSink;

  constructor(log: EventSink) {
    this.#log = log;
  }

  /**
   * IO_PAGE_FAULT.
   *
   * @param tag DomainID, or the PASID with {@link FLAG}.GN
   * @param flags bits of {@link FLAG}
   */
  pageFault(rid: number, tag: number, flags: number, pfn: number, offset: number): void {
    const w1 = code(EVENT.IO_PAGE_FAULT) | flags | (tag & LOW_16);
    this.#log.record(withPasid(rid, tag), w1, addressLo(pfn, offset), addressHi(pfn));
  }

  /** ILLEGAL_DEV_TABLE_ENTRY: the address is that of the request, dword aligned. */
  illegalDevTableEntry(rid: number, flags: number, pfn: number, offset: number): void {
    const w1 = code(EVENT.ILLEGAL_DEV_TABLE_ENTRY) | flags;
    this.#log.record(rid, w1, addressLo(pfn, offset) & ~3, addressHi(pfn));
  }

  /** DEV_TAB_HARDWARE_ERROR: nothing answered at the entry's address. */
  devTabHardwareError(rid: number, flags: number, dteAddress: number): void {
    const w1 = code(EVENT.DEV_TAB_HARDWARE_ERROR) | MASTER_ABORT | flags;
    this.#log.record(rid, w1, halfLo(dteAddress), halfHi(dteAddress));
  }

  /** PAGE_TAB_HARDWARE_ERROR: nothing answered at a table entry's address. `tag` as in a page fault. */
  pageTabHardwareError(rid: number, tag: number, flags: number, entryAddress: number): void {
    const w1 = code(EVENT.PAGE_TAB_HARDWARE_ERROR) | MASTER_ABORT | flags | (tag & LOW_16);
    this.#log.record(withPasid(rid, tag), w1, halfLo(entryAddress), halfHi(entryAddress));
  }

  /** INVALID_DEVICE_REQUEST. `type` is one of the spec's request types; `flags` TR or none. */
  invalidDeviceRequest(
    rid: number,
    pasid: number,
    type: number,
    flags: number,
    pfn: number,
    offset: number,
  ): void {
    const tag = Math.max(pasid, 0);
    const guest = pasid < 0 ? 0 : FLAG.GN;
    const w1 =
      code(EVENT.INVALID_DEVICE_REQUEST) | (type << TYPE.shift) | flags | guest | (tag & LOW_16);
    this.#log.record(withPasid(rid, tag), w1, addressLo(pfn, offset), addressHi(pfn));
  }

  /** IOTLB_INV_TIMEOUT: a device did not answer the command at this address. */
  iotlbInvTimeout(rid: number, commandAddress: number): void {
    const w1 = code(EVENT.IOTLB_INV_TIMEOUT);
    this.#log.record(rid, w1, halfLo(commandAddress), halfHi(commandAddress));
  }

  /**
   * INVALID_PPR_REQUEST.
   * @param answered RX: the device has its answer
   */
  invalidPprRequest(request: PageRequest, answered: boolean): void {
    const { rid, pasid, prgi, addressPfn } = request;
    const tag = Math.max(pasid, 0);
    const w1 =
      code(EVENT.INVALID_PPR_REQUEST) |
      (pasid < 0 ? 0 : PPR.GN.mask) |
      (answered ? PPR.RX.mask : 0) |
      ((tag >>> 16) << PPR.PASID_19_16.shift) |
      prgi;
    this.#log.record(rid | (tag << 16), w1, addressLo(addressPfn, 0), addressHi(addressPfn));
  }

  /** ILLEGAL_COMMAND_ERROR. */
  illegalCommand(commandAddress: number): void {
    const w1 = code(EVENT.ILLEGAL_COMMAND_ERROR);
    this.#log.record(0, w1, halfLo(commandAddress), halfHi(commandAddress));
  }

  /** COMMAND_HARDWARE_ERROR: nothing answered at the command, or where it stores. */
  commandHardwareError(commandAddress: number): void {
    const w1 = code(EVENT.COMMAND_HARDWARE_ERROR) | MASTER_ABORT;
    this.#log.record(0, w1, halfLo(commandAddress), halfHi(commandAddress));
  }
}
