import { addressToPfn, decode } from '@iommukit/bits';
import type { UnrecoverableFault } from '@iommukit/core';
import { EVENT, EVENT_DOC, EVENT_ENTRY, PPR_EVENT_ENTRY } from '../spec/events.ts';
import {
  CONTROL,
  EVENT_LOG_BASE,
  EVENT_LOG_HEAD,
  EVENT_LOG_TAIL,
  STATUS,
} from '../spec/registers.ts';
import { LogRing } from './log-ring.ts';
import { AmdviNestedDomain } from './nesting.ts';
import type { UnitContext } from './unit-context.ts';

/** Codes that are about this driver's own commands, not about a device. */
const COMMAND_ERRORS: readonly number[] = [
  EVENT.ILLEGAL_COMMAND_ERROR,
  EVENT.COMMAND_HARDWARE_ERROR,
];

/**
 * Reads the event log and reports faults, whenever the unit sends its message.
 *
 * @spec AMD IOMMU 2.5
 * @linux drivers/iommu/amd/iommu.c (iommu_poll_events)
 */
export class EventLogService {
  /** Commands of this driver that the unit refused. */
  commandErrors = 0;
  readonly #unit: UnitContext;
  readonly #ring: LogRing;

  /** @throws {IommuError} ENOMEM */
  constructor(unit: UnitContext) {
    this.#unit = unit;
    const at = {
      base: EVENT_LOG_BASE.offset,
      head: EVENT_LOG_HEAD.offset,
      tail: EVENT_LOG_TAIL.offset,
      interrupt: STATUS.fields.EVT_LOG_INT.mask,
      overflow: STATUS.fields.EVT_OVERFLOW.mask,
      enable: CONTROL.fields.EVENT_LOG_EN.mask,
      interruptEnable: CONTROL.fields.EVENT_INT_EN.mask,
    };
    this.#ring = new LogRing(unit.registers, unit.memory, at, 'the event log');
  }

  /** Times the log was full and events were lost. */
  get overflows(): number {
    return this.#ring.overflows;
  }

  /** Tell the unit where the log is. */
  program(): void {
    this.#ring.program();
  }

  /** Report every event, oldest first. */
  service(): void {
    this.#ring.service((words) => this.#report(words));
  }

  /** A guest hears of what its own tables caused; everything else is the host's. */
  #report(words: Uint32Array): void {
    const fault = decodeEvent(words);
    if (COMMAND_ERRORS.includes(fault.reason)) {
      this.commandErrors++;
      return;
    }
    const device = this.#unit.devices.get(fault.rid);
    const domain = device?.rid0?.domain;
    if (device && domain instanceof AmdviNestedDomain) {
      if (domain.viommu.report(device, domain, words)) return;
    }
    this.#unit.host.reportFault(fault);
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
  const generic = {
    rid: fields.DEVICE_ID,
    addressPfn: addressToPfn(fields.ADDR),
    reason: fields.CODE,
    name: name ? `${name}: ${EVENT_DOC[name]}` : 'unknown event',
    words: [...words],
  };
  if (fields.CODE === EVENT.INVALID_PPR_REQUEST) return { ...generic, ...pageRequestParts(words) };
  const pasid = fields.PASID_19_16 * 0x1_0000 + fields.DOMAIN_ID;
  return { ...generic, pasid: fields.GN === 1 ? pasid : -1, write: fields.RW === 1, fields };
};

/** INVALID_PPR_REQUEST is laid out like a page request. */
const pageRequestParts = (words: Uint32Array) => {
  const fields = decode(PPR_EVENT_ENTRY, words);
  const pasid = fields.PASID_19_16 * 0x1_0000 + fields.PASID_15_0;
  return { pasid: fields.GN === 1 ? pasid : -1, write: false, fields };
};
