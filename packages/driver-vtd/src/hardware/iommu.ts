/**
 * A remapping unit: its registers, their side effects and handshakes, and the parts behind them.
 *
 * @spec VT-d 11 (registers), 6.6 (set root table pointer), 11.4.4 (global command and status)
 */
import type { AtsCompletion, PageRequest, TranslationAgent } from '@iommukit/core';
import {
  CCMD,
  ECMD,
  FECTL,
  FSTS,
  GCMD,
  ICS,
  IECTL,
  IOTLB,
  IQT,
  PECTL,
  PMEN,
  PRS,
  TTM,
  VCMD,
} from '../spec/registers.ts';
import { Caches } from './caches.ts';
import { featuresOf } from './capabilities.ts';
import { executeEnhancedCommand } from './enhanced-command.ts';
import { EventUnit } from './event-unit.ts';
import { Explainer, type ExplainRequest, type Explanation } from './explain.ts';
import { type FaultDetails, FaultRecorder } from './fault-recording.ts';
import { GlobalCommand } from './global-command.ts';
import { InvalidationCommands } from './invalidation-commands.ts';
import { InvalidationQueue } from './invalidation-queue.ts';
import type { VtdHardwareOptions, VtdSnapshot, VtdStats } from './options.ts';
import { PageRequestQueue } from './page-request-queue.ts';
import { ProtectedMemory } from './protected-memory.ts';
import { RegisterFile } from './register-file.ts';
import { RegisterInvalidation } from './register-invalidation.ts';
import { RegisterWindow } from './register-window.ts';
import { RequestEngine } from './requests.ts';
import { Sanitizer } from './sanitizer.ts';
import { Translator } from './translate.ts';
import { restoreUnit, type StatefulParts, saveUnit, statsOf } from './unit-state.ts';
import { executeVirtualCommand, type PasidAllocator, PasidPool } from './virtual-command.ts';

/** A VT-d unit as software and devices see it. */
export class VtdHardware extends RegisterWindow implements TranslationAgent {
  readonly registerBase: number;
  readonly caches: Caches;
  /** Findings, when the unit was made with `sanitize`. */
  readonly sanitizer: Sanitizer | undefined;
  readonly #translator: Translator;
  readonly #explained: Translator;
  readonly #explainer: Explainer;
  readonly #engine: RequestEngine;
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
    this.#stateful = {
      ...parts,
      pageRequests: this.#pageRequests,
      registers: this.registers,
      engine: this.#engine,
      queue: this.#queue,
      commands: this.#commands,
      pasids: this.#pasids,
    };
    this.#global = new GlobalCommand({ ...this.#stateful, features });
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

  /** What a write to each register starts, by offset of the dword that starts it. */
  #effectsOf(): Map<number, (written: number) => void> {
    const { features } = this;
    const effects = new Map<number, (written: number) => void>([
      [GCMD.offset, (written) => this.#global.execute(written)],
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
      effects.set(IQT.offset, () => this.#global.runQueue());
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
    this.#global.runQueue();
  }

  /**
   * Registers, latched state and caches as after power-on.
   * @param kind `warm` keeps sticky fields: FSTS, ICS, IQERCD, PRS and the fault records
   */
  reset(kind: 'cold' | 'warm' = 'cold'): void {
    this.registers.reset(kind === 'warm');
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
