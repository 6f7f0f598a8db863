/**
 * One SMMUv3 as a device: registers in, memory and messages out. It knows nothing of who programs
 * it.
 *
 * @spec SMMUv3 6.3 (registers and the side effects of writing them)
 */
import { decode, type Register } from '@iommukit/bits';
import type { AtsCompletion, PageRequest } from '@iommukit/core';
import * as spec from '../spec/registers.ts';
import { AtsService } from './ats.ts';
import { Caches } from './caches.ts';
import { type Features, resolveFeatures } from './capabilities.ts';
import { Cmdqv, type CmdqvGeometry } from './cmdqv.ts';
import { CommandQueue } from './command-queue.ts';
import { DeviceCommands, type DevicePort } from './device-commands.ts';
import type { EventQueue } from './event-queue.ts';
import { Explainer, type ExplainRequest, type Explanation } from './explain.ts';
import { GlobalErrors } from './global-errors.ts';
import { GERROR_SOURCE } from './interrupt-sources.ts';
import { Interrupts } from './interrupts.ts';
import type { HardwareMemory } from './memory.ts';
import type { SmmuBus, SmmuHardwareOptions } from './options.ts';
import type { PageRequestQueue } from './page-request-queue.ts';
import { RegisterBank } from './register-bank.ts';
import { REGISTERS } from './register-list.ts';
import { writableBits } from './register-rules.ts';
import { loadState } from './register-state.ts';
import { createRequestParts } from './request-parts.ts';
import { Sanitizer } from './sanitizer.ts';
import { Stalls } from './stalls.ts';
import { Translator } from './translate.ts';
import { TranslationCommands } from './translation-commands.ts';
import {
  commandRing,
  createEventQueue,
  createPageRequestQueue,
  type QueueParts,
} from './unit-queues.ts';
import {
  checkUnit,
  type HardwareState,
  loadUnit,
  type StatefulParts,
  saveUnit,
  unitFromBytes,
  unitToBytes,
} from './unit-snapshot.ts';
import { UnitState } from './unit-state.ts';
import {
  commandWatcher,
  WatchedAtsService,
  WatchedTranslator,
  watchedBus,
  watchedParts,
} from './watched-unit.ts';

/** The hardware half: two register pages and a translation agent. */
export class SmmuHardware {
  readonly features: Features;
  readonly caches: Caches;
  /** Findings of missing invalidations; present with `sanitize`. */
  readonly sanitizer: Sanitizer | undefined;
  /** Tegra241's command queues, a register window of their own. */
  readonly cmdqv: Cmdqv | undefined;
  readonly #bank = new RegisterBank(REGISTERS);
  readonly #state = new UnitState();
  readonly #translator: Translator;
  readonly #ats: AtsService;
  readonly #events: EventQueue;
  readonly #pageRequests: PageRequestQueue;
  readonly #explainer: Explainer;
  readonly #devices: DeviceCommands;
  readonly #commands: CommandQueue;
  readonly #stalls: Stalls;
  readonly #interrupts: Interrupts;

  /** @throws {RangeError} for features that are not modelled, or impossible cache sizes */
  constructor(options: SmmuHardwareOptions) {
    const { memory } = options;
    this.features = resolveFeatures(options.capabilities);
    this.caches = new Caches(options.caches);
    const { bus } = options;
    this.#interrupts = new Interrupts(this.#bank, this.features, memory, bus ?? {});
    const errors = new GlobalErrors(this.#bank, () => this.#interrupts.raise(GERROR_SOURCE));
    this.#interrupts.errors = errors;
    const interrupts = this.#interrupts;
    const queues = { bank: this.#bank, features: this.features, memory, errors, interrupts };
    this.#events = createEventQueue(queues);
    const { contiguousGroups } = options.caches ?? {};
    const watched = { memory, state: this.#state, features: this.features, contiguousGroups };
    this.sanitizer = options.sanitize ? new Sanitizer(watched, this.caches) : undefined;
    const port = this.sanitizer ? watchedBus(bus ?? {}, this.sanitizer) : (bus ?? {});
    this.#devices = new DeviceCommands(this.features, this.#state, port);
    this.cmdqv = options.cmdqv && this.#createCmdqv(memory, port, options.cmdqv);
    this.#stalls = this.#createStalls(bus);
    this.#commands = this.#createCommandQueue(queues);
    const unit = { ...watched, events: this.#events, stalls: this.#stalls };
    const parts = this.sanitizer
      ? watchedParts(unit, this.caches, this.sanitizer)
      : createRequestParts({ ...unit, caches: this.caches });
    this.#translator = this.sanitizer
      ? new WatchedTranslator(parts, this.sanitizer)
      : new Translator(parts);
    this.#ats = this.sanitizer
      ? new WatchedAtsService(parts, this.sanitizer)
      : new AtsService(parts);
    this.#commands.watcher = this.sanitizer && commandWatcher(this.sanitizer);
    if (this.cmdqv) this.cmdqv.watcher = this.#commands.watcher;
    this.#pageRequests = createPageRequestQueue(queues, parts, bus ?? {});
    this.#explainer = new Explainer({
      memory,
      ...parts,
      caches: this.caches,
      pageRequests: this.#pageRequests,
      contiguousGroups,
    });
    this.reset();
  }

  #createCmdqv(memory: HardwareMemory, port: DevicePort, geometry: CmdqvGeometry): Cmdqv {
    const translations = new TranslationCommands(this.features, this.#state, this.caches);
    const devices = new DeviceCommands(this.features, this.#state, port);
    return new Cmdqv({ memory, translations, devices }, geometry);
  }

  #createStalls(bus: SmmuBus | undefined): Stalls {
    return new Stalls({
      events: this.#events,
      max: this.features.stallMax,
      retry: ({ sid, ssid, pfn, access, offset }) =>
        this.#translator.translate(sid, ssid, pfn, access, offset),
      resumed: (sid, ticket, answer) => bus?.requestResumed?.(sid, ticket, answer),
    });
  }

  #createCommandQueue(queues: QueueParts): CommandQueue {
    const { features, memory, errors, interrupts, bank } = queues;
    const { caches } = this;
    return new CommandQueue(commandRing(queues), {
      memory,
      features,
      caches,
      errors,
      stalls: this.#stalls,
      translations: new TranslationCommands(features, this.#state, caches),
      devices: this.#devices,
      cons: bank.words(spec.CMDQ_CONS),
      interrupts,
    });
  }

  /** Power-on state: registers at their reset values, caches empty, translation off. */
  reset(): void {
    this.cmdqv?.reset();
    this.#bank.reset();
    for (const [offset, value] of this.features.registers) {
      const register = this.#bank.at(offset);
      if (register !== undefined) this.#bank.words(register)[0] = value;
    }
    this.#events.queue.reload();
    this.#pageRequests.queue.reload();
    this.#commands.queue.reload();
    this.#devices.timedOut = false;
    this.#enablesChanged();
    loadState(this.#bank, this.#state, this.features);
    this.caches.invalidateAll();
    this.#stalls.terminateAll();
    this.#stalls.run();
  }

  /**
   * Translate one page of an untranslated request. @hot
   *
   * @param sid StreamID: the requester id
   * @param pasid SubstreamID, 20 bits, or -1
   * @param iovaPfn 4 KiB frame of the address
   * @param access sum of the bus's access bits
   * @param offset byte offset in the page; only the event record needs it
   * @returns 4 KiB frame; negative when aborted (-1), terminated as RAZ/WI (-0xffff), or stalled, see
   *   `stalledRequest` of core
   */
  translatePage(sid: number, pasid: number, iovaPfn: number, access: number, offset = 0): number {
    return this.#translator.translate(sid, pasid, iovaPfn, access, offset);
  }

  /** Answer an ATS translation request; `access` without WRITE is a request with NW=1. */
  translationRequest(
    sid: number,
    pasid: number,
    iovaPfn: number,
    access: number,
    completion: AtsCompletion,
  ): void {
    this.#ats.translationRequest(sid, pasid, iovaPfn, access, completion);
  }

  /**
   * Check one page of a translated request. @hot
   *
   * @param pfn 4 KiB frame of a completion: PA, or IPA with split-stage ATS
   * @returns 4 KiB frame, or negative when aborted
   */
  translatedPage(sid: number, _pasid: number, pfn: number, access: number): number {
    return this.#ats.translated(sid, pfn, access);
  }

  /** Take a page request; the answer comes back over the bus. */
  pageRequest(request: PageRequest): void {
    this.#pageRequests.accept(request);
  }

  /**
   * Replay a request as a trace, without changing anything.
   *
   * @throws {RangeError} when the address has more than 64 bits
   */
  explain(request: ExplainRequest): Explanation {
    return this.#explainer.explain(request);
  }

  /** The unit as bytes: registers, caches, stalled requests. Memory is not part of it. */
  snapshot(): Uint8Array {
    return unitToBytes(this.saveState());
  }

  /**
   * Put a state back, into a unit of the same capabilities and cache sizes. A sanitizer knows nothing
   * of where restored entries came from.
   *
   * @throws {IommuError} EINVAL, with nothing changed, that names what does not fit
   */
  restore(bytes: Uint8Array): void {
    const state = unitFromBytes(bytes);
    this.checkState(state);
    this.loadState(state);
  }

  /** The unit as plain data, for a larger snapshot. */
  saveState(): HardwareState {
    return saveUnit(this.#stateful);
  }

  /** @throws {IommuError} EINVAL that names what does not fit */
  checkState(state: HardwareState): void {
    checkUnit(this.#stateful, state);
  }

  /** Put a state that {@link checkState} found good in place. */
  loadState(state: HardwareState): void {
    loadUnit(this.#stateful, state);
    this.#events.queue.reload();
    this.#pageRequests.queue.reload();
    this.#commands.queue.reload();
    this.#enablesChanged();
    loadState(this.#bank, this.#state, this.features);
    this.sanitizer?.forget();
  }

  get #stateful(): StatefulParts {
    return {
      bank: this.#bank,
      caches: this.caches,
      devices: this.#devices,
      stalls: this.#stalls,
    };
  }

  /** Read a dword of the register pages; 0 where there is no register. */
  readReg32(offset: number): number {
    return this.#bank.read(offset);
  }

  /** Write a dword. Bits that are guarded at the moment, or of absent features, keep their value. */
  writeReg32(offset: number, value: number): void {
    const register = this.#bank.at(offset);
    if (register === undefined) return;
    const bits = this.#writableBits(register, value);
    if (bits === 0) return;
    this.#bank.write(offset, value, bits);
    this.#written(register);
  }

  /** Write a 64-bit register in one access. Other registers take dwords only: nothing happens. */
  writeReg64(offset: number, lo: number, hi: number): void {
    const register = this.#bank.at(offset);
    if (register === undefined || register.words === 1 || register.offset !== offset) return;
    const bits = this.#writableBits(register, lo);
    if (bits === 0) return;
    this.#bank.write(offset, lo, bits);
    this.#bank.write(offset + 4, hi, bits);
    this.#written(register);
  }

  #writableBits(register: Register, value: number): number {
    const cr0 = this.#bank.words(spec.CR0)[0] as number;
    const irq = this.#bank.words(spec.IRQ_CTRL)[0] as number;
    return writableBits(register, value, { cr0, irq }, this.features);
  }

  #written(register: Register): void {
    this.#stalls.enter();
    try {
      this.#afterWrite(register);
    } finally {
      this.#stalls.leave();
    }
  }

  #afterWrite(register: Register): void {
    const bank = this.#bank;
    switch (register) {
      case spec.CR0:
        this.#enablesChanged();
        loadState(this.#bank, this.#state, this.features);
        if (!this.#state.enabled) this.#stalls.terminateAll();
        this.#stalls.deliver();
        this.#commands.process();
        break;
      case spec.EVENTQ_CONS:
        this.#stalls.deliver();
        break;
      case spec.IRQ_CTRL:
        bank.words(spec.IRQ_CTRLACK)[0] = bank.words(spec.IRQ_CTRL)[0] as number;
        break;
      case spec.GERRORN:
        this.#stalls.deliver();
        this.#commands.process();
        break;
      case spec.CMDQ_PROD:
        this.#commands.process();
        break;
      case spec.CMDQ_BASE:
        this.#commands.queue.reload();
        break;
      case spec.EVENTQ_BASE:
        this.#events.queue.reload();
        break;
      case spec.PRIQ_BASE:
        this.#pageRequests.queue.reload();
        break;
      default:
        loadState(this.#bank, this.#state, this.features);
    }
  }

  /** Every enable takes effect at once. */
  #enablesChanged(): void {
    const words = this.#bank.words(spec.CR0);
    this.#bank.words(spec.CR0ACK)[0] = words[0] as number;
    const cr0 = decode(spec.CR0, words);
    this.#events.enabled = cr0.EVENTQEN === 1;
    this.#pageRequests.enabled = cr0.PRIQEN === 1;
    this.#commands.enabled = cr0.CMDQEN === 1;
  }
}

/** Make a unit; see {@link SmmuHardwareOptions}. */
export const createSmmuHardware = (options: SmmuHardwareOptions): SmmuHardware =>
  new SmmuHardware(options);
