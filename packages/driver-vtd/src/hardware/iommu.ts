/**
 * A remapping unit: its registers, their side effects and handshakes, and the parts behind them.
 *
 * @spec VT-d 11 (registers), 6.6 (set root table pointer), 11.4.4 (global command and status)
 */
import { hi32, lo32, u64 } from '@iommukit/bits';
import type { AtsCompletion, PageRequest, TranslationAgent } from '@iommukit/core';
import {
  CCMD,
  ECMD,
  FECTL,
  FSTS,
  GCMD,
  GSTS,
  ICS,
  IECTL,
  IOTLB,
  IQT,
  PECTL,
  PHMBASE,
  PHMLIMIT,
  PLMBASE,
  PLMLIMIT,
  PMEN,
  PRS,
  RTADDR,
  TTM,
  VCMD,
} from '../spec/registers.ts';
import { Caches } from './caches.ts';
import { type Features, featuresOf } from './capabilities.ts';
import { executeEnhancedCommand } from './enhanced-command.ts';
import { EventUnit } from './event-unit.ts';
import { Explainer, type ExplainRequest, type Explanation } from './explain.ts';
import { type FaultDetails, FaultRecorder } from './fault-recording.ts';
import { InvalidationCommands } from './invalidation-commands.ts';
import { InvalidationQueue } from './invalidation-queue.ts';
import type { VtdHardwareOptions, VtdSnapshot, VtdStats } from './options.ts';
import { joinAddress } from './page-index.ts';
import { PageRequestQueue } from './page-request-queue.ts';
import { ProtectedMemory } from './protected-memory.ts';
import { RegisterFile } from './register-file.ts';
import { RegisterInvalidation } from './register-invalidation.ts';
import { RequestEngine } from './requests.ts';
import { Sanitizer } from './sanitizer.ts';
import { Translator } from './translate.ts';
import { executeVirtualCommand, type PasidAllocator, PasidPool } from './virtual-command.ts';

/** GCMD bits that change one status bit each way, without a side effect of their own. */
const LEVEL_BITS = GCMD.fields.IRE.mask | GCMD.fields.CFI.mask;
const { SRTP, SIRTP, QIE, TE } = GCMD.fields;
const { TES, RTPS, IRTPS, QIES, IRES } = GSTS.fields;
const SSIRWE = RTADDR.fields.SSIRWE.mask;
const PAGE = 0xffff_f000 | 0;

/** A VT-d unit as software and devices see it. */
export class VtdHardware implements TranslationAgent {
  readonly features: Features;
  readonly registerBase: number;
  /** The register file; tools only, software goes through {@link readReg32} and {@link writeReg32}. */
  readonly registers: RegisterFile;
  readonly caches: Caches;
  /** Findings, when the unit was made with `sanitize`. */
  readonly sanitizer: Sanitizer | undefined;
  readonly #translator: Translator;
  readonly #explained: Translator;
  readonly #explainer: Explainer;
  readonly #engine: RequestEngine;
  readonly #faults: FaultRecorder;
  readonly #queue: InvalidationQueue;
  readonly #commands: InvalidationCommands;
  readonly #registerInvalidation: RegisterInvalidation;
  readonly #pageRequests: PageRequestQueue;
  readonly #protectedMemory = new ProtectedMemory();
  readonly #faultEvent: EventUnit;
  readonly #completionEvent: EventUnit;
  readonly #pageEvent: EventUnit;
  readonly #pasids: PasidAllocator;
  readonly #effects: ReadonlyMap<number, (written: number) => void>;

  /** Made by {@link createVtdHardware}. */
  constructor(options: VtdHardwareOptions) {
    const { memory, bus } = options;
    const derived = featuresOf(options.capabilities, options.hostAddressWidthBits);
    const keepsFaults = derived.keepsFaults && !options.compatibility?.forgetFaults;
    const features = { ...derived, keepsFaults };
    const coherent = options.compatibility?.coherentWalks ?? false;
    const addressBits = options.compatibility?.fullFaultAddress ? 64 : features.largestAgawBits;
    this.features = features;
    this.registerBase = options.registerBase ?? 0xfed9_0000;
    this.registers = new RegisterFile(features);
    this.caches = new Caches(checkedLg2(options.iotlbEntriesLg2 ?? 12));
    this.#faultEvent = new EventUnit(this.registers, bus, FECTL.offset);
    this.#completionEvent = new EventUnit(this.registers, bus, IECTL.offset);
    this.#pageEvent = new EventUnit(this.registers, bus, PECTL.offset);
    this.#faults = new FaultRecorder(this.registers, this.#faultEvent, features, addressBits);
    this.#translator = new Translator(memory, features, this.caches, coherent);
    this.#commands = new InvalidationCommands(this.caches, features, bus);
    this.#registerInvalidation = new RegisterInvalidation(this.registers, features, this.#commands);
    this.#queue = new InvalidationQueue(
      this.registers,
      memory,
      features,
      this.#commands,
      this.#faults,
      this.#completionEvent,
    );
    this.#pageRequests = new PageRequestQueue(this.registers, memory, bus, this.#pageEvent);
    this.#pasids = options.pasidAllocator ?? new PasidPool(features.pasidBits);
    const dry = (readCaches: boolean) =>
      new Translator(memory, features, this.caches, coherent).dry(readCaches);
    if (options.sanitize)
      this.sanitizer = new Sanitizer(memory, this.caches, this.#translator, dry(false));
    this.#commands.watcher = this.sanitizer;
    const parts = {
      translator: this.#translator,
      caches: this.caches,
      features,
      faults: this.#faults,
      pageRequests: this.#pageRequests,
      protectedMemory: this.#protectedMemory,
      sanitizer: this.sanitizer,
    };
    this.#engine = new RequestEngine(parts);
    this.#explained = dry(true);
    this.#explainer = new Explainer({ ...parts, translator: this.#explained });
    this.#effects = this.#effectsOf();
  }

  /**
   * Untranslated DMA to one page. @hot
   *
   * @param iovaPfn 4 KiB frame of the 64-bit address
   * @returns 4 KiB frame to access, `-reason` when blocked for a fault reason, -256 when blocked
   *   without one
   */
  translatePage(rid: number, pasid: number, iovaPfn: number, access: number): number {
    return this.#engine.translatePage(rid, pasid, iovaPfn, access);
  }

  /** ATS translation request; `access` without WRITE is NW=1. Fills `completion`. */
  translationRequest(
    rid: number,
    pasid: number,
    iovaPfn: number,
    access: number,
    completion: AtsCompletion,
  ): void {
    this.#engine.translationRequest(rid, pasid, iovaPfn, access, completion);
  }

  /** Translated request; returns as {@link translatePage}. */
  translatedPage(rid: number, pasid: number, hpaPfn: number, access: number): number {
    return this.#engine.translatedPage(rid, pasid, hpaPfn, access);
  }

  /** Page request; the answer comes through the bus. */
  pageRequest(request: PageRequest): void {
    this.#engine.pageRequest(request);
  }

  /**
   * Replay a request as a trace; nothing changes.
   * @throws {RangeError} when the address has more than 64 bits
   */
  explain(request: ExplainRequest): Explanation {
    this.#explained.follow(this.#translator);
    return this.#explainer.explain(request, this.#engine.state.enabled);
  }

  /**
   * Read a dword register.
   * @param offset bytes from the register base, a multiple of 4
   * @throws {RangeError} when the offset is no multiple of 4
   */
  readReg32(offset: number): number {
    checkAligned(offset, 4);
    return offset >= 0 && offset < this.registers.bytes ? this.registers.read(offset) : 0;
  }

  /**
   * Write a dword register, with its side effects.
   * @throws {RangeError} when the offset is no multiple of 4
   */
  writeReg32(offset: number, value: number): void {
    checkAligned(offset, 4);
    if (offset >= 0 && offset < this.registers.bytes) this.#write(offset, value >>> 0);
  }

  /** Read two dwords. @throws {RangeError} when the offset is no multiple of 8 */
  readRegister64(offset: number): bigint {
    checkAligned(offset, 8);
    return u64(this.readReg32(offset), this.readReg32(offset + 4));
  }

  /**
   * Write two dwords; the one that starts something goes last.
   * @throws {RangeError} when the offset is no multiple of 8, or the value has more than 64 bits
   */
  writeRegister64(offset: number, value: number | bigint): void {
    checkAligned(offset, 8);
    const whole = BigInt(value);
    if (whole < 0n || whole >> 64n !== 0n)
      throw new RangeError(`register ${offset.toString(16)}h: ${value} does not have 64 bits`);
    const highLast = this.#startsInHighDword(offset);
    if (highLast) this.writeReg32(offset, lo32(whole));
    this.writeReg32(offset + 4, hi32(whole));
    if (!highLast) this.writeReg32(offset, lo32(whole));
  }

  /** Read a register of 4 or 8 bytes. */
  readRegister(offset: number, size: 4 | 8): number | bigint {
    return size === 8 ? this.readRegister64(offset) : this.readReg32(offset);
  }

  /** Write a register of 4 or 8 bytes. */
  writeRegister(offset: number, size: 4 | 8, value: number | bigint): void {
    if (size === 8) this.writeRegister64(offset, value);
    else this.writeReg32(offset, Number(value));
  }

  #startsInHighDword(offset: number): boolean {
    const { ivaOffset, frcdOffset, frcdCount } = this.features;
    if (offset === CCMD.offset || offset === ivaOffset + IOTLB.offset) return true;
    return offset >= frcdOffset && offset < frcdOffset + 16 * frcdCount;
  }

  #write(offset: number, value: number): void {
    if (this.#isLocked(offset)) return;
    const { frcdOffset, frcdCount } = this.features;
    if (offset >= frcdOffset && offset < frcdOffset + 16 * frcdCount) {
      this.#writeRecord(offset, value);
      return;
    }
    this.registers.write(offset, value);
    this.#effects.get(offset)?.(value);
  }

  /** Registers that must not change while what they describe is in use. */
  #isLocked(offset: number): boolean {
    if (!this.#protectedMemory.active) return false;
    return (
      offset === PLMBASE.offset ||
      offset === PLMLIMIT.offset ||
      (offset >= PHMBASE.offset && offset < PHMLIMIT.offset + 8)
    );
  }

  #writeRecord(offset: number, value: number): void {
    if ((offset - this.features.frcdOffset) % 16 !== 12) return;
    this.registers.change(offset, 0, value & 0x8000_0000);
    this.#faults.recordWritten();
  }

  /** What a write to each register starts, by offset of the dword that starts it. */
  #effectsOf(): Map<number, (written: number) => void> {
    const { features } = this;
    const effects = new Map<number, (written: number) => void>([
      [GCMD.offset, (written) => this.#globalCommand(written)],
      [FSTS.offset, () => this.#faultStatusWritten()],
      [FECTL.offset, () => this.#faultEvent.controlWritten()],
      [CCMD.offset + 4, () => this.#registerInvalidation.context(this.#translator.ttm)],
      [
        features.ivaOffset + IOTLB.offset + 4,
        () => this.#registerInvalidation.iotlb(this.#translator.ttm),
      ],
      [PMEN.offset, () => this.#protectedMemoryWritten()],
    ]);
    if (features.qi) {
      effects.set(IQT.offset, () => this.#runQueue());
      effects.set(ICS.offset, () => this.#queue.completionWritten());
      effects.set(IECTL.offset, () => this.#completionEvent.controlWritten());
    }
    if (features.pageRequests) {
      effects.set(PRS.offset, () => this.#pageRequests.statusWritten());
      effects.set(PECTL.offset, () => this.#pageEvent.controlWritten());
    }
    if (features.virtualCommands)
      effects.set(VCMD.offset, () => executeVirtualCommand(this.registers, this.#pasids));
    if (features.enhancedCommands)
      effects.set(ECMD.offset, () => executeEnhancedCommand(this.registers));
    return effects;
  }

  #protectedMemoryWritten(): void {
    this.#protectedMemory.update(this.registers, this.features);
    this.#engine.refresh();
  }

  #faultStatusWritten(): void {
    this.#faults.statusWritten();
    if (!this.features.qi) return;
    this.#queue.statusWritten();
    this.#runQueue();
  }

  #runQueue(): void {
    if ((this.registers.get(GSTS.offset) & QIES.mask) !== 0) this.#queue.run(this.#translator.ttm);
  }

  /** Bits act in the order SRTP, SIRTP, QIE, IRE and CFI, WBF, TE. */
  #globalCommand(command: number): void {
    const { registers, features } = this;
    registers.set(GCMD.offset, 0);
    if ((command & SRTP.mask) !== 0) this.#setRootTablePointer();
    if ((command & SIRTP.mask) !== 0 && features.interruptRemapping)
      registers.change(GSTS.offset, IRTPS.mask, 0);
    if (features.qi) this.#enableQueue((command & QIE.mask) !== 0);
    if (features.interruptRemapping)
      registers.change(GSTS.offset, command & LEVEL_BITS, LEVEL_BITS);
    this.#enableTranslation((command & TE.mask) !== 0);
    if ((registers.get(GSTS.offset) & (TES.mask | IRES.mask)) === 0) this.#faults.nextIndex = 0;
  }

  #setRootTablePointer(): void {
    const { registers } = this;
    const lo = registers.get(RTADDR.offset);
    const t = this.#translator;
    t.rootTable = joinAddress(lo & PAGE, registers.get(RTADDR.offset + 4));
    t.ttm = (lo >>> RTADDR.fields.TTM.shift) & 3;
    t.ssirwe = (lo & SSIRWE) !== 0;
    registers.change(GSTS.offset, RTPS.mask, 0);
    if (this.features.esrtps) this.#invalidateAll('SRTP with ESRTPS');
  }

  #enableQueue(on: boolean): void {
    const { registers } = this;
    const was = (registers.get(GSTS.offset) & QIES.mask) !== 0;
    if (was === on) return;
    registers.change(GSTS.offset, on ? QIES.mask : 0, QIES.mask);
    this.#queue.reset();
    if (on) this.#runQueue();
  }

  #enableTranslation(on: boolean): void {
    const { registers } = this;
    const was = this.#engine.state.enabled;
    if (was === on) return;
    registers.change(GSTS.offset, on ? TES.mask : 0, TES.mask);
    this.#engine.state.enabled = on;
    if (!on && this.features.scalable) this.#invalidateAll('translation disabled');
    this.#engine.refresh();
  }

  #invalidateAll(text: string): void {
    this.#commands.watched({ text, did: -1, implicit: true }, () => {
      this.caches.invalidateAll();
      return true;
    });
  }

  /** Cold reset: registers, latched state and caches as after power-on. */
  reset(): void {
    this.registers.reset();
    this.caches.invalidateAll();
    this.#translator.rootTable = 0;
    this.#translator.ttm = TTM.LEGACY;
    this.#translator.ssirwe = false;
    this.#faults.nextIndex = 0;
    this.#queue.reset();
    this.#engine.state.enabled = false;
    this.#protectedMemory.update(this.registers, this.features);
    this.#engine.refresh();
  }

  /** Called for every fault that is not silenced, also when the records are full. */
  set onFault(listener: ((fault: Readonly<FaultDetails>) => void) | undefined) {
    this.#faults.onFault = listener;
  }

  /** Counters since the unit was made. */
  stats(): VtdStats {
    const { hits, misses, bypassed, translationRequests, translatedRequests, pageRequests } =
      this.#engine.state;
    return {
      translations: hits + misses,
      iotlbHits: hits,
      iotlbMisses: misses,
      bypassed,
      translationRequests,
      translatedRequests,
      pageRequests,
      pageRequestsOverflowed: this.#pageRequests.overflowed,
      faults: this.#faults.recorded,
      faultsDropped: this.#faults.dropped,
      descriptors: this.#queue.executed,
      superfluousInvalidations: this.#commands.superfluous,
      entriesInvalidated: this.#commands.removed,
      pageResponses: this.#commands.responses,
    };
  }

  /** The unit's state, without memory. */
  snapshot(): VtdSnapshot {
    const { rootTable, ttm, ssirwe } = this.#translator;
    return {
      registers: this.registers.values.slice(),
      caches: this.caches.snapshot(),
      rootTable,
      ttm,
      ssirwe,
      nextFaultIndex: this.#faults.nextIndex,
      timedOutSid: this.#queue.timedOutSid,
      pasids: this.#pasids instanceof PasidPool ? this.#pasids.snapshot() : [],
    };
  }

  /**
   * Put a state back.
   * @throws {RangeError} when it comes from a unit with other register or cache sizes
   */
  restore(state: VtdSnapshot): void {
    if (state.registers.length !== this.registers.values.length)
      throw new RangeError(
        `snapshot has ${state.registers.length} register dwords, this unit ${this.registers.values.length}`,
      );
    this.registers.values.set(state.registers);
    this.caches.restore(state.caches);
    const t = this.#translator;
    t.rootTable = state.rootTable;
    t.ttm = state.ttm;
    t.ssirwe = state.ssirwe;
    this.#faults.nextIndex = state.nextFaultIndex;
    this.#queue.timedOutSid = state.timedOutSid;
    if (this.#pasids instanceof PasidPool) this.#pasids.restore(state.pasids);
    this.#engine.state.enabled = (this.registers.get(GSTS.offset) & TES.mask) !== 0;
    this.#protectedMemory.update(this.registers, this.features);
    this.#engine.refresh();
  }
}

function checkAligned(offset: number, size: number): void {
  if (!Number.isInteger(offset) || offset % size !== 0)
    throw new RangeError(`register offset ${offset} is not a multiple of ${size}`);
}

function checkedLg2(lg2: number): number {
  if (!Number.isInteger(lg2) || lg2 < 4 || lg2 > 20)
    throw new RangeError(`iotlbEntriesLg2 is ${lg2}, expected 4 to 20`);
  return lg2;
}

/**
 * A VT-d unit after power-on.
 *
 * @throws {RangeError} when the capabilities contradict each other or an option is out of range
 */
export function createVtdHardware(options: VtdHardwareOptions): VtdHardware {
  return new VtdHardware(options);
}
