/**
 * Untranslated requests, in the order of the specification's steps.
 *
 * @spec SMMUv3 3.4, 3.12, 7.3.1 (priority of faults)
 */
import { EVENT, EVENT_CLASS } from '../spec/events.ts';
import { STE_CONFIG } from '../spec/stream-table-entry.ts';
import type { CacheAccess } from './caches.ts';
import type { Features } from './capabilities.ts';
import { OVERRIDE, type StreamConfig } from './configuration.ts';
import { type ConfigurationAccess, REFUSED, STAGE1_BYPASS } from './configuration-access.ts';
import type { EventQueue, FaultingRequest } from './event-queue.ts';
import { type Fault, setFault, TERMS } from './faults.ts';
import { canonicalFrame } from './stage1-walker.ts';
import { PRIVILEGED_SHIFT, RIGHT } from './stage2-walker.ts';
import { type Stages, stage1Source, stage2Source } from './stages.ts';
import type { RequestParts, Stalls } from './stalls.ts';
import { GLOBAL_TAG } from './translation-commands.ts';
import type { UnitState } from './unit-state.ts';

/** Answers of the agent. Literals: imported, they cost the hot path a look-up. */
const BLOCKED = -1;
const RAZ_WI = -0xffff;

/** Bits of a request's `access`, as on the bus. */
const ACCESS = { READ: 1, WRITE: 2, EXEC: 4, PRIV: 8, ATOMIC: 16 } as const;

const EVERY_RIGHT = RIGHT.READ | RIGHT.WRITE | RIGHT.EXEC;
type Mutable<T> = { -readonly [N in keyof T]: T[N] };

/** Where requests get their configuration. */
export type ConfigurationSource = Pick<ConfigurationAccess, 'stream' | 'contextIndex' | 'context'>;

/** Parts that a translator works with. */
export interface TranslatorParts {
  readonly state: UnitState;
  readonly features: Features;
  readonly caches: CacheAccess;
  readonly configuration: ConfigurationSource;
  readonly stages: Stages;
  readonly events: Pick<EventQueue, 'record'>;
  readonly stalls: Pick<Stalls, 'takeCurrent' | 'stall'>;
  readonly fault: Fault;
}

/** Translates requests of one unit. */
export class Translator {
  readonly #with: TranslatorParts;
  readonly #outputFrames: number;
  readonly #request: Mutable<FaultingRequest & RequestParts> = {
    sid: 0,
    ssid: -1,
    pfn: 0,
    access: 0,
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
   * Translate one page. @hot
   *
   * @param ssid SubstreamID (PASID), or -1
   * @param pfn 4 KiB frame of the address
   * @param access sum of the bus's access bits
   * @param offset byte offset in the page, for the event
   * @returns 4 KiB frame, or a negative code of the bus: blocked, RAZ/WI, stalled
   */
  translate(sid: number, ssid: number, pfn: number, access: number, offset: number): number {
    const { state, configuration } = this.#with;
    if (!state.enabled) {
      return state.bypassAborts || pfn >= this.#outputFrames ? BLOCKED : pfn;
    }
    const request = this.#request;
    request.sid = sid;
    request.ssid = ssid;
    request.pfn = pfn;
    request.access = access;
    request.offset = offset;
    const stream = configuration.stream(sid);
    if (stream === undefined) return this.#aborted();
    if (stream.bad) return this.#aborts(EVENT.C_BAD_STE);
    if (stream.config < STE_CONFIG.BYPASS) return BLOCKED;
    const index = configuration.contextIndex(stream, ssid);
    if (index === REFUSED) return this.#aborted();
    const effective = overridden(access, stream);
    request.write = (effective & (ACCESS.WRITE | ACCESS.ATOMIC)) !== 0;
    request.privileged = (effective & ACCESS.PRIV) !== 0;
    request.instruction = (effective & ACCESS.EXEC) !== 0 && !request.write;
    const need = rightsNeeded(effective);
    if (index === STAGE1_BYPASS) return this.#withoutStage1(stream, need);
    return this.#withStage1(stream, index, need);
  }

  /** Bypass, or stage 2 alone. */
  #withoutStage1(stream: StreamConfig, need: number): number {
    const { pfn, privileged } = this.#request;
    if (pfn >= this.#outputFrames) {
      setFault(this.#with.fault, EVENT.F_ADDR_SIZE, false, EVENT_CLASS.IN, 0, TERMS.RECORD);
      return this.#aborted();
    }
    if (stream.stage2 === undefined) return pfn;
    const { tlb } = this.#with.caches;
    const placed = privileged ? need << PRIVILEGED_SHIFT : need;
    const hit = tlb.lookup(stage2Source(stream), GLOBAL_TAG, pfn, placed);
    if (hit >= 0) return hit;
    const { stages } = this.#with;
    return stages.walkStage2(stream, pfn, placed) ? this.#aborted() : stages.pfn;
  }

  /** Stage 1, and stage 2 behind it when the stream has one. */
  #withStage1(stream: StreamConfig, index: number, need: number): number {
    const { caches, configuration } = this.#with;
    const request = this.#request;
    const context = configuration.context(stream, request.sid, index);
    if (context === undefined) return this.#aborted();
    if (context.bad) return this.#aborts(EVENT.C_BAD_CD);
    const pfn = canonicalFrame(context, request.pfn);
    const source = stage1Source(stream, context);
    const placed = request.privileged ? need << PRIVILEGED_SHIFT : need;
    const hit = caches.tlb.lookup(source, context.asid, pfn, placed);
    if (hit >= 0) return hit;
    const { stages } = this.#with;
    const faulted = stages.walk(stream, context, pfn, need, request.privileged);
    return faulted ? this.#aborted() : stages.pfn;
  }

  /** Abort for a reason that is always recorded. */
  #aborts(code: number): number {
    setFault(this.#with.fault, code, false, 0, 0, TERMS.RECORD);
    return this.#aborted();
  }

  /** End or stall the request, as the fault's terms say. */
  #aborted(): number {
    const { fault, events, stalls } = this.#with;
    const again = stalls.takeCurrent();
    // Read before anything is recorded: the interrupt's handler may send requests of its own.
    const { terms } = fault;
    const request = this.#request;
    if ((terms & TERMS.STALL) !== 0) return stalls.stall(request, request, fault, again);
    if ((terms & TERMS.RECORD) !== 0) events.record(request, fault);
    return (terms & TERMS.RAZ_WI) !== 0 ? RAZ_WI : BLOCKED;
  }
}

/** PRIVCFG and INSTCFG; writes are always data. */
const overridden = (access: number, stream: StreamConfig): number => {
  const { privilegeOverride, instructionOverride } = stream;
  if ((privilegeOverride | instructionOverride) < OVERRIDE.CLEAR) return access;
  let effective = access;
  if (privilegeOverride === OVERRIDE.CLEAR) effective &= ~ACCESS.PRIV;
  if (privilegeOverride === OVERRIDE.SET) effective |= ACCESS.PRIV;
  if ((effective & (ACCESS.WRITE | ACCESS.ATOMIC)) !== 0) return effective;
  if (instructionOverride === OVERRIDE.CLEAR) return asData(effective);
  return instructionOverride === OVERRIDE.SET ? effective | ACCESS.EXEC : effective;
};

/** A fetch that counts as a read. */
const asData = (access: number): number =>
  (access & ACCESS.EXEC) === 0 ? access : (access & ~ACCESS.EXEC) | ACCESS.READ;

/** An atomic reads and writes; execute counts for reads only; a request for nothing reads. */
export const rightsNeeded = (access: number): number => {
  if ((access & ACCESS.ATOMIC) !== 0) return RIGHT.READ | RIGHT.WRITE;
  if ((access & ACCESS.WRITE) !== 0) return access & (RIGHT.READ | RIGHT.WRITE);
  const need = access & EVERY_RIGHT;
  return need === 0 ? RIGHT.READ : need;
};
