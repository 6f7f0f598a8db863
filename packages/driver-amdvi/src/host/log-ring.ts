import { addressHi, addressLo, type HostMemory } from '@iommukit/core';
import { CONTROL, STATUS } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

const ENTRY_BYTES = 16;
const ENTRIES_LG2 = 9;
const RING_BYTES = ENTRY_BYTES * 2 ** ENTRIES_LG2;
/** Place of the length in the upper dword of a base register. */
const LENGTH_SHIFT = 24;

/** Where a log has its registers and bits. */
export interface LogRegisters {
  readonly base: number;
  readonly head: number;
  readonly tail: number;
  /** Bits of Status: an entry came; an entry found no room. */
  readonly interrupt: number;
  readonly overflow: number;
  /** Bits of Control: the log; its interrupt. */
  readonly enable: number;
  readonly interruptEnable: number;
}

/**
 * A log that the unit writes and this driver reads: events, page requests.
 *
 * @spec AMD IOMMU 2.5, 2.6
 * @linux drivers/iommu/amd/init.c (iommu_enable_event_buffer, amd_iommu_restart_log)
 */
export class LogRing {
  /** Times the log was full and entries were lost. */
  overflows = 0;
  readonly #registers: RegisterFile;
  readonly #memory: HostMemory;
  readonly #at: LogRegisters;
  readonly #base: number;
  #servicing = false;

  /** @throws {IommuError} ENOMEM */
  constructor(registers: RegisterFile, memory: HostMemory, at: LogRegisters, what: string) {
    this.#registers = registers;
    this.#memory = memory;
    this.#at = at;
    this.#base = memory.alloc(RING_BYTES / 4096, 'bring-up', what);
  }

  /** Program the base, which sets head and tail to 0; Control switches the log on. */
  program(): void {
    const hi = addressHi(this.#base) | (ENTRIES_LG2 << LENGTH_SHIFT);
    this.#registers.writeReg64(this.#at.base, addressLo(this.#base), hi);
  }

  /**
   * Take every entry, oldest first. The interrupt status is cleared before the tail is read, and
   * looked at again in the end: the unit sends no message while it is set, so an entry that came
   * meanwhile would wait for ever.
   *
   * @param take gets four u32 words, its own to keep
   */
  service(take: (words: Uint32Array) => void): void {
    if (this.#servicing) return;
    this.#servicing = true;
    const registers = this.#registers;
    const { interrupt, overflow } = this.#at;
    try {
      do {
        registers.writeReg32(STATUS.offset, interrupt);
        this.#drain(take);
        if ((registers.readReg32(STATUS.offset) & overflow) !== 0) this.#restart();
      } while ((registers.readReg32(STATUS.offset) & interrupt) !== 0);
    } finally {
      this.#servicing = false;
    }
  }

  #drain(take: (words: Uint32Array) => void): void {
    const registers = this.#registers;
    let head = registers.readReg32(this.#at.head);
    while (head !== registers.readReg32(this.#at.tail)) {
      const words = new Uint32Array(ENTRY_BYTES / 4);
      this.#memory.loadWords(this.#base + head, words);
      head = (head + ENTRY_BYTES) % RING_BYTES;
      registers.writeReg32(this.#at.head, head);
      take(words);
    }
  }

  /** An overflow stops the log: switch it off, clear the overflow, switch it on. */
  #restart(): void {
    this.overflows++;
    const registers = this.#registers;
    const { enable, interruptEnable, overflow } = this.#at;
    const control = registers.readReg32(CONTROL.offset);
    registers.writeReg32(CONTROL.offset, (control & ~(enable | interruptEnable)) >>> 0);
    registers.writeReg32(STATUS.offset, overflow);
    registers.writeReg32(CONTROL.offset, control);
  }
}
