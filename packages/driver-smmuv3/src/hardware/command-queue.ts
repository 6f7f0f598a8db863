/**
 * The command queue: fetches, checks and executes commands; a bad one stops it.
 *
 * @spec SMMUv3 4 (commands), 7.1 (command errors)
 */
import { BLOCKED, RAZ_WI } from '@iommukit/core';
import { CFGI, CFGI_RANGE, COMMAND, RANGE_ALL, RESUME, SYNC, SYNC_CS } from '../spec/commands.ts';
import { CMDQ_CONS, CMDQ_ERR, GLOBAL_ERROR } from '../spec/registers.ts';
import type { Caches } from './caches.ts';
import type { Features } from './capabilities.ts';
import type { DeviceCommands } from './device-commands.ts';
import type { GlobalErrors } from './global-errors.ts';
import type { Interrupts } from './interrupts.ts';
import { type HardwareMemory, joinAddress, readDwords } from './memory.ts';
import type { Queue } from './queue.ts';
import type { Stalls } from './stalls.ts';
import type { TranslationCommands } from './translation-commands.ts';

const { ERR } = CMDQ_CONS.fields;
const SSEC = CFGI.fields.SSEC.mask;
const SSID_SHIFT = CFGI.fields.SSID.shift;
const RANGE = CFGI_RANGE.fields.RANGE.mask;
const { AC, AB, STAG } = RESUME.fields;
const CS = SYNC.fields.CS;
const MSI_LO = SYNC.fields.MSI_ADDR.masks[2] as number;
const MSI_HI = SYNC.fields.MSI_ADDR.masks[3] as number;

const ONE_STREAM = -1;
const EVERY_STREAM = 0;
const LAST_CONFIGURATION = COMMAND.CFGI_CD_ALL;
const LAST_TRANSLATION = COMMAND.TLBI_NSNH_ALL;

/** What commands work on. */
export interface CommandTargets {
  readonly memory: HardwareMemory;
  readonly features: Features;
  readonly caches: Caches;
  readonly errors: GlobalErrors;
  readonly translations: TranslationCommands;
  readonly devices: DeviceCommands;
  readonly stalls: Stalls;
  /** Dwords of CMDQ_CONS. */
  readonly cons: Uint32Array;
  readonly interrupts: Interrupts;
}

/** Looks on while commands run. */
export interface CommandWatcher {
  starts(words: Int32Array): void;
  done(): void;
}

/** Processes commands while CR0.CMDQEN is set and no command error is active. */
export class CommandQueue {
  readonly queue: Queue;
  enabled = false;
  /** Absent in units that nobody watches. */
  watcher: CommandWatcher | undefined;
  readonly #on: CommandTargets;
  readonly #words = new Int32Array(4);
  #busy = false;

  constructor(queue: Queue, targets: CommandTargets) {
    this.queue = queue;
    this.#on = targets;
  }

  /**
   * Execute what is queued. A message handler may queue more meanwhile; the outer call does it.
   */
  process(): void {
    if (this.#busy) return;
    this.#busy = true;
    try {
      this.#drain();
    } finally {
      this.#busy = false;
    }
    this.#on.stalls.run();
  }

  #drain(): void {
    const { queue } = this;
    while (this.enabled && !queue.isEmpty && !this.#on.errors.isActive(GLOBAL_ERROR.CMDQ_ERR)) {
      const wasFull = queue.isFull;
      const error = this.#execute(queue.consumerAddress);
      if (wasFull && !queue.isFull) this.#on.interrupts.sendEvent();
      if (error !== CMDQ_ERR.NONE) this.#stop(error);
    }
  }

  /** The consumer index stays at the failing command; ERR is set before GERROR toggles. */
  #stop(error: number): void {
    const { cons, errors } = this.#on;
    cons[0] = (((cons[0] as number) & ~ERR.mask) | (error << ERR.shift)) >>> 0;
    errors.raise(GLOBAL_ERROR.CMDQ_ERR);
  }

  #execute(address: number): number {
    const words = this.#words;
    if (!readDwords(this.#on.memory, address, words, 4)) return CMDQ_ERR.ABT;
    const opcode = (words[0] as number) & 0xff;
    if (opcode === COMMAND.SYNC) return this.#sync();
    this.watcher?.starts(words);
    if (!this.#executed(opcode)) return CMDQ_ERR.ILL;
    this.watcher?.done();
    this.queue.advanceConsumer();
    return CMDQ_ERR.NONE;
  }

  /** @returns false for an illegal command */
  #executed(opcode: number): boolean {
    if (opcode <= LAST_CONFIGURATION) return this.#configuration(opcode);
    if (opcode <= LAST_TRANSLATION) return this.#on.translations.execute(opcode, this.#words);
    if (opcode === COMMAND.RESUME || opcode === COMMAND.STALL_TERM) return this.#stalled(opcode);
    return this.#on.devices.execute(opcode, this.#words);
  }

  /** RESUME and STALL_TERM. @returns false in a unit that does not stall */
  #stalled(opcode: number): boolean {
    const [w0 = 0, sid = 0, w2 = 0] = this.#words;
    const { features, stalls } = this.#on;
    if (!features.stalls || (w0 & SSEC) !== 0) return false;
    if (opcode === COMMAND.STALL_TERM) stalls.terminate(sid >>> 0);
    else stalls.resume(sid >>> 0, w2 & STAG.mask, answerOf(w0, features));
    return true;
  }

  /** The consumer index passes the SYNC before its message is written. */
  #sync(): number {
    const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = this.#words;
    const signal = (w0 & CS.mask) >>> CS.shift;
    if (signal === SYNC_CS.RESERVED) return CMDQ_ERR.ILL;
    const { devices } = this.#on;
    if (devices.timedOut) {
      devices.timedOut = false;
      return CMDQ_ERR.ATC_INV_SYNC;
    }
    this.#on.stalls.synchronize();
    this.queue.advanceConsumer();
    const target = joinAddress(w2 & MSI_LO, w3 & MSI_HI);
    if (signal === SYNC_CS.IRQ) this.#on.interrupts.synchronized(target, w1 >>> 0);
    if (signal === SYNC_CS.SEV) this.#on.interrupts.sendEvent();
    return CMDQ_ERR.NONE;
  }

  /** CFGI_* and PREFETCH_*. @returns false for an illegal command */
  #configuration(opcode: number): boolean {
    const [w0 = 0, sid = 0, w2 = 0] = this.#words;
    const { caches, features } = this.#on;
    if ((w0 & SSEC) !== 0) return false;
    switch (opcode) {
      case COMMAND.PREFETCH_CONFIG:
      case COMMAND.PREFETCH_ADDR:
        return true;
      case COMMAND.CFGI_STE:
        caches.invalidateStreams(sid, ONE_STREAM);
        return true;
      case COMMAND.CFGI_STE_RANGE:
        caches.invalidateStreams(sid, streamMask(w2 & RANGE));
        return true;
      case COMMAND.CFGI_CD:
        caches.contexts.invalidate(sid, ONE_STREAM, w0 >>> SSID_SHIFT);
        return features.stage1;
      case COMMAND.CFGI_CD_ALL:
        caches.contexts.invalidate(sid, ONE_STREAM);
        return features.stage1;
      default:
        return false;
    }
  }
}

/** What a RESUME decides: undefined = try again. */
const answerOf = (w0: number, features: Features): number | undefined => {
  if ((w0 & AC.mask) !== 0) return undefined;
  return (w0 & AB.mask) !== 0 || features.abortsOnly ? BLOCKED : RAZ_WI;
};

/** Streams that agree in these bits form the aligned block of 2^(range + 1). */
const streamMask = (range: number): number =>
  range === RANGE_ALL ? EVERY_STREAM : -(2 ** (range + 1)) | 0;
