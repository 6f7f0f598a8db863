/**
 * The events a unit records, each with the fields that its code has.
 *
 * @spec AMD IOMMU 2.5.2 to 2.5.9
 */
import { EVENT, EVENT_ENTRY, HARDWARE_ERROR_TYPE } from '../spec/events.ts';
import type { EventLog } from './event-log.ts';

const { GN, I, PR, RW, PE, RZ, TYPE, CODE } = EVENT_ENTRY.fields;

/** Flags of an event, in place in its second dword. */
export const FLAG = {
  GN: GN.mask | 0,
  I: I.mask | 0,
  PR: PR.mask | 0,
  RW: RW.mask | 0,
  PE: PE.mask | 0,
  RZ: RZ.mask | 0,
} as const;

const PAGE_BYTES = 4096;
const LOW_PFN_BITS = 2 ** 20;
const MASTER_ABORT = HARDWARE_ERROR_TYPE.MASTER_ABORT << TYPE.shift;

const code = (event: number): number => event << CODE.shift;
const addressLo = (pfn: number, offset: number): number =>
  ((pfn % LOW_PFN_BITS) * PAGE_BYTES + offset) | 0;
const addressHi = (pfn: number): number => Math.floor(pfn / LOW_PFN_BITS) | 0;
const halfLo = (pa: number): number => pa | 0;
const halfHi = (pa: number): number => Math.floor(pa / 2 ** 32) | 0;

/** Makes event entries. */
export class EventRecords {
  readonly #log: EventLog;

  constructor(log: EventLog) {
    this.#log = log;
  }

  /**
   * IO_PAGE_FAULT.
   *
   * @param domain DomainID, or PASID [15:0] with {@link FLAG}.GN
   * @param flags bits of {@link FLAG}
   * @param pasidHigh PASID [19:16], with GN
   */
  pageFault(
    rid: number,
    domain: number,
    flags: number,
    pfn: number,
    offset: number,
    pasidHigh = 0,
  ): void {
    const w1 = code(EVENT.IO_PAGE_FAULT) | flags | domain;
    this.#log.record(rid | (pasidHigh << 16), w1, addressLo(pfn, offset), addressHi(pfn));
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

  /** PAGE_TAB_HARDWARE_ERROR: nothing answered at a table entry's address. */
  pageTabHardwareError(rid: number, domain: number, flags: number, entryAddress: number): void {
    const w1 = code(EVENT.PAGE_TAB_HARDWARE_ERROR) | MASTER_ABORT | flags | domain;
    this.#log.record(rid, w1, halfLo(entryAddress), halfHi(entryAddress));
  }

  /** INVALID_DEVICE_REQUEST. `type` is one of DEVICE_REQUEST_TYPE. */
  invalidDeviceRequest(rid: number, type: number, pfn: number, offset: number): void {
    const w1 = code(EVENT.INVALID_DEVICE_REQUEST) | (type << TYPE.shift);
    this.#log.record(rid, w1, addressLo(pfn, offset), addressHi(pfn));
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
