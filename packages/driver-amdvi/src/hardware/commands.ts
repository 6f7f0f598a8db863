/**
 * What each command does.
 *
 * @spec AMD IOMMU 2.4.1 to 2.4.10
 */
import { type BusPort, INVALIDATION_ANSWER } from '@iommukit/core';
import { NO_PASID } from '@iommukit/pgtable-fast';
import {
  COMMAND,
  COMPLETE_PPR_REQUEST,
  COMPLETION_WAIT,
  INVALIDATE_IOMMU_PAGES,
  INVALIDATE_IOTLB_PAGES,
  PREFETCH_IOMMU_PAGES,
} from '../spec/commands.ts';
import { STATUS } from '../spec/registers.ts';
import type { Caches } from './caches.ts';
import type { Features } from './capabilities.ts';
import { describeCommand } from './command-text.ts';
import { decodeRange, type InvalidationRange } from './invalidation-range.ts';
import { type HardwareMemory, joinAddress, writeDwords } from './memory.ts';
import type { Sanitizer } from './sanitizer.ts';
import type { UnitState } from './unit-state.ts';

/** How a command ends. */
export const RESULT = { DONE: 0, ILLEGAL: 1, ABORT: 2, TIMEOUT: 3, HUNG: 4 } as const;

const WAIT_INT = STATUS.fields.COM_WAIT_INT.mask;
const { S, I, ADDR } = COMPLETION_WAIT.fields;
const { GN, PDE } = INVALIDATE_IOMMU_PAGES.fields;
const IOTLB = INVALIDATE_IOTLB_PAGES.fields;
const PREFETCH = PREFETCH_IOMMU_PAGES.fields;
const PPR = COMPLETE_PPR_REQUEST.fields;
const STORE_LO = ADDR.masks[0] as number;
const STORE_HI = ADDR.masks[1] as number;
const LOW_16 = 0xffff;
const PASID_MASK = 0xf_ffff;

/** What commands work on. */
export interface CommandTargets {
  readonly memory: HardwareMemory;
  readonly state: UnitState;
  readonly features: Features;
  readonly caches: Caches;
  readonly bus: Partial<Pick<BusPort, 'deliverPageResponse' | 'invalidateDeviceTlb'>>;
  /** Dwords of the status register. */
  readonly status: Uint32Array;
  readonly sanitizer?: Sanitizer | undefined;
  /** Send the unit's interrupt. */
  interrupt(): void;
  /** Translate for a prefetch: fills caches, records nothing. */
  prefetch(rid: number, pasid: number, pfn: number, forget: boolean): void;
}

/** Executes commands whose bits are in order. */
export class CommandExecutor {
  /** Entries that invalidations removed, commands that removed none, answers sent. */
  removed = 0;
  superfluous = 0;
  responses = 0;
  readonly #on: CommandTargets;
  #words: Int32Array = new Int32Array(4);
  readonly #store = new Int32Array(2);

  constructor(targets: CommandTargets) {
    this.#on = targets;
  }

  /**
   * Execute one command.
   * @param words its four dwords
   * @returns one of {@link RESULT}
   */
  execute(opcode: number, words: Int32Array): number {
    this.#words = words;
    const { sanitizer } = this.#on;
    if (sanitizer === undefined) return this.#run(opcode);
    const command = describeCommand(words);
    sanitizer.commandStarts(command);
    const result = this.#run(opcode);
    if (result === RESULT.DONE) sanitizer.commandDone(command);
    return result;
  }

  #run(opcode: number): number {
    const { features } = this.#on;
    switch (opcode) {
      case COMMAND.COMPLETION_WAIT:
        return this.#completionWait();
      case COMMAND.INVALIDATE_DEVTAB_ENTRY:
        return this.#knownDevice() ? this.#invalidateDevtabEntry() : RESULT.ILLEGAL;
      case COMMAND.INVALIDATE_IOMMU_PAGES:
        return this.#invalidateIommuPages();
      case COMMAND.INVALIDATE_IOTLB_PAGES:
        return features.iotlbSup ? this.#invalidateIotlbPages() : RESULT.ILLEGAL;
      case COMMAND.INVALIDATE_INTERRUPT_TABLE:
        // Interrupt tables are not cached here.
        return this.#knownDevice() ? RESULT.DONE : RESULT.ILLEGAL;
      case COMMAND.PREFETCH_IOMMU_PAGES:
        return features.prefetch ? this.#prefetch() : RESULT.ILLEGAL;
      case COMMAND.COMPLETE_PPR_REQUEST:
        return features.pageRequests ? this.#completePprRequest() : RESULT.ILLEGAL;
      case COMMAND.INVALIDATE_IOMMU_ALL:
        return features.invalidateAll ? this.#invalidateAll() : RESULT.ILLEGAL;
      default:
        return RESULT.ILLEGAL;
    }
  }

  #completionWait(): number {
    const words = this.#words;
    const w0 = words[0] as number;
    const { memory, state, status } = this.#on;
    if ((w0 & S.mask) !== 0) {
      const target = joinAddress(w0 & STORE_LO, (words[1] as number) & STORE_HI);
      this.#store[0] = words[2] as number;
      this.#store[1] = words[3] as number;
      if (!writeDwords(memory, target, this.#store)) return RESULT.ABORT;
    }
    if ((w0 & I.mask) !== 0) {
      const before = status[0] as number;
      status[0] = before | WAIT_INT;
      if ((before & WAIT_INT) === 0 && state.waitInterrupt) this.#on.interrupt();
    }
    return RESULT.DONE;
  }

  #count(dropped: number): number {
    this.removed += dropped;
    if (dropped === 0) this.superfluous++;
    return RESULT.DONE;
  }

  #invalidateDevtabEntry(): number {
    return this.#count(this.#on.caches.invalidateDevice(this.#device()));
  }

  /** Range of dwords 2 and 3; undefined for the coding that has no meaning. */
  #range(): InvalidationRange | undefined {
    return decodeRange(this.#words[2] as number, this.#words[3] as number);
  }

  #invalidateIommuPages(): number {
    const words = this.#words;
    const w2 = words[2] as number;
    const pasid = (words[0] as number) & PASID_MASK;
    const guest = (w2 & GN.mask) !== 0;
    const range = this.#range();
    if (range === undefined || (guest ? !this.#on.features.guestTables : pasid !== 0)) {
      return RESULT.ILLEGAL;
    }
    const domain = (words[1] as number) & LOW_16;
    const { caches } = this.#on;
    const { firstPfn, sizeLg2 } = range;
    if (!guest) return this.#count(caches.invalidateHostPages(domain, firstPfn, sizeLg2));
    const directories = (w2 & PDE.mask) !== 0;
    return this.#count(caches.invalidateGuestPages(domain, pasid, firstPfn, sizeLg2, directories));
  }

  /** The device answers, or the buffer stops: after InvTimeOut with an event, else for good. */
  #invalidateIotlbPages(): number {
    const words = this.#words;
    const w2 = words[2] as number;
    const range = this.#range();
    const typed = (w2 & IOTLB.TYPE.mask) !== 0 && !this.#on.features.iotlbTypes;
    const guest = (w2 & GN.mask) !== 0;
    const pasid = iotlbPasid(words[0] as number, words[1] as number);
    if (range === undefined || typed || !this.#knownDevice()) return RESULT.ILLEGAL;
    if (guest ? !this.#on.features.guestTables : pasid !== 0) return RESULT.ILLEGAL;
    const { bus, state } = this.#on;
    const tag = guest ? pasid : NO_PASID;
    const { firstPfn, sizeLg2 } = range;
    const answer = bus.invalidateDeviceTlb?.(this.#device(), tag, firstPfn, sizeLg2, false);
    if (answer === undefined || answer === INVALIDATION_ANSWER.COMPLETE) return RESULT.DONE;
    return state.invalidationTimesOut ? RESULT.TIMEOUT : RESULT.HUNG;
  }

  /** At most 256 pages, none beyond the range. Absence and refusals leave no trace. */
  #prefetch(): number {
    const words = this.#words;
    const w2 = words[2] as number;
    const range = this.#range();
    const guest = (w2 & GN.mask) !== 0;
    const pasid = (words[1] as number) & PASID_MASK;
    if (range === undefined || !this.#knownDevice()) return RESULT.ILLEGAL;
    if (guest ? !this.#on.features.guestTables : pasid !== 0) return RESULT.ILLEGAL;
    const count = ((words[0] as number) & PREFETCH.PF_COUNT.mask) >>> PREFETCH.PF_COUNT.shift;
    const pages = Math.min(Math.max(count, 1), 2 ** (range.sizeLg2 - 12));
    const device = this.#device();
    const forget = (w2 & PREFETCH.INVAL.mask) !== 0;
    const tag = guest ? pasid : NO_PASID;
    for (let page = 0; page < pages; page++) {
      this.#on.prefetch(device, tag, range.firstPfn + page, forget);
    }
    return RESULT.DONE;
  }

  #completePprRequest(): number {
    const words = this.#words;
    const guest = ((words[2] as number) & PPR.GN.mask) !== 0;
    const pasid = (words[1] as number) & PASID_MASK;
    if (!this.#knownDevice()) return RESULT.ILLEGAL;
    if (guest ? !this.#on.features.guestTables : pasid !== 0) return RESULT.ILLEGAL;
    const w3 = words[3] as number;
    this.responses++;
    this.#on.bus.deliverPageResponse?.({
      rid: this.#device(),
      pasid: guest ? pasid : NO_PASID,
      prgi: w3 & PPR.PRGI.mask,
      code: (w3 & PPR.RESPONSE.mask) >>> PPR.RESPONSE.shift,
    });
    return RESULT.DONE;
  }

  #invalidateAll(): number {
    return this.#count(this.#on.caches.invalidateAll());
  }

  #device(): number {
    return (this.#words[0] as number) & LOW_16;
  }

  /** Whether DeviceID lies inside the device table. */
  #knownDevice(): boolean {
    return this.#on.state.dteAddress(this.#device()) >= 0;
  }
}

/** The PASID of an INVALIDATE_IOTLB_PAGES: three fields. */
const iotlbPasid = (w0: number, w1: number): number => {
  const low = (w1 & IOTLB.PASID_7_0.mask) >>> IOTLB.PASID_7_0.shift;
  const middle = (w0 & IOTLB.PASID_15_8.mask) >>> IOTLB.PASID_15_8.shift;
  const high = (w1 & IOTLB.PASID_19_16.mask) >>> IOTLB.PASID_19_16.shift;
  return (high << 16) | (middle << 8) | low;
};
