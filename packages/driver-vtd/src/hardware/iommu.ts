/**
 * A remapping unit: its registers, their side effects and handshakes, and the parts behind them.
 *
 * @spec VT-d 11 (registers), 6.6 (set root table pointer), 11.4.4 (global command and status)
 */
import type {
  AtsCompletion,
  InterruptMessage,
  PageRequest,
  TranslationAgent,
} from '@iommukit/core';
import { FECTL, IECTL, PECTL, TTM } from '../spec/registers.ts';
import { Caches } from './caches.ts';
import { featuresOf } from './capabilities.ts';
import { EventUnit } from './event-unit.ts';
import { Explainer, type ExplainRequest, type Explanation } from './explain.ts';
import { type FaultDetails, FaultRecorder } from './fault-recording.ts';
import { GlobalCommand } from './global-command.ts';
import { InterruptCache } from './interrupt-cache.ts';
import { InterruptRemapper } from './interrupt-remapping.ts';
import { InvalidationCommands } from './invalidation-commands.ts';
import { InvalidationQueue } from './invalidation-queue.ts';
import type { VtdHardwareOptions, VtdSnapshot, VtdStats } from './options.ts';
import { PageRequestQueue } from './page-request-queue.ts';
import { ProtectedMemory } from './protected-memory.ts';
import { registerEffects } from './register-effects.ts';
import { RegisterFile } from './register-file.ts';
import { RegisterInvalidation } from './register-invalidation.ts';
import { RegisterWindow } from './register-window.ts';
import { RequestEngine } from './requests.ts';
import { Sanitizer } from './sanitizer.ts';
import { Translator } from './translate.ts';
import { restoreUnit, type StatefulParts, saveUnit, statsOf } from './unit-state.ts';
import { type PasidAllocator, PasidPool } from './virtual-command.ts';

/** A VT-d unit as software and devices see it. */
export class VtdHardware extends RegisterWindow implements TranslationAgent {
  readonly registerBase: number;
  readonly caches: Caches;
  /** Interrupt remapping table entries, by index. */
  readonly interruptCache = new InterruptCache();
  /** Findings, when the unit was made with `sanitize`. */
  readonly sanitizer: Sanitizer | undefined;
  readonly #translator: Translator;
  readonly #explained: Translator;
  readonly #explainer: Explainer;
  readonly #engine: RequestEngine;
  readonly #interrupts: InterruptRemapper;
  readonly #faults: FaultRecorder;
  readonly #global: GlobalCommand;
  readonly #stateful: StatefulParts;
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
    super(features, new RegisterFile(features));
    this.registerBase = options.registerBase ?? 0xfed9_0000;
    this.caches = new Caches(checkedLg2(options.iotlbEntriesLg2 ?? 12));
    this.#faultEvent = new EventUnit(this.registers, bus, FECTL.offset);
    this.#completionEvent = new EventUnit(this.registers, bus, IECTL.offset);
    this.#pageEvent = new EventUnit(this.registers, bus, PECTL.offset);
    this.#faults = new FaultRecorder(this.registers, this.#faultEvent, features, addressBits);
    this.#translator = new Translator(memory, features, this.caches, coherent);
    this.#commands = new InvalidationCommands(this.caches, this.interruptCache, features, bus);
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
    const remapper = (faults: Pick<FaultRecorder, 'record'>) =>
      new InterruptRemapper(this.registers, memory, features, this.interruptCache, faults);
    this.#interrupts = remapper(this.#faults);
    if (options.sanitize)
      this.sanitizer = new Sanitizer(
        memory,
        { dma: this.caches, interrupts: this.interruptCache },
        { translator: this.#translator, interrupts: this.#interrupts },
        dry(false),
      );
    this.#commands.watcher = this.sanitizer;
    const parts = {
      translator: this.#translator,
      caches: this.caches,
      features,
      faults: this.#faults,
      pageRequests: this.#pageRequests,
      protectedMemory: this.#protectedMemory,
      interrupts: this.#interrupts,
      sanitizer: this.sanitizer,
    };
    this.#engine = new RequestEngine(parts);
    this.#explained = dry(true);
    this.#explainer = new Explainer({ ...parts, translator: this.#explained }, remapper);
    this.#stateful = {
      ...parts,
      pageRequests: this.#pageRequests,
      registers: this.registers,
      engine: this.#engine,
      queue: this.#queue,
      commands: this.#commands,
      pasids: this.#pasids,
      interruptCache: this.interruptCache,
    };
    this.#global = new GlobalCommand({ ...this.#stateful, features });
    this.#effects = registerEffects({
      ...this.#stateful,
      features,
      global: this.#global,
      registerInvalidation: this.#registerInvalidation,
      faultEvent: this.#faultEvent,
      completionEvent: this.#completionEvent,
      pageEvent: this.#pageEvent,
      protectedMemoryWritten: () => this.#protectedMemoryWritten(),
    });
    this.#engine.refresh();
  }

  /**
   * Untranslated DMA to one page. @hot
   *
   * @param iovaPfn 4 KiB frame of the 64-bit address
   * @returns 4 KiB frame to access, `-reason` when blocked for a fault reason, -256
   *   (`BLOCKED_SILENTLY`) when blocked without one, -257 (`INTERRUPT_REQUEST`) when the write is an
   *   interrupt request that {@link remapInterrupt} must see
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
   * An interrupt request: a device's write to FEEx_xxxxh without PASID. Where remapping is off the
   * message is the request itself.
   *
   * @param address byte address; bits 1:0 do not matter
   * @param data what is written, u32
   * @param bytes size of the write; an interrupt request has 4
   * @param message filled when there is something to deliver
   * @returns 1 deliver `message`, 0 taken with nothing to deliver (posted without notification),
   *   `-reason` when blocked
   * @throws {RangeError} for an address outside FEEx_xxxxh
   */
  remapInterrupt(
    rid: number,
    address: number,
    data: number,
    bytes: number,
    message: InterruptMessage,
  ): number {
    return this.#interrupts.remap(rid, address, data, bytes, message);
  }

  /**
   * Replay a request as a trace; nothing changes.
   * @throws {RangeError} when the address has more than 64 bits
   */
  explain(request: ExplainRequest): Explanation {
    this.#explained.follow(this.#translator);
    return this.#explainer.explain(request, this.#engine.state.enabled, this.#interrupts.table);
  }

  protected written(offset: number, value: number): void {
    if (this.#protectedMemory.locks(offset)) return;
    const { frcdOffset, frcdCount } = this.features;
    if (offset >= frcdOffset && offset < frcdOffset + 16 * frcdCount) {
      this.#writeRecord(offset, value);
      return;
    }
    this.registers.write(offset, value);
    this.#effects.get(offset)?.(value);
  }

  #writeRecord(offset: number, value: number): void {
    if ((offset - this.features.frcdOffset) % 16 !== 12) return;
    this.registers.change(offset, 0, value & 0x8000_0000);
    this.#faults.recordWritten();
  }

  #protectedMemoryWritten(): void {
    this.#protectedMemory.update(this.registers, this.features);
    this.#engine.refresh();
  }

  /**
   * Registers, latched state and caches as after power-on.
   * @param kind `warm` keeps sticky fields: FSTS, ICS, IQERCD, PRS and the fault records
   */
  reset(kind: 'cold' | 'warm' = 'cold'): void {
    this.registers.reset(kind === 'warm');
    this.caches.invalidateAll();
    this.interruptCache.invalidateAll();
    this.#interrupts.reset();
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
    return statsOf(this.#stateful);
  }

  /** The unit's state, without memory and counters. */
  snapshot(): VtdSnapshot {
    return saveUnit(this.#stateful);
  }

  /**
   * Put a state back.
   * @throws {RangeError} with nothing changed, when it comes from a unit with other register or
   *   cache sizes
   */
  restore(state: VtdSnapshot): void {
    restoreUnit(this.#stateful, state);
    this.#protectedMemory.update(this.registers, this.features);
    this.#engine.refresh();
  }
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
