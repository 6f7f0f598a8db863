/**
 * The SMMUv3 that a guest programs, as a VMM emulates it: registers and queues are the VMM's, stream
 * table entries and invalidations go to the host, translation itself is the hardware's.
 */
import { decode, type Register } from '@iommukit/bits';
import {
  CFGI,
  CFGI_RANGE,
  CMDQ_BASE,
  CMDQ_CONS,
  CMDQ_ERR,
  CMDQ_PROD,
  COMMAND,
  CR0,
  CR0ACK,
  decodeVeventArmSmmuv3,
  EVENT,
  EVENTQ_BASE,
  EVENTQ_CONS,
  EVENTQ_PROD,
  GBPA,
  GERROR,
  GERRORN,
  IDR0,
  IDR1,
  RANGE_ALL,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
} from '@iommukit/driver-smmuv3';
import type { Host } from './host.ts';
import { readWords, writeWords } from './platform.ts';

const COMMAND_WORDS = 4;
const EVENT_WORDS = 8;
const STE_BYTES = 64;
const LOST_EVENTS = 1;
const OVERFLOW = 0x8000_0000;
/** vSTE that lets requests through to the guest's RAM: V, Config 4. */
const BYPASS = Uint32Array.of(9, 0, 0, 0);
const ABORT = Uint32Array.of(1, 0, 0, 0);
/** Queues of at most 256 entries. */
const MAX_QUEUE_LG2 = 8;

/** One vSMMU with one device. */
export class VirtualSmmu {
  readonly #host: Host;
  /** The guest's name for its device. */
  readonly #vsid: number;
  readonly #registers = new Map<number, number>();

  constructor(host: Host, vsid: number) {
    this.#host = host;
    this.#vsid = vsid;
    const [idr0 = 0, idr1 = 0, idr2 = 0, idr3 = 0, , idr5 = 0] = host.idr;
    // The guest gets stage 1, linear tables and small queues; no ATS, PRI or messages.
    const { S1P, TTF, COHACC, ASID16, TTENDIAN, STALL_MODEL, TERM_MODEL, CD2L } = IDR0.fields;
    const features = [S1P, TTF, COHACC, ASID16, TTENDIAN, STALL_MODEL, TERM_MODEL, CD2L];
    const idr0Mask = features.reduce((mask, field) => mask | field.mask, 0);
    const { SIDSIZE, SSIDSIZE, CMDQS, EVENTQS } = IDR1.fields;
    const queues = (MAX_QUEUE_LG2 << CMDQS.shift) | (MAX_QUEUE_LG2 << EVENTQS.shift);
    const ids = [idr0 & idr0Mask, (idr1 & (SIDSIZE.mask | SSIDSIZE.mask)) | queues, idr2, idr3];
    [...ids, 0, idr5].forEach((value, at) => {
      this.#registers.set(4 * at, value >>> 0);
    });
    this.#reloadStream();
  }

  readRegister(offset: number): number {
    return this.#registers.get(offset) ?? 0;
  }

  writeRegister(offset: number, value: number): void {
    const before = this.readRegister(offset);
    this.#registers.set(offset, value >>> 0);
    if (offset === CR0.offset) {
      this.#registers.set(CR0ACK.offset, value >>> 0);
      if ((before ^ value) & CR0.fields.SMMUEN.mask) this.#reloadStream();
    }
    if (offset === GBPA.offset) this.#reloadStream();
    if (offset === CMDQ_PROD.offset || offset === GERRORN.offset) this.#runCommands();
  }

  /** The host's queue of events is readable: hand them to the guest. */
  deliverEvents(): void {
    for (const { flags, data } of this.#host.events.readEvents()) {
      if (flags & LOST_EVENTS) this.#loseEvent();
      else this.#recordEvent(decodeVeventArmSmmuv3(data));
    }
  }

  #field(register: Register, name: string): number {
    const words = [0, 4].map((at) => this.readRegister(register.offset + at));
    return Number((decode(register, words) as Readonly<Record<string, number>>)[name]);
  }

  /** What the guest's table, or GBPA while the unit is off, says of the device. */
  #reloadStream(): void {
    const isOn = (this.readRegister(CR0.offset) & CR0.fields.SMMUEN.mask) !== 0;
    const isBlocked = (this.readRegister(GBPA.offset) & GBPA.fields.ABORT.mask) !== 0;
    const entry = isOn ? this.#guestEntry() : isBlocked ? ABORT : BYPASS;
    if (this.#host.install(new Uint8Array(entry.buffer, entry.byteOffset, 16))) return;
    this.#recordEvent(Uint32Array.of(EVENT.C_BAD_STE, this.#vsid, 0, 0, 0, 0, 0, 0));
  }

  #guestEntry(): Uint32Array {
    if (this.#vsid >= 2 ** this.#field(STRTAB_BASE_CFG, 'LOG2SIZE')) return ABORT;
    const at = this.#field(STRTAB_BASE, 'ADDR') + this.#vsid * STE_BYTES;
    return readWords(this.#memory, at, 4);
  }

  get #memory() {
    const host = this.#host;
    return {
      readMemory: (address: number) => host.readMemory(address),
      writeMemory: (address: number, value: number) => host.writeMemory(address, value),
    };
  }

  get #hasError(): boolean {
    const active = this.readRegister(GERROR.offset) ^ this.readRegister(GERRORN.offset);
    return (active & GERROR.fields.CMDQ_ERR.mask) !== 0;
  }

  /** Commands up to the producer index; invalidations go to the host in batches. */
  #runCommands(): void {
    const lg2 = this.#queueLg2(CMDQ_BASE);
    const mask = 2 ** (lg2 + 1) - 1;
    const base = this.#field(CMDQ_BASE, 'ADDR');
    const producer = this.readRegister(CMDQ_PROD.offset) & mask;
    const batch: Uint8Array[] = [];
    let consumer = this.readRegister(CMDQ_CONS.offset) & mask;
    while (consumer !== producer && !this.#hasError) {
      const at = base + (consumer & (2 ** lg2 - 1)) * 4 * COMMAND_WORDS;
      const words = readWords(this.#memory, at, COMMAND_WORDS);
      if (this.#isLocal(words)) {
        if (!this.#flush(batch)) return;
        this.#runLocal(words);
        consumer = (consumer + 1) & mask;
        this.#registers.set(CMDQ_CONS.offset, consumer);
        continue;
      }
      batch.push(new Uint8Array(words.buffer));
      consumer = (consumer + 1) & mask;
    }
    this.#flush(batch);
  }

  /** @returns false when the host refused a command: the queue stops at it */
  #flush(batch: Uint8Array[]): boolean {
    const count = batch.length;
    if (count === 0) return true;
    const done = this.#host.invalidate(batch.splice(0));
    const mask = 2 ** (this.#queueLg2(CMDQ_BASE) + 1) - 1;
    const consumer = ((this.readRegister(CMDQ_CONS.offset) & mask) + done) & mask;
    const isGood = done === count;
    const { ERR } = CMDQ_CONS.fields;
    const error = isGood ? CMDQ_ERR.NONE : CMDQ_ERR.ILL;
    this.#registers.set(CMDQ_CONS.offset, (consumer | (error << ERR.shift)) >>> 0);
    const toggle = isGood ? 0 : GERROR.fields.CMDQ_ERR.mask;
    this.#registers.set(GERROR.offset, (this.readRegister(GERROR.offset) ^ toggle) >>> 0);
    return isGood;
  }

  /** Commands on what the VMM itself emulates. */
  #isLocal(words: Uint32Array): boolean {
    const opcode = (words[0] as number) & 0xff;
    return opcode <= COMMAND.CFGI_STE_RANGE || opcode === COMMAND.SYNC;
  }

  #runLocal(words: Uint32Array): void {
    const opcode = (words[0] as number) & 0xff;
    if (opcode === COMMAND.CFGI_STE && decode(CFGI, words).SID === this.#vsid) this.#reloadStream();
    if (opcode === COMMAND.CFGI_STE_RANGE && this.#isInRange(words)) this.#reloadStream();
  }

  #isInRange(words: Uint32Array): boolean {
    const { SID, RANGE } = decode(CFGI_RANGE, words);
    const span = 2 ** (RANGE + 1);
    return RANGE === RANGE_ALL || Math.floor(SID / span) === Math.floor(this.#vsid / span);
  }

  #recordEvent(words: Uint32Array): void {
    if ((this.readRegister(CR0.offset) & CR0.fields.EVENTQEN.mask) === 0) return;
    const lg2 = this.#queueLg2(EVENTQ_BASE);
    const mask = 2 ** (lg2 + 1) - 1;
    const producer = this.readRegister(EVENTQ_PROD.offset);
    const consumer = this.readRegister(EVENTQ_CONS.offset);
    if (((producer ^ consumer) & mask) === 2 ** lg2) {
      this.#loseEvent();
      return;
    }
    const index = producer & (2 ** lg2 - 1);
    const at = this.#field(EVENTQ_BASE, 'ADDR') + index * 4 * EVENT_WORDS;
    writeWords(this.#memory, at, words);
    const next = (producer & OVERFLOW) | ((producer + 1) & mask);
    this.#registers.set(EVENTQ_PROD.offset, next >>> 0);
  }

  #loseEvent(): void {
    const producer = this.readRegister(EVENTQ_PROD.offset);
    const isActive = ((producer ^ this.readRegister(EVENTQ_CONS.offset)) & OVERFLOW) !== 0;
    if (!isActive) this.#registers.set(EVENTQ_PROD.offset, (producer ^ OVERFLOW) >>> 0);
  }

  #queueLg2(base: Register): number {
    return Math.min(this.#field(base, 'LOG2SIZE'), MAX_QUEUE_LG2);
  }
}
