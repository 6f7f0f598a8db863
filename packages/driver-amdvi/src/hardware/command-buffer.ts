/**
 * The command buffer: fetches, checks and executes commands; the first bad one stops it.
 *
 * @spec AMD IOMMU 2.4
 */
import {
  COMMAND,
  COMMAND_BYTES,
  COMMAND_LAYOUTS,
  COMPLETION_WAIT,
  INVALIDATE_IOMMU_PAGES,
} from '../spec/commands.ts';
import { STATUS } from '../spec/registers.ts';
import type { Caches } from './caches.ts';
import type { Features } from './capabilities.ts';
import type { EventRecords } from './event-records.ts';
import { decodeRange } from './invalidation-range.ts';
import { type HardwareMemory, joinAddress, readDwords, writeDwords } from './memory.ts';
import type { Ring } from './ring.ts';
import type { UnitState } from './unit-state.ts';

/** How a command ends. */
const RESULT = { DONE: 0, ILLEGAL: 1, ABORT: 2 } as const;

const OPCODE_SHIFT = 28;
const RUN = STATUS.fields.CMD_BUF_RUN.mask;
const WAIT_INT = STATUS.fields.COM_WAIT_INT.mask;
const { S, I, ADDR } = COMPLETION_WAIT.fields;
const { GN } = INVALIDATE_IOMMU_PAGES.fields;
const STORE_LO = ADDR.masks[0] as number;
const STORE_HI = ADDR.masks[1] as number;
const LOW_16 = 0xffff;

/** What commands work on. */
export interface CommandTargets {
  readonly memory: HardwareMemory;
  readonly state: UnitState;
  readonly features: Features;
  readonly caches: Caches;
  readonly events: EventRecords;
  /** Dwords of the status register. */
  readonly status: Uint32Array;
  /** Send the unit's interrupt. */
  interrupt(): void;
}

/** Processes commands while Status.CmdBufRun is set. */
export class CommandBuffer {
  readonly ring: Ring;
  readonly #on: CommandTargets;
  readonly #words = new Int32Array(4);
  #busy = false;

  constructor(ring: Ring, targets: CommandTargets) {
    this.ring = ring;
    this.#on = targets;
  }

  get running(): boolean {
    return ((this.#on.status[0] as number) & RUN) !== 0;
  }

  /** Follow Control.CmdBufEn and IommuEn; the edge to 1 leaves an error stop. */
  setRunning(run: boolean): void {
    const status = this.#on.status[0] as number;
    this.#on.status[0] = run ? status | RUN : status & ~RUN;
    if (run) this.process();
  }

  /**
   * Execute everything between head and tail. An interrupt handler may write the tail meanwhile;
   * its commands are done by the outer call.
   */
  process(): void {
    if (this.#busy) return;
    this.#busy = true;
    try {
      this.#drain();
    } finally {
      this.#busy = false;
    }
  }

  #drain(): void {
    const { ring } = this;
    while (this.running && ring.isSane && ring.head !== ring.tail) {
      const address = ring.base + ring.head;
      const result = this.#execute(address);
      if (result === RESULT.DONE) ring.head = ring.after(ring.head);
      else this.#stop(result, address);
    }
  }

  /** The head stays at the failing command. */
  #stop(result: number, address: number): void {
    const { status, events } = this.#on;
    status[0] = (status[0] as number) & ~RUN;
    if (result === RESULT.ABORT) events.commandHardwareError(address);
    else events.illegalCommand(address);
  }

  #execute(address: number): number {
    const words = this.#words;
    if (!readDwords(this.#on.memory, address, words, COMMAND_BYTES / 4)) return RESULT.ABORT;
    const opcode = (words[1] as number) >>> OPCODE_SHIFT;
    const layout = COMMAND_LAYOUTS[opcode];
    if (layout === undefined || hasReservedBits(words, layout.reservedMasks)) return RESULT.ILLEGAL;
    switch (opcode) {
      case COMMAND.COMPLETION_WAIT:
        return this.#completionWait();
      case COMMAND.INVALIDATE_DEVTAB_ENTRY:
        return this.#invalidateDevtabEntry();
      case COMMAND.INVALIDATE_IOMMU_PAGES:
        return this.#invalidateIommuPages();
      case COMMAND.INVALIDATE_IOMMU_ALL:
        return this.#invalidateAll();
      default:
        // INVALIDATE_INTERRUPT_TABLE: interrupt tables are not cached here.
        return this.#knownDevice() ? RESULT.DONE : RESULT.ILLEGAL;
    }
  }

  #completionWait(): number {
    const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = this.#words;
    const { memory, state, status } = this.#on;
    if ((w0 & S.mask) !== 0) {
      const target = joinAddress(w0 & STORE_LO, w1 & STORE_HI);
      if (!writeDwords(memory, target, [w2, w3])) return RESULT.ABORT;
    }
    if ((w0 & I.mask) !== 0) {
      const before = status[0] as number;
      status[0] = before | WAIT_INT;
      if ((before & WAIT_INT) === 0 && state.waitInterrupt) this.#on.interrupt();
    }
    return RESULT.DONE;
  }

  #invalidateDevtabEntry(): number {
    if (!this.#knownDevice()) return RESULT.ILLEGAL;
    this.#on.caches.devices.invalidateSource((this.#words[0] as number) & LOW_16);
    return RESULT.DONE;
  }

  /** Host translations of a domain; guest translations are a feature that this unit lacks. */
  #invalidateIommuPages(): number {
    const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = this.#words;
    if ((w2 & GN.mask) !== 0 || w0 !== 0) return RESULT.ILLEGAL;
    const range = decodeRange(w2, w3);
    if (range === undefined) return RESULT.ILLEGAL;
    this.#on.caches.iotlb.invalidateRangeAndNested(w1 & LOW_16, range.firstPfn, range.sizeLg2);
    return RESULT.DONE;
  }

  #invalidateAll(): number {
    if (!this.#on.features.invalidateAll) return RESULT.ILLEGAL;
    this.#on.caches.invalidateAll();
    return RESULT.DONE;
  }

  /** Whether DeviceID lies inside the device table. */
  #knownDevice(): boolean {
    return this.#on.state.dteAddress((this.#words[0] as number) & LOW_16) >= 0;
  }
}

const hasReservedBits = (words: Int32Array, reserved: readonly number[]): boolean =>
  words.some((word, at) => (word & (reserved[at] as number)) !== 0);
