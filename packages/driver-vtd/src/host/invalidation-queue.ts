import type { HostMemory } from '@iommukit/core';
import { refuse } from '@iommukit/core';
import { DESCRIPTOR_TYPE, INV_WAIT_DSC } from '../spec/invalidation-descriptors.ts';
import { FSTS, GCMD, GSTS, IQA, IQERCD, IQH, IQT } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';
import { clearFaultStatus, type GlobalCommands } from './registers.ts';

/** Descriptors of the ring, in both widths; one stays unused so that full differs from empty. */
const RING_SLOTS = 256;
/** Descriptors handed over at once: the ring less the unused slot and the closing wait. */
const CHUNK_SLOTS = RING_SLOTS - 2;
/** u32 words kept of a descriptor; the rest of a 256-bit one is zero. */
const WORDS = 4;
/** Reads of the status word before the queue counts as dead. */
const MAX_POLLS = 100_000;

const WAIT_TYPE = DESCRIPTOR_TYPE.INV_WAIT;
const WAIT_SW = INV_WAIT_DSC.fields.SW.mask;
const WAIT_FN = INV_WAIT_DSC.fields.FN.mask;
const WAIT_PD = INV_WAIT_DSC.fields.PD.mask;

/** What went wrong in the queue so far. */
export interface QueueErrors {
  /** Descriptors the hardware refused (FSTS.IQE); always a fault of this driver. */
  refused: number;
  /** Device-TLB invalidations that no device answered (FSTS.ITE). */
  timeouts: number;
  /** Unexpected device-TLB completions (FSTS.ICE). */
  completions: number;
}

/**
 * The invalidation queue of one unit, driven as an operating system does: descriptors are
 * collected, handed over with one wait at the end, and the wait's status word is polled.
 *
 * @spec VT-d 6.5.2
 * @linux drivers/iommu/intel/dmar.c (qi_submit_sync)
 */
export class InvalidationQueue {
  readonly errors: QueueErrors = { refused: 0, timeouts: 0, completions: 0 };
  readonly #registers: RegisterFile;
  readonly #memory: HostMemory;
  readonly #slotLg2: number;
  #ring: number;
  #statusPa: number;
  #batch = new Uint32Array(64 * WORDS);
  #used = 0;
  #tail = 0;
  #sequence = 0;

  /** @param wide 256-bit descriptors (DW=1), which scalable mode needs */
  constructor(registers: RegisterFile, memory: HostMemory, wide: boolean) {
    this.#registers = registers;
    this.#memory = memory;
    this.#slotLg2 = wide ? 5 : 4;
    this.#ring = memory.alloc(wide ? 2 : 1, 'bring-up', 'the invalidation queue');
    this.#statusPa = memory.alloc(1, 'bring-up', 'the invalidation wait status');
  }

  /** Program the ring and switch the queue on (bring-up step 3). */
  enable(commands: GlobalCommands): void {
    const wide = this.#slotLg2 === 5;
    const sizeAndWidth = wide ? (1 << IQA.fields.QS.shift) | IQA.fields.DW.mask : 0;
    this.#registers.write64(IQT.offset, 0, 0);
    const base = this.#ring;
    this.#registers.write64(
      IQA.offset,
      ((base >>> 0) | sizeAndWidth) >>> 0,
      Math.floor(base / 2 ** 32),
    );
    commands.setLevel(GCMD.fields.QIE.mask, true);
    this.#tail = 0;
    if (!commands.isOn(GSTS.fields.QIES.mask)) throw this.#dead('the queue did not start');
  }

  /** Whether nothing has been added since the last hand-over. */
  get isEmpty(): boolean {
    return this.#used === 0;
  }

  /** Add one descriptor: the u32 words of its first 128 bits. @hot */
  push(w0: number, w1: number, w2: number, w3: number): void {
    const at = this.#used * WORDS;
    if (at === this.#batch.length) this.#grow();
    const batch = this.#batch;
    batch[at] = w0;
    batch[at + 1] = w1;
    batch[at + 2] = w2;
    batch[at + 3] = w3;
    this.#used++;
  }

  /**
   * Hand everything over and wait until it is done. Batches beyond the ring go in several parts.
   *
   * @param drainPageRequests complete only after the page requests received so far are in the
   *   page request queue (PD)
   * @throws {IommuError} EIO when the hardware refuses a descriptor or stops answering
   */
  submit(drainPageRequests = false): void {
    const total = this.#used;
    if (total === 0 && !drainPageRequests) return;
    const batch = this.#batch;
    this.#used = 0;
    const refused = this.errors.refused;
    for (let from = 0; from < total || from === 0; from += CHUNK_SLOTS) {
      const until = Math.min(from + CHUNK_SLOTS, total);
      this.#submitChunk(batch, from, until, drainPageRequests && until === total);
    }
    if (this.errors.refused !== refused) {
      throw this.#dead('the hardware refused an invalidation descriptor (FSTS.IQE)');
    }
  }

  #submitChunk(batch: Uint32Array, from: number, until: number, drain: boolean): void {
    let toDevices = false;
    for (let i = from; i < until; i++) {
      const at = i * WORDS;
      toDevices ||= isDeviceTlb((batch[at] as number) & 0xf);
      this.#store(
        batch[at] as number,
        batch[at + 1] as number,
        batch[at + 2] as number,
        batch[at + 3] as number,
      );
    }
    const sequence = this.#nextSequence();
    const flags = WAIT_TYPE | WAIT_SW | WAIT_FN | (drain ? WAIT_PD : 0);
    this.#store(flags, sequence, this.#statusPa >>> 0, Math.floor(this.#statusPa / 2 ** 32));
    this.#ringBell();
    this.#await(sequence);
    if (toDevices) this.#checkCompletions(this.#registers.read32(FSTS.offset));
  }

  #grow(): void {
    const larger = new Uint32Array(this.#batch.length * 2);
    larger.set(this.#batch);
    this.#batch = larger;
  }

  #store(w0: number, w1: number, w2: number, w3: number): void {
    const pa = this.#slotAt(this.#tail);
    this.#memory.store64(pa, w0, w1);
    this.#memory.store64(pa + 8, w2, w3);
    this.#tail = (this.#tail + 1) % RING_SLOTS;
  }

  #slotAt(slot: number): number {
    return this.#ring + slot * 2 ** this.#slotLg2;
  }

  #ringBell(): void {
    this.#registers.write64(IQT.offset, this.#tail << this.#slotLg2, 0);
  }

  #nextSequence(): number {
    this.#sequence = (this.#sequence + 1) >>> 0;
    return this.#sequence;
  }

  /** Waits complete in order, so a later number means that ours is done too. */
  #isDone(sequence: number): boolean {
    return ((this.#memory.load32(this.#statusPa) - sequence) | 0) >= 0;
  }

  #await(sequence: number): void {
    for (let poll = 0; poll < MAX_POLLS; poll++) {
      if (this.#isDone(sequence)) return;
      this.#checkErrors(sequence);
    }
    throw this.#dead('the invalidation queue does not advance');
  }

  #checkErrors(sequence: number): void {
    const status = this.#registers.read32(FSTS.offset);
    this.#checkCompletions(status);
    if (status & FSTS.fields.IQE.mask) this.#skipRefused();
    if (status & FSTS.fields.ITE.mask) this.#skipUnanswered(sequence);
  }

  /** A bit left set would keep the unit from sending its next fault message. */
  #checkCompletions(status: number): void {
    if ((status & FSTS.fields.ICE.mask) === 0) return;
    this.errors.completions++;
    clearFaultStatus(this.#registers, FSTS.fields.ICE.mask);
  }

  /**
   * The head stays on a refused descriptor: put a harmless one in its place, then let the queue
   * go on.
   */
  #skipRefused(): void {
    this.errors.refused++;
    this.#neutralise(this.#head());
    clearFaultStatus(this.#registers, FSTS.fields.IQE.mask);
  }

  /**
   * A device did not answer. Its remaining commands would time out too, so they are taken out of
   * the ring; the wait that the timeout aborted is handed over again.
   */
  #skipUnanswered(sequence: number): void {
    this.errors.timeouts++;
    const source = this.#registers.read32(IQERCD.offset + 4) & 0xffff;
    for (let slot = this.#head(); slot !== this.#tail; slot = (slot + 1) % RING_SLOTS) {
      if (this.#deviceOf(slot) === source || source === 0) this.#neutraliseDeviceTlb(slot);
    }
    clearFaultStatus(this.#registers, FSTS.fields.ITE.mask);
    if (this.#isDone(sequence) || this.#head() !== this.#tail) return;
    this.#store(
      WAIT_TYPE | WAIT_SW | WAIT_FN,
      sequence,
      this.#statusPa >>> 0,
      Math.floor(this.#statusPa / 2 ** 32),
    );
    this.#ringBell();
  }

  #head(): number {
    return (this.#registers.read32(IQH.offset) >>> this.#slotLg2) % RING_SLOTS;
  }

  /** RID of a device-TLB descriptor in a slot, or -1. */
  #deviceOf(slot: number): number {
    const lo = this.#memory.load32(this.#slotAt(slot));
    const type = lo & 0xf;
    if (type === DESCRIPTOR_TYPE.P_DEV_TLB_INV) return lo >>> 16;
    if (type === DESCRIPTOR_TYPE.DEV_TLB_INV)
      return this.#memory.load32(this.#slotAt(slot) + 4) & 0xffff;
    return -1;
  }

  #neutraliseDeviceTlb(slot: number): void {
    if (this.#deviceOf(slot) >= 0) this.#neutralise(slot);
  }

  /** A wait that writes to a dword nobody reads. */
  #neutralise(slot: number): void {
    const scratch = this.#statusPa + 8;
    this.#memory.store64(this.#slotAt(slot) + 8, scratch >>> 0, Math.floor(scratch / 2 ** 32));
    this.#memory.store64(this.#slotAt(slot), WAIT_TYPE | WAIT_SW, 0);
  }

  #dead(message: string): Error {
    const code = this.#registers.read32(IQERCD.offset) & 0xf;
    return refuse('EIO', 'invalidate', 'invalidation-queue', `${message}; IQERCD.IQEI is ${code}`, {
      value: code,
    });
  }

  /** Where ring and wait status are, physical byte addresses. */
  get place(): { readonly ringPa: number; readonly statusPa: number } {
    return { ringPa: this.#ring, statusPa: this.#statusPa };
  }

  /** Take over a ring and a wait status that a snapshot brought. */
  adopt({ ringPa, statusPa }: InvalidationQueue['place']): void {
    this.#ring = ringPa;
    this.#statusPa = statusPa;
  }

  /** Ring position and sequence, for a snapshot. */
  save(): readonly [tail: number, sequence: number] {
    return [this.#tail, this.#sequence];
  }

  load(tail: number, sequence: number): void {
    this.#tail = tail;
    this.#sequence = sequence;
    this.#used = 0;
  }
}

const isDeviceTlb = (type: number): boolean =>
  type === DESCRIPTOR_TYPE.DEV_TLB_INV || type === DESCRIPTOR_TYPE.P_DEV_TLB_INV;
