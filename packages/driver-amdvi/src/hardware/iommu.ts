/**
 * One AMD IOMMU as a device: registers in, memory and messages out. It knows nothing of who
 * programs it.
 *
 * @spec AMD IOMMU 3.4 (registers and the side effects of writing them)
 */
import { decode, type Register } from '@iommukit/bits';
import type { BusPort } from '@iommukit/core';
import * as spec from '../spec/registers.ts';
import { type CacheOptions, Caches } from './caches.ts';
import { type AmdviCapabilities, type Features, resolveFeatures } from './capabilities.ts';
import { CommandBuffer } from './command-buffer.ts';
import { EventLog } from './event-log.ts';
import { EventRecords } from './event-records.ts';
import { HostTableWalker } from './host-table-walker.ts';
import { type HardwareMemory, joinAddress } from './memory.ts';
import { RegisterBank } from './register-bank.ts';
import { Ring } from './ring.ts';
import { Translator } from './translate.ts';
import { UnitState } from './unit-state.ts';

/** What a unit is built on. */
export interface AmdviHardwareOptions {
  readonly memory: HardwareMemory;
  readonly capabilities?: AmdviCapabilities;
  readonly caches?: CacheOptions;
  /** Where the unit's interrupt messages go; without it they are lost. */
  readonly bus?: Pick<BusPort, 'raiseMessage'>;
}

const PAGE_BYTES = 4096;

/** The hardware half: a register page and a translation agent. */
export class AmdviHardware {
  readonly features: Features;
  readonly caches: Caches;
  readonly #bank = new RegisterBank(REGISTERS);
  readonly #state = new UnitState();
  readonly #translator: Translator;
  readonly #eventLog: EventLog;
  readonly #commands: CommandBuffer;
  readonly #bus: AmdviHardwareOptions['bus'];
  /** Enables as last written: only their edge to 1 restarts what an overflow or error stopped. */
  #logsWanted = false;
  #commandsWanted = false;

  /** @throws {RangeError} for features that are not modelled, or impossible cache sizes */
  constructor(options: AmdviHardwareOptions) {
    const { memory } = options;
    this.features = resolveFeatures(options.capabilities);
    this.caches = new Caches(options.caches);
    this.#bus = options.bus;
    const bank = this.#bank;
    const interrupt = () => this.#sendInterrupt();
    const status = bank.words(spec.STATUS);
    const eventRing = new Ring(bank, spec.EVENT_LOG_BASE, spec.EVENT_LOG_HEAD, spec.EVENT_LOG_TAIL);
    this.#eventLog = new EventLog(memory, this.#state, eventRing, status, interrupt);
    const events = new EventRecords(this.#eventLog);
    const { features, caches } = this;
    const state = this.#state;
    const walker = new HostTableWalker(memory);
    this.#translator = new Translator(memory, state, features, caches, walker, events);
    this.#commands = new CommandBuffer(
      new Ring(bank, spec.CMD_BUF_BASE, spec.CMD_BUF_HEAD, spec.CMD_BUF_TAIL),
      { memory, state, features, caches, events, status, interrupt },
    );
    this.reset();
  }

  /** Power-on state: registers at their reset values, caches empty, translation off. */
  reset(): void {
    this.#bank.reset();
    const { features } = this;
    this.#bank.words(spec.EFR).set([features.efrLo, features.efrHi]);
    this.#bank.words(spec.EFR2).set([features.efr2Lo, features.efr2Hi]);
    this.#commands.ring.reload();
    this.#eventLog.ring.reload();
    this.#logsWanted = false;
    this.#commandsWanted = false;
    this.#reloadState();
    this.caches.invalidateAll();
  }

  /**
   * Translate one page of an untranslated request. @hot
   *
   * @param pasid 20 bits, or -1
   * @param iovaPfn 4 KiB frame of the address
   * @param access sum of the bus's access bits
   * @param offset byte offset in the page; only the event record needs it
   * @returns 4 KiB frame, or negative when refused
   */
  translatePage(rid: number, pasid: number, iovaPfn: number, access: number, offset = 0): number {
    return this.#translator.translate(rid, pasid, iovaPfn, access, offset);
  }

  /** Read a dword of the register page; 0 where there is no register. */
  readReg32(offset: number): number {
    return this.#bank.read(offset);
  }

  /** Write a dword of the register page. */
  writeReg32(offset: number, value: number): void {
    const register = this.#bank.at(offset);
    if (register === undefined || !this.#accepts(register, offset, value)) return;
    this.#bank.write(offset, value);
    this.#afterWrite(register);
  }

  /** Write an aligned qword in one access. */
  writeReg64(offset: number, lo: number, hi: number): void {
    const register = this.#bank.at(offset);
    if (register === undefined) return;
    if (register.words === 1) {
      this.writeReg32(offset, lo);
      this.writeReg32(offset + 4, hi);
      return;
    }
    if (!this.#accepts(register, offset, lo) || !this.#accepts(register, offset + 4, hi)) return;
    this.#bank.write(offset, lo);
    this.#bank.write(offset + 4, hi);
    this.#afterWrite(register);
  }

  /** Rings that run keep their place; a length below 2^8 entries is reserved. */
  #accepts(register: Register, offset: number, value: number): boolean {
    switch (register) {
      case spec.CMD_BUF_BASE:
        return !this.#commands.running && hasRingLength(register, offset, value);
      case spec.EVENT_LOG_BASE:
        return !this.#eventLog.running && hasRingLength(register, offset, value);
      case spec.CMD_BUF_HEAD:
        return !this.#commands.running;
      case spec.CMD_BUF_TAIL:
        return offset !== register.offset || value >>> 0 < this.#commands.ring.bytes;
      case spec.EVENT_LOG_TAIL:
        return !this.#eventLog.running;
      case spec.MSI_CAP:
      case spec.MSI_ADDR_LO:
      case spec.MSI_ADDR_HI:
      case spec.MSI_DATA:
        return this.features.msiInMmio;
      default:
        return true;
    }
  }

  #afterWrite(register: Register): void {
    switch (register) {
      case spec.CONTROL:
        this.#controlChanged();
        break;
      case spec.CMD_BUF_BASE:
        this.#commands.ring.reload();
        this.#commands.ring.rewind();
        break;
      case spec.EVENT_LOG_BASE:
        this.#eventLog.ring.reload();
        this.#eventLog.ring.rewind();
        break;
      case spec.CMD_BUF_TAIL:
        this.#commands.process();
        break;
      default:
        this.#reloadState();
    }
  }

  /** Bits of absent features read back 0; the rings follow their enables. */
  #controlChanged(): void {
    const words = this.#bank.words(spec.CONTROL);
    words[0] = (words[0] as number) & ~ABSENT_CONTROL;
    const control = decode(spec.CONTROL, words);
    if (control.DEV_TBL_SEG_EN > this.features.segmentsLg2) {
      words[1] = (words[1] as number) & ~spec.CONTROL.fields.DEV_TBL_SEG_EN.mask;
    }
    this.#reloadState();
    const on = this.#state.enabled;
    const logs = on && control.EVENT_LOG_EN === 1;
    const commands = on && control.CMD_BUF_EN === 1;
    const logsChanged = logs !== this.#logsWanted;
    const commandsChanged = commands !== this.#commandsWanted;
    this.#logsWanted = logs;
    this.#commandsWanted = commands;
    if (logsChanged) this.#eventLog.setEnabled(logs);
    if (commandsChanged) this.#commands.setRunning(commands);
  }

  #reloadState(): void {
    const bank = this.#bank;
    const state = this.#state;
    const control = decode(spec.CONTROL, bank.words(spec.CONTROL));
    state.enabled = control.IOMMU_EN === 1;
    state.eventInterrupt = control.EVENT_INT_EN === 1;
    state.waitInterrupt = control.COM_WAIT_INT_EN === 1;
    state.segmentsLg2 = control.DEV_TBL_SEG_EN;
    SEGMENTS.forEach((register, segment) => {
      const { BASE, SIZE } = decode(register, bank.words(register));
      state.segmentBase[segment] = BASE;
      state.segmentBytes[segment] = (SIZE + 1) * PAGE_BYTES;
    });
    const excluded = decode(spec.EXCL_BASE, bank.words(spec.EXCL_BASE));
    const { LIMIT } = decode(spec.EXCL_LIMIT, bank.words(spec.EXCL_LIMIT));
    state.exclusion = excluded.EX_EN === 1;
    state.exclusionForAll = excluded.ALLOW === 1;
    state.exclusionFirstPfn = excluded.BASE / PAGE_BYTES;
    state.exclusionLastPfn = LIMIT / PAGE_BYTES;
  }

  #sendInterrupt(): void {
    const bank = this.#bank;
    if (!this.features.msiInMmio || decode(spec.MSI_CAP, bank.words(spec.MSI_CAP)).MSI_EN === 0) {
      return;
    }
    const [lo = 0] = bank.words(spec.MSI_ADDR_LO);
    const [hi = 0] = bank.words(spec.MSI_ADDR_HI);
    const [data = 0] = bank.words(spec.MSI_DATA);
    this.#bus?.raiseMessage(joinAddress(lo, hi), data);
  }
}

const SEGMENTS = [spec.DEV_TAB_BASE, ...spec.DEV_TAB_SEGMENTS];

const REGISTERS: readonly Register[] = [
  ...SEGMENTS,
  spec.CMD_BUF_BASE,
  spec.EVENT_LOG_BASE,
  spec.CONTROL,
  spec.EXCL_BASE,
  spec.EXCL_LIMIT,
  spec.EFR,
  spec.EFR2,
  spec.MSI_CAP,
  spec.MSI_ADDR_LO,
  spec.MSI_ADDR_HI,
  spec.MSI_DATA,
  spec.CMD_BUF_HEAD,
  spec.CMD_BUF_TAIL,
  spec.EVENT_LOG_HEAD,
  spec.EVENT_LOG_TAIL,
  spec.STATUS,
];

/** Control bits of page requests, guest translation and guest APIC, which EFR cannot announce. */
const ABSENT_CONTROL = ['PPR_LOG_EN', 'PPR_INT_EN', 'PPR_EN', 'GT_EN', 'GA_EN'].reduce(
  (mask, name) => mask | spec.CONTROL.fields[name as 'GT_EN'].mask,
  0,
);

/** Ring lengths stand in the high dword; a write of the low one alone leaves it. */
const hasRingLength = (register: Register, offset: number, value: number): boolean => {
  const length = register.fields['LEN'];
  if (length === undefined || offset === register.offset) return true;
  return (value & length.mask) >>> length.shift >= 8;
};

/** Make a unit; see {@link AmdviHardwareOptions}. */
export const createAmdviHardware = (options: AmdviHardwareOptions): AmdviHardware =>
  new AmdviHardware(options);
