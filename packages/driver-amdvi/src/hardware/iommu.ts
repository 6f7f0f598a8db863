/**
 * One AMD IOMMU as a device: registers in, memory and messages out. It knows nothing of who
 * programs it.
 *
 * @spec AMD IOMMU 3.4
 */
import type { AtsCompletion, PageRequest, TranslationAgent } from '@iommukit/core';
import * as spec from '../spec/registers.ts';
import { Caches } from './caches.ts';
import { type Features, resolveFeatures } from './capabilities.ts';
import { CommandBuffer } from './command-buffer.ts';
import { CommandExecutor } from './commands.ts';
import { EventRecords } from './event-records.ts';
import { Explainer, type ExplainRequest, type Explanation } from './explain.ts';
import { InterruptMessages } from './interrupt-messages.ts';
import type { AmdviHardwareOptions, AmdviSnapshot, AmdviStats } from './options.ts';
import { RegisterBank } from './register-bank.ts';
import { ALL_REGISTERS, registersOf } from './register-map.ts';
import { RegisterWindow } from './register-window.ts';
import { RequestCounters, type RequestParts } from './request-parts.ts';
import { RequestEngine } from './requests.ts';
import { Sanitizer } from './sanitizer.ts';
import { Translator } from './translate.ts';
import { UnitLogs } from './unit-logs.ts';
import { restoreUnit, type StatefulParts, saveUnit, statsOf } from './unit-snapshot.ts';
import { UnitState } from './unit-state.ts';

/** The hardware half: a register page and a translation agent. */
export class AmdviHardware implements TranslationAgent {
  readonly features: Features;
  readonly caches: Caches;
  /** Findings, when the unit was made with `sanitize`. */
  readonly sanitizer: Sanitizer | undefined;
  readonly #state = new UnitState();
  readonly #logs: UnitLogs;
  readonly #engine: RequestEngine;
  readonly #window: RegisterWindow;
  readonly #explainer: Explainer;
  readonly #stateful: StatefulParts;

  /** @throws {RangeError} for reserved feature codes, or impossible cache sizes */
  constructor(options: AmdviHardwareOptions) {
    const { memory, bus = {} } = options;
    const features = resolveFeatures(options.capabilities);
    const caches = new Caches(options.caches);
    const state = this.#state;
    this.features = features;
    this.caches = caches;
    const bank = new RegisterBank(ALL_REGISTERS, registersOf(features));
    const messages = new InterruptMessages(bank, features, bus);
    const logs = new UnitLogs({ memory, bank, state, features, messages });
    this.#logs = logs;
    const translator = new Translator(memory, state, features, caches);
    const fresh = () => new Translator(memory, state, features, caches).dry(false);
    if (options.sanitize === true) {
      this.sanitizer = new Sanitizer(memory, caches, translator, fresh());
    }
    const { sanitizer } = this;
    const events = new EventRecords(logs.events);
    const counters = new RequestCounters();
    const parts: RequestParts = {
      state,
      features,
      caches,
      translator,
      events,
      counters,
      sanitizer,
    };
    const autoResponse = bank.words(spec.PPR_AUTO_RESPONSE);
    this.#engine = new RequestEngine(parts, { log: logs.pageRequests, bus, autoResponse });
    this.#explainer = new Explainer({ ...parts, translator: fresh() }, autoResponse);
    const status = bank.words(spec.STATUS);
    const executor = new CommandExecutor({
      memory,
      state,
      features,
      caches,
      bus,
      status,
      sanitizer,
      interrupt: () => messages.general(),
      prefetch: (rid, pasid, pfn, forget) => this.#engine.prefetch(rid, pasid, pfn, forget),
    });
    const commands = new CommandBuffer(logs.commands, { memory, events, executor, status });
    this.#window = new RegisterWindow({ bank, state, features, logs, commands, caches });
    this.#stateful = {
      bank,
      caches,
      logs,
      commands,
      executor,
      counters,
      window: this.#window,
      sanitizer,
    };
    this.reset();
  }

  /** Power-on state: registers at their reset values, caches empty, translation off. */
  reset(): void {
    this.#stateful.commands.hung = false;
    this.#window.reset();
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
    return this.#engine.translatePage(rid, pasid, iovaPfn, access, offset);
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
  translatedPage(rid: number, pasid: number, hpaPfn: number, access: number, offset = 0): number {
    return this.#engine.translatedPage(rid, pasid, hpaPfn, access, offset);
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
    return this.#explainer.explain(request);
  }

  /** Read a dword of the register page; 0 where there is no register. */
  readReg32(offset: number): number {
    return this.#window.read32(offset);
  }

  /** Write a dword of the register page. */
  writeReg32(offset: number, value: number): void {
    this.#window.write32(offset, value);
  }

  /** Write an aligned qword in one access. */
  writeReg64(offset: number, lo: number, hi: number): void {
    this.#window.write64(offset, lo, hi);
  }

  /** Called with the four dwords of every event, also when the log has no room for it. */
  set onEvent(listener: ((words: readonly [number, number, number, number]) => void) | undefined) {
    this.#logs.events.onEvent = listener;
  }

  /** Counters since the unit was made. */
  stats(): AmdviStats {
    return statsOf(this.#stateful);
  }

  /** The unit's state, without memory and counters. */
  snapshot(): AmdviSnapshot {
    return saveUnit(this.#stateful);
  }

  /**
   * Put a state back.
   * @throws {RangeError} with nothing changed, when it comes from a unit with other registers or
   *   cache sizes
   */
  restore(state: AmdviSnapshot): void {
    restoreUnit(this.#stateful, state);
  }
}

/**
 * Make a unit; see {@link AmdviHardwareOptions}.
 *
 * @throws {RangeError} for reserved feature codes, or impossible cache sizes
 */
export const createAmdviHardware = (options: AmdviHardwareOptions): AmdviHardware =>
  new AmdviHardware(options);
