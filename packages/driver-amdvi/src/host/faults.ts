import { addressToPfn, decode } from '@iommukit/bits';
import type { UnitHost, UnrecoverableFault } from '@iommukit/core';
import { addressHi, addressLo, type HostMemory } from '@iommukit/core';
import { EVENT, EVENT_BYTES, EVENT_DOC, EVENT_ENTRY } from '../spec/events.ts';
import {
  CONTROL,
  EVENT_LOG_BASE,
  EVENT_LOG_HEAD,
  EVENT_LOG_TAIL,
  MSI_ADDR_HI,
  MSI_ADDR_LO,
  MSI_CAP,
  MSI_DATA,
  STATUS,
} from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

const ENTRIES_LG2 = 9;
const LOG_BYTES = EVENT_BYTES * 2 ** ENTRIES_LG2;
const { EVT_OVERFLOW, EVT_LOG_INT } = STATUS.fields;
const { EVENT_LOG_EN, EVENT_INT_EN } = CONTROL.fields;

/** Codes that are about this driver's own commands, not about a device. */
const COMMAND_ERRORS: readonly number[] = [
  EVENT.ILLEGAL_COMMAND_ERROR,
  EVENT.COMMAND_HARDWARE_ERROR,
];

/**
 * Reads the event log and reports faults, whenever the unit sends its message.
 *
 * @spec AMD IOMMU 2.5
 * @linux drivers/iommu/amd/init.c (enable_iommus), iommu.c (iommu_poll_events)
 */
export class EventLogService {
  /** Times the log was full and events were lost. */
  overflows = 0;
  /** Commands of this driver that the unit refused. */
  commandErrors = 0;
  readonly #registers: RegisterFile;
  readonly #memory: HostMemory;
  readonly #host: UnitHost;
  readonly #log: number;
  #servicing = false;

  constructor(registers: RegisterFile, memory: HostMemory, host: UnitHost) {
    this.#registers = registers;
    this.#memory = memory;
    this.#host = host;
    this.#log = memory.alloc(LOG_BYTES / 4096, 'bring-up', 'the event log');
  }

  /** Program the log and its message; Control switches both on. */
  program(messageAddress: number): void {
    const registers = this.#registers;
    const hi = addressHi(this.#log) | (ENTRIES_LG2 << (EVENT_LOG_BASE.fields.LEN.lo - 32));
    registers.writeReg64(EVENT_LOG_BASE.offset, addressLo(this.#log), hi);
    registers.writeReg32(MSI_ADDR_LO.offset, addressLo(messageAddress));
    registers.writeReg32(MSI_ADDR_HI.offset, addressHi(messageAddress));
    registers.writeReg32(MSI_DATA.offset, 0);
    registers.writeReg32(MSI_CAP.offset, MSI_CAP.fields.MSI_EN.mask);
  }

  /**
   * Report every event, oldest first. The interrupt status is cleared before the tail is read, and
   * looked at again in the end: it sends no message while it is set, so an event that came
   * meanwhile would wait for ever.
   */
  service(): void {
    if (this.#servicing) return;
    this.#servicing = true;
    const registers = this.#registers;
    try {
      do {
        registers.writeReg32(STATUS.offset, EVT_LOG_INT.mask);
        this.#drain();
        if ((registers.readReg32(STATUS.offset) & EVT_OVERFLOW.mask) !== 0) this.#restart();
      } while ((registers.readReg32(STATUS.offset) & EVT_LOG_INT.mask) !== 0);
    } finally {
      this.#servicing = false;
    }
  }

  #drain(): void {
    const registers = this.#registers;
    let head = registers.readReg32(EVENT_LOG_HEAD.offset);
    while (head !== registers.readReg32(EVENT_LOG_TAIL.offset)) {
      const words = new Uint32Array(EVENT_BYTES / 4);
      this.#memory.loadWords(this.#log + head, words);
      head = (head + EVENT_BYTES) % LOG_BYTES;
      registers.writeReg32(EVENT_LOG_HEAD.offset, head);
      this.#report(words);
    }
  }

  #report(words: Uint32Array): void {
    const fault = decodeEvent(words);
    if (COMMAND_ERRORS.includes(fault.reason)) this.commandErrors++;
    else this.#host.reportFault(fault);
  }

  /** An overflow stops the log: switch it off, clear the overflow, switch it on. */
  #restart(): void {
    this.overflows++;
    const registers = this.#registers;
    const control = registers.readReg32(CONTROL.offset);
    const mask = EVENT_LOG_EN.mask | EVENT_INT_EN.mask;
    registers.writeReg32(CONTROL.offset, (control & ~mask) >>> 0);
    registers.writeReg32(STATUS.offset, EVT_OVERFLOW.mask);
    registers.writeReg32(CONTROL.offset, control);
  }
}

const NAMES = Object.entries(EVENT) as [keyof typeof EVENT, number][];

/**
 * An event in generic terms. `write` is only known of events that found a translation.
 *
 * @param words four u32 words
 */
const decodeEvent = (words: Uint32Array): UnrecoverableFault => {
  const fields = decode(EVENT_ENTRY, words);
  const name = NAMES.find(([, code]) => code === fields.CODE)?.[0];
  const pasid = fields.PASID_19_16 * 0x1_0000 + fields.DOMAIN_ID;
  return {
    rid: fields.DEVICE_ID,
    pasid: fields.GN === 1 ? pasid : -1,
    addressPfn: addressToPfn(fields.ADDR),
    write: fields.RW === 1,
    reason: fields.CODE,
    name: name ? `${name}: ${EVENT_DOC[name]}` : 'unknown event',
    words: [...words],
    fields,
  };
};
