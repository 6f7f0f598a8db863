import { addressHi, addressLo, type HostMemory, refuse } from '@iommukit/core';
import { COMMAND, COMMAND_BYTES } from '../spec/commands.ts';
import { CMDQ_BASE, CMDQ_CONS, CMDQ_ERR, CMDQ_PROD, GERROR, GERRORN } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

const WORDS = COMMAND_BYTES / 4;
/** Reads of the consumer index before the queue counts as dead. */
const MAX_POLLS = 100_000;
const CMDQ_ERROR = GERROR.fields.CMDQ_ERR.mask;

/** Where a command queue is, and its producer index with the wrap bit. */
export interface CommandQueuePlace {
  readonly ringPa: number;
  readonly prod: number;
}

/**
 * The command queue of one unit, driven as an operating system does: commands are collected,
 * handed over with one SYNC at the end, and the consumer index is polled.
 *
 * @spec SMMUv3 4, 7.1
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_cmdq_issue_cmdlist)
 */
export class CommandQueue {
  /** Invalidations that a device did not answer. */
  deviceTimeouts = 0;
  readonly #registers: RegisterFile;
  readonly #memory: HostMemory;
  #ring: number;
  readonly #lg2: number;
  readonly #batch: number[] = [];
  readonly #later = new Set<() => void>();
  #isWaiting = false;
  /** Index with its wrap bit. */
  #prod = 0;

  /** @param entriesLg2 lg2 of the commands it holds */
  constructor(registers: RegisterFile, memory: HostMemory, entriesLg2: number) {
    this.#registers = registers;
    this.#memory = memory;
    this.#lg2 = entriesLg2;
    const pages = Math.max((COMMAND_BYTES * 2 ** entriesLg2) / 4096, 1);
    this.#ring = memory.alloc(pages, 'bring-up', 'the command queue');
  }

  /** Program base and indices; the queue is off. */
  program(): void {
    const registers = this.#registers;
    const lo = (addressLo(this.#ring) | this.#lg2) >>> 0;
    registers.writeReg64(CMDQ_BASE.offset, lo, addressHi(this.#ring));
    registers.writeReg32(CMDQ_PROD.offset, 0);
    registers.writeReg32(CMDQ_CONS.offset, 0);
    this.#prod = 0;
  }

  /** Where it is and how far it came, for a snapshot. */
  save(): CommandQueuePlace {
    return { ringPa: this.#ring, prod: this.#prod };
  }

  /** Go on with a queue that a snapshot brought. */
  adopt({ ringPa, prod }: CommandQueuePlace): void {
    this.#ring = ringPa;
    this.#prod = prod;
  }

  /** Add one command: its four dwords. @hot */
  push(w0: number, w1: number, w2: number, w3: number): void {
    this.#batch.push(w0, w1, w2, w3);
  }

  /**
   * Do something that may send commands: now, or when the commands that are being waited for are
   * done. A message that arrives while they are executed is served then.
   */
  whenIdle(work: () => void): void {
    if (this.#isWaiting) this.#later.add(work);
    else work();
  }

  /** Drop what was added and not handed over. */
  discard(): void {
    this.#batch.length = 0;
  }

  /**
   * Hand everything over and wait until it is done.
   *
   * @throws {IommuError} EIO when the unit refuses a command or stops answering
   */
  submit(): void {
    const commands = this.#batch.splice(0);
    const chunk = (2 ** this.#lg2 - 1) * WORDS;
    this.#isWaiting = true;
    try {
      for (let from = 0; from < commands.length; from += chunk) {
        this.#submitChunk(commands.slice(from, from + chunk));
      }
    } finally {
      this.#isWaiting = false;
      this.#doLater();
    }
  }

  #doLater(): void {
    for (const work of this.#later) {
      this.#later.delete(work);
      work();
    }
  }

  #submitChunk(words: readonly number[]): void {
    for (let at = 0; at < words.length; at += WORDS) this.#put(words, at);
    this.#put([COMMAND.SYNC, 0, 0, 0], 0);
    this.#registers.writeReg32(CMDQ_PROD.offset, this.#prod);
    this.#await();
  }

  #put(words: readonly number[], at: number): void {
    const pa = this.#addressOf(this.#prod);
    this.#memory.storePair(pa, words, at);
    this.#memory.storePair(pa + 8, words, at + 2);
    this.#prod = (this.#prod + 1) & (2 ** (this.#lg2 + 1) - 1);
  }

  #addressOf(index: number): number {
    return this.#ring + (index & (2 ** this.#lg2 - 1)) * COMMAND_BYTES;
  }

  #await(): void {
    const registers = this.#registers;
    const mask = 2 ** (this.#lg2 + 1) - 1;
    for (let poll = 0; poll < MAX_POLLS; poll++) {
      const cons = registers.readReg32(CMDQ_CONS.offset);
      if ((cons & mask) === this.#prod) return;
      const errors = registers.readReg32(GERROR.offset) ^ registers.readReg32(GERRORN.offset);
      if ((errors & CMDQ_ERROR) !== 0) this.#recover(cons);
    }
    throw refuse('EIO', 'invalidate', 'command-queue', 'the command queue does not advance');
  }

  /**
   * Let a queue that stopped at an error go on. A SYNC that reports a device without an answer is
   * tried again: the device is not the unit's fault. In place of a refused command a SYNC is put.
   */
  #recover(cons: number): void {
    const { ERR } = CMDQ_CONS.fields;
    const error = (cons & ERR.mask) >>> ERR.shift;
    if (error === CMDQ_ERR.ATC_INV_SYNC) {
      this.deviceTimeouts++;
      this.#acknowledge();
    } else this.#skipRefused(cons, error);
  }

  #acknowledge(): void {
    const registers = this.#registers;
    registers.writeReg32(GERRORN.offset, registers.readReg32(GERRORN.offset) ^ CMDQ_ERROR);
  }

  #skipRefused(cons: number, error: number): never {
    const pa = this.#addressOf(cons);
    const opcode = this.#memory.load32(pa) & 0xff;
    this.#memory.store64(pa, COMMAND.SYNC, 0);
    this.#memory.store64(pa + 8, 0, 0);
    this.#acknowledge();
    throw refuse(
      'EIO',
      'invalidate',
      'command-queue',
      `the unit refused command ${opcode} with CERROR ${error}`,
      { value: opcode, accepted: 'commands of the features in IDR0' },
    );
  }
}
