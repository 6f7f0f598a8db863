/**
 * ATS: translation requests, and requests that carry translated addresses.
 *
 * @spec SMMUv3 3.9 (ATS and PRI), 3.9.1.2 (responses to translation requests)
 */
import { ACCESS, ATS_STATUS, type AtsCompletion, createAtsCompletion } from '@iommukit/core';
import { EVENT, EVENT_CLASS } from '../spec/events.ts';
import { EATS, STE_CONFIG } from '../spec/stream-table-entry.ts';
import type { Stage1Config, StreamConfig } from './configuration.ts';
import { REFUSED, STAGE1_BYPASS } from './configuration-access.ts';
import type { FaultingRequest } from './event-queue.ts';
import { type Fault, setFault, TERMS } from './faults.ts';
import { canonicalFrame } from './stage1-walker.ts';
import { PRIVILEGED_SHIFT, RIGHT } from './stage2-walker.ts';
import { stage1Source, stage2Source } from './stages.ts';
import { rightsNeeded, type TranslatorParts } from './translate.ts';
import { GLOBAL_TAG } from './translation-commands.ts';

/** What the agent returns for an aborted request. */
const BLOCKED = -1;
/** Smallest translation unit, lg2 of bytes. */
const STU_LG2 = 12;
const NO_SUBSTREAM = -1;

type Mutable<T> = { -readonly [N in keyof T]: T[N] };

/** Serves ATS requests of one unit. */
export class AtsService {
  readonly #with: TranslatorParts;
  readonly #outputFrames: number;
  readonly #request: Mutable<FaultingRequest> = {
    sid: 0,
    ssid: -1,
    pfn: 0,
    offset: 0,
    write: false,
    privileged: false,
    instruction: false,
  };

  constructor(parts: TranslatorParts) {
    this.#with = parts;
    this.#outputFrames = 2 ** (parts.features.oaBits - 12);
  }

  /**
   * Answer a translation request.
   *
   * @param ssid SubstreamID (PASID), or -1; execute and privileged count only with one
   * @param pfn 4 KiB frame of the address
   * @param access sum of the bus's access bits; without WRITE it is a request with NW=1
   * @param completion filled in place
   */
  translationRequest(
    sid: number,
    ssid: number,
    pfn: number,
    access: number,
    completion: AtsCompletion,
  ): void {
    this.#take(sid, ssid, pfn, access);
    this.#request.write = (access & ACCESS.WRITE) !== 0;
    Object.assign(completion, createAtsCompletion());
    completion.status = this.#answer(completion);
    const success = completion.status === ATS_STATUS.SUCCESS;
    completion.priv = success && this.#request.privileged ? 1 : 0;
  }

  /** @returns the status; the rest of a success is filled in */
  #answer(completion: AtsCompletion): number {
    const { state, features, configuration, fault } = this.#with;
    const { sid, ssid } = this.#request;
    if (!features.ats) return this.#unsupported(EVENT.F_UUT);
    if (!state.enabled) return this.#unsupported(EVENT.F_BAD_ATS_TREQ);
    const stream = configuration.stream(sid);
    if (stream === undefined || isBad(stream, fault)) return this.#failure();
    if (stream.config < STE_CONFIG.BYPASS) return ATS_STATUS.UNSUPPORTED_REQUEST;
    const eats = this.#effectiveEats(stream);
    if (eats === EATS.OFF) return this.#unsupported(EVENT.F_BAD_ATS_TREQ);
    const index = configuration.contextIndex(stream, ssid);
    if (index === REFUSED) return this.#failure();
    const faulted =
      index === STAGE1_BYPASS
        ? this.#withoutStage1(stream, eats, completion)
        : this.#withStage1(stream, index, eats, completion);
    return faulted ? this.#failure() : ATS_STATUS.SUCCESS;
  }

  /**
   * Check a page of a translated request.
   *
   * @param pfn 4 KiB frame of a completion: PA, or IPA with split-stage ATS
   * @param access sum of the bus's access bits; a PASID beside it would be ignored
   * @returns 4 KiB frame, or negative when aborted
   */
  translated(sid: number, pfn: number, access: number): number {
    this.#take(sid, NO_SUBSTREAM, pfn, access);
    const { state, features, configuration, fault } = this.#with;
    if (!features.ats) return this.#refuses(EVENT.F_UUT);
    if (!state.enabled) return this.#refuses(EVENT.F_TRANSL_FORBIDDEN);
    if (!state.checkTranslated) return this.#untouched(pfn);
    const stream = configuration.stream(sid);
    if (stream === undefined || isBad(stream, fault)) {
      if (state.recordAtsErrors) this.#record();
      return BLOCKED;
    }
    if (stream.config < STE_CONFIG.BYPASS) return BLOCKED;
    const eats = this.#effectiveEats(stream);
    if (eats === EATS.OFF) return this.#refuses(EVENT.F_TRANSL_FORBIDDEN);
    return eats === EATS.FULL ? this.#untouched(pfn) : this.#translatedByStage2(stream, access);
  }

  /** A PA as it came; there is nothing beyond the output size. */
  #untouched(pfn: number): number {
    return pfn < this.#outputFrames ? pfn : BLOCKED;
  }

  #take(sid: number, ssid: number, pfn: number, access: number): void {
    const request = this.#request;
    request.sid = sid;
    request.ssid = ssid;
    request.pfn = pfn;
    request.write = (access & (ACCESS.WRITE | ACCESS.ATOMIC)) !== 0;
    request.privileged = ssid >= 0 && (access & ACCESS.PRIV) !== 0;
    request.instruction = ssid >= 0 && (access & ACCESS.EXEC) !== 0;
  }

  /** Split stage works only where translated requests are looked at. */
  #effectiveEats({ config, eats }: StreamConfig): number {
    if (config === STE_CONFIG.BYPASS) return EATS.OFF;
    return eats === EATS.SPLIT_STAGE && !this.#with.state.checkTranslated ? EATS.OFF : eats;
  }

  /** Config 6, or S1DSS 1. @returns true when it faulted */
  #withoutStage1(stream: StreamConfig, eats: number, completion: AtsCompletion): boolean {
    const { stages, fault } = this.#with;
    const { pfn } = this.#request;
    if (pfn >= this.#outputFrames) {
      return setFault(fault, EVENT.F_ADDR_SIZE, false, EVENT_CLASS.IN, 0, TERMS.RECORD);
    }
    if (stream.stage2 === undefined) {
      this.#grant(completion, pfn, RIGHT.READ | RIGHT.WRITE, STU_LG2);
      return false;
    }
    const cached = this.#cached(stage2Source(stream), GLOBAL_TAG, pfn, 0);
    if (cached === undefined && this.#walkStage2(stream, pfn)) return true;
    const { rights, sizeLg2 } = cached ?? stages;
    const output = cached?.pfn ?? stages.pfn;
    this.#grant(completion, eats === EATS.SPLIT_STAGE ? pfn : output, rights, sizeLg2);
    return false;
  }

  /** @returns true when it faulted */
  #withStage1(
    stream: StreamConfig,
    index: number,
    eats: number,
    completion: AtsCompletion,
  ): boolean {
    const { configuration, stages, fault } = this.#with;
    const { sid, privileged } = this.#request;
    const context = configuration.context(stream, sid, index);
    if (context === undefined || isBadContext(context, fault)) return true;
    const pfn = canonicalFrame(context, this.#request.pfn);
    const shift = privileged ? PRIVILEGED_SHIFT : 0;
    // A cached translation of both stages does not know the IPA between them.
    const splits = eats === EATS.SPLIT_STAGE;
    const cached = splits
      ? undefined
      : this.#cached(stage1Source(stream, context), context.asid, pfn, shift);
    if (cached === undefined && this.#walk(stream, context, pfn, shift)) return true;
    const { rights, sizeLg2 } = cached ?? stages;
    const output = splits ? stages.ipaPfn : (cached?.pfn ?? stages.pfn);
    this.#grant(completion, output, rights >>> shift, sizeLg2);
    return false;
  }

  /** Walk for what is allowed; a write that is granted makes the leaf dirty (SMMUv3 3.13.4). */
  #walkStage2(stream: StreamConfig, pfn: number): boolean {
    const { stages } = this.#with;
    if (stages.walkStage2(stream, pfn, 0)) return true;
    return this.#makesDirty(0) && stages.walkStage2(stream, pfn, RIGHT.WRITE);
  }

  #walk(stream: StreamConfig, context: Stage1Config, pfn: number, shift: number): boolean {
    const { stages } = this.#with;
    const { privileged } = this.#request;
    if (stages.walk(stream, context, pfn, 0, privileged)) return true;
    if (!this.#makesDirty(shift)) return false;
    return stages.walk(stream, context, pfn, RIGHT.WRITE, privileged);
  }

  /** Whether a write is asked for, and allowed once the leaf is dirty. */
  #makesDirty(shift: number): boolean {
    const { dirtyKnown, rights } = this.#with.stages;
    return !dirtyKnown && this.#request.write && ((rights >>> shift) & RIGHT.WRITE) !== 0;
  }

  /** A cached translation with every right that is asked for; one that lacks a right is a miss. */
  #cached(source: number, asid: number, pfn: number, shift: number): CachedResult | undefined {
    const { tlb } = this.#with.caches;
    const slot = tlb.find(source, asid, pfn, this.#wanted << shift);
    const entry = slot < 0 ? undefined : tlb.describe(slot);
    if (entry === undefined) return undefined;
    const { permissions: rights, sizeLg2, iovaPfn, outPfn } = entry;
    return { pfn: outPfn + (pfn - iovaPfn), rights, sizeLg2 };
  }

  get #wanted(): number {
    const { write, instruction } = this.#request;
    return RIGHT.READ | (write ? RIGHT.WRITE : 0) | (instruction ? RIGHT.EXEC : 0);
  }

  /** Success with the rights that hold of those that are asked for; execute-only is nothing. */
  #grant(completion: AtsCompletion, pfn: number, rights: number, sizeLg2: number): void {
    const granted = rights & this.#wanted;
    completion.read = granted & RIGHT.READ;
    completion.write = (granted & RIGHT.WRITE) === 0 ? 0 : 1;
    if (completion.read === 0 && completion.write === 0) return;
    completion.exec = (granted & RIGHT.EXEC) === 0 ? 0 : 1;
    completion.sizeLg2 = sizeLg2;
    completion.pfn = pfn - (pfn % 2 ** (sizeLg2 - STU_LG2));
  }

  /** Walk faults are no error: nothing is mapped there, and nobody is told. The others are. */
  #failure(): number {
    const { fault, state } = this.#with;
    if (fault.code >= EVENT.F_TRANSLATION) return ATS_STATUS.SUCCESS;
    this.#request.write = false;
    if (state.recordAtsErrors) this.#record();
    return ATS_STATUS.COMPLETER_ABORT;
  }

  #unsupported(code: number): number {
    this.#refuses(code);
    return ATS_STATUS.UNSUPPORTED_REQUEST;
  }

  /** Split stage: the address is an IPA, and its faults are those of any other request. */
  #translatedByStage2(stream: StreamConfig, access: number): number {
    const { caches, stages } = this.#with;
    const { pfn } = this.#request;
    if (pfn >= this.#outputFrames) return this.#refuses(EVENT.F_ADDR_SIZE);
    const need = rightsNeeded(access);
    const hit = caches.tlb.lookup(stage2Source(stream), GLOBAL_TAG, pfn, need);
    if (hit >= 0) return hit;
    if (!stages.walkStage2(stream, pfn, need)) return stages.pfn;
    this.#record();
    return BLOCKED;
  }

  #refuses(code: number): number {
    setFault(this.#with.fault, code, false, EVENT_CLASS.IN, 0, TERMS.RECORD);
    this.#record();
    return BLOCKED;
  }

  #record(): void {
    const { fault, events } = this.#with;
    if ((fault.terms & TERMS.RECORD) !== 0) events.record(this.#request, fault);
  }
}

/** What the TLB knows of a page. */
interface CachedResult {
  readonly pfn: number;
  readonly rights: number;
  readonly sizeLg2: number;
}

const isBad = ({ bad }: StreamConfig, fault: Fault): boolean =>
  bad && setFault(fault, EVENT.C_BAD_STE, false, 0, 0, TERMS.RECORD);

const isBadContext = ({ bad }: Stage1Config, fault: Fault): boolean =>
  bad && setFault(fault, EVENT.C_BAD_CD, false, 0, 0, TERMS.RECORD);
