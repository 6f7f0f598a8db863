import { addressHi, addressLo, type HostMemory, refuse } from '@iommukit/core';
import { COMMAND, COMMAND_BYTES, COMPLETION_WAIT } from '../spec/commands.ts';
import { CMD_BUF_BASE, CMD_BUF_HEAD, CMD_BUF_TAIL, CONTROL, STATUS } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

const ENTRIES_LG2 = 9;
const ENTRIES = 2 ** ENTRIES_LG2;
const RING_BYTES = ENTRIES * COMMAND_BYTES;
const RING_PAGES = RING_BYTES / 4096;
/** Commands handed over at once: the ring less the unused entry and the closing wait. */
const CHUNK = ENTRIES - 2;
const WORDS = COMMAND_BYTES / 4;
/** Reads of the wait's store before the buffer counts as dead. */
const MAX_POLLS = 100_000;
const OPCODE_SHIFT = 28;
const WAIT_STORE = COMPLETION_WAIT.fields.S.mask;

/**
 * The command buffer of one unit, driven as an operating system does: commands are collected,
 * handed over with one COMPLETION_WAIT at the end, and its store is polled.
 *
 * @spec AMD IOMMU 2.4
 * @linux drivers/iommu/amd/iommu.c (iommu_queue_command_sync)
 */
export class CommandBuffer {
  /** Invalidations that no device answered in time (IOTLB_INV_TIMEOUT). */
  timeouts = 0;
  readonly #registers: RegisterFile;
  readonly #memory: HostMemory;
  readonly #ring: number;
  readonly #store: number;
  readonly #batch: number[] = [];
  #tail = 0;
  #sequence = 0;

  constructor(registers: RegisterFile, memory: HostMemory) {
    this.#registers = registers;
    this.#memory = memory;
    this.#ring = memory.alloc(RING_PAGES, 'bring-up', 'the command buffer');
    this.#store = memory.alloc(1, 'bring-up', 'the completion store');
  }

  /** Program the base; the write sets head and tail to 0. */
  program(): void {
    const hi = addressHi(this.#ring) | (ENTRIES_LG2 << (CMD_BUF_BASE.fields.LEN.lo - 32));
    this.#registers.writeReg64(CMD_BUF_BASE.offset, addressLo(this.#ring), hi);
    this.#tail = 0;
  }

  /** Add one command: its four dwords. @hot */
  push(w0: number, w1: number, w2: number, w3: number): void {
    this.#batch.push(w0, w1, w2, w3);
  }

  /**
   * Hand everything over and wait until it is done.
   *
   * @throws {IommuError} EIO when the unit refuses a command, after the rest was done, or stops
   *   answering; the buffer can be used again
   */
  submit(): void {
    const commands = this.#batch.splice(0);
    let refused: unknown;
    for (let from = 0; from < commands.length; from += CHUNK * WORDS) {
      try {
        this.#submitChunk(commands.slice(from, from + CHUNK * WORDS));
      } catch (error) {
        refused ??= error;
      }
    }
    if (refused) throw refused;
  }

  #submitChunk(words: readonly number[]): void {
    for (let at = 0; at < words.length; at += WORDS) this.#put(words, at);
    this.#sequence = (this.#sequence + 1) >>> 0;
    const store = this.#store;
    const wait = [
      (addressLo(store) | WAIT_STORE) >>> 0,
      addressHi(store) | (COMMAND.COMPLETION_WAIT << OPCODE_SHIFT),
      this.#sequence,
      0,
    ];
    this.#put(wait, 0);
    this.#registers.writeReg64(CMD_BUF_TAIL.offset, this.#tail, 0);
    this.#await();
  }

  #put(words: readonly number[], at: number): void {
    const pa = this.#ring + this.#tail;
    this.#memory.storePair(pa, words, at);
    this.#memory.storePair(pa + 8, words, at + 2);
    this.#tail = (this.#tail + COMMAND_BYTES) % RING_BYTES;
  }

  /**
   * Wait for the store. A command that stops the buffer is skipped, so that those behind it are
   * done all the same: an invalidation that a device does not answer, above all.
   */
  #await(): void {
    let refusedAt = -1;
    for (let poll = 0; poll < MAX_POLLS; poll++) {
      if (this.#memory.load32(this.#store) === this.#sequence) {
        if (refusedAt >= 0) throw stopped(refusedAt);
        return;
      }
      const status = this.#registers.readReg32(STATUS.offset);
      if ((status & STATUS.fields.CMD_BUF_RUN.mask) !== 0) continue;
      const head = this.#registers.readReg32(CMD_BUF_HEAD.offset);
      if (head === this.#tail) break;
      if (this.#opcodeAt(head) === COMMAND.INVALIDATE_IOTLB_PAGES) this.timeouts++;
      else if (refusedAt < 0) refusedAt = head;
      this.#restart(() => this.#skip(head));
    }
    const head = this.#registers.readReg32(CMD_BUF_HEAD.offset);
    this.#restart(() => this.program());
    throw stopped(refusedAt < 0 ? head : refusedAt);
  }

  #opcodeAt(head: number): number {
    return this.#memory.load32(this.#ring + head + 4) >>> OPCODE_SHIFT;
  }

  #skip(head: number): void {
    const next = (head + COMMAND_BYTES) % RING_BYTES;
    this.#registers.writeReg64(CMD_BUF_HEAD.offset, next, 0);
  }

  /** Only CmdBufEn 0 to 1 leaves an error stop. */
  #restart(whileOff: () => void): void {
    const registers = this.#registers;
    const control = registers.readReg32(CONTROL.offset);
    registers.writeReg32(CONTROL.offset, (control & ~CONTROL.fields.CMD_BUF_EN.mask) >>> 0);
    whileOff();
    registers.writeReg32(CONTROL.offset, control);
  }
}

const stopped = (head: number) =>
  refuse(
    'EIO',
    'invalidate',
    'command-buffer',
    `the command buffer stopped at byte ${head} of its ring`,
    { value: head, accepted: 'a unit that takes the commands its EFR announces' },
  );
