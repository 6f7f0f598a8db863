/**
 * One request through the tables: mode, context, PASID entry, address checks, walk, result checks.
 * No memory of its own but the results of the last call; caching of results is the caller's.
 *
 * @spec VT-d 3.4 to 3.8, 7.1.3 (which condition is checked when)
 */
import { CONTEXT_TT } from '../spec/context-entry.ts';
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { PGTT } from '../spec/pasid-entry.ts';
import { TTM } from '../spec/registers.ts';
import { PendingUpdates } from './accessed-dirty.ts';
import type { Caches } from './caches.ts';
import type { Features } from './capabilities.ts';
import { CONTEXT } from './context-cache.ts';
import { ContextWalker } from './context-walker.ts';
import {
  createFirstStageRequest,
  FirstStageWalker,
  SCALABLE_SS_REASON,
} from './first-stage-walker.ts';
import type { HardwareMemory } from './memory.ts';
import { PASID_INFO } from './pasid-cache.ts';
import { PasidWalker } from './pasid-walker.ts';
import { RIGHT, SecondStageWalker, SS_FAIL } from './second-stage-walker.ts';
import type { TraceSink } from './trace.ts';

/** First and last frame of the interrupt address range FEEx_xxxxh. */
export const INTERRUPT_RANGE = { FIRST_PFN: 0xf_ee00, LAST_PFN: 0xf_eeff } as const;

/** Address types of requests (PCIe AT field). */
export const ADDRESS_TYPE = { UNTRANSLATED: 0, TRANSLATION: 1, TRANSLATED: 2 } as const;

/** What a request asks, filled before {@link Translator.resolve}. */
export interface TranslationRequest {
  rid: number;
  /** 20 bits, -1 = none. */
  pasid: number;
  /** 4 KiB frame of the address, 52 bits. */
  pfn: number;
  /** Rights that must be there; 0 = report what is there. */
  want: number;
  /** Sets dirty bits where writing is allowed. */
  write: boolean;
  /** Complaints about missing permission say "write": write and atomic requests. */
  blameWrite: boolean;
  priv: boolean;
  exec: boolean;
  /** One of {@link ADDRESS_TYPE}, not TRANSLATED. */
  addressType: number;
}

const PASS_THROUGH_LG2 = 30;
const ALL_FRAMES = 2 ** 52;
const HALF_57_FRAMES = 2 ** 44;
const HALF_48_FRAMES = 2 ** 35;

/** First major version that reports second-stage entries without permission as SSS.2. */
const SS_NOT_PRESENT_MAJOR = 6;

/** Translates; the result of the last call stands in its fields. */
export class Translator {
  /** Byte address of the root table, as latched by SRTP. */
  rootTable = 0;
  /** Translation table mode, as latched by SRTP. */
  ttm: number = TTM.LEGACY;

  /** 4 KiB frame of the result. */
  pfn = 0;
  rights = 0;
  sizeLg2 = 12;
  did = 0;
  /** PASID whose entry was used: the request's or RID_PASID; 0 in legacy mode. */
  pasidTag = 0;
  /** PGTT code, 0 in legacy mode. */
  pgtt = 0;
  /** The result may be kept in the IOTLB: it came out of a walk. */
  walked = false;
  /** Completions carry N=1. */
  noSnoop = false;
  cleanWrite = true;
  /** How the second stage failed, one of `SS_FAIL`; 0 = it did not. */
  ssFailure = 0;
  /** FPD of the entries that were reached. */
  fpd = false;
  /** Privilege that was applied. */
  priv = false;

  #ssirwe = false;

  readonly pending = new PendingUpdates();
  readonly context: ContextWalker;
  readonly pasid: PasidWalker;
  readonly secondStage: SecondStageWalker;
  readonly firstStage: FirstStageWalker;
  readonly #memory: HardwareMemory;
  readonly #features: Features;
  readonly #coherentWalks: boolean;
  readonly #hawFrames: number;
  readonly #pasidBits: number;
  /** Frames below the second stage's limit, by AW code. */
  readonly #ssFrames: readonly number[];
  readonly #first = createFirstStageRequest();
  /** Do accessed/dirty updates; off while a request is explained. */
  commitUpdates = true;

  /** @param coherentWalks treat every walk as snooped, whatever PWSNP and SMPWCS say */
  constructor(memory: HardwareMemory, features: Features, caches: Caches, coherentWalks: boolean) {
    this.#memory = memory;
    this.#features = features;
    this.#coherentWalks = coherentWalks;
    this.context = new ContextWalker(memory, features, caches.context);
    this.pasid = new PasidWalker(memory, features, caches.pasid);
    this.secondStage = new SecondStageWalker(memory, features, this.pending);
    this.firstStage = new FirstStageWalker(memory, features, this.pending, this.secondStage);
    this.#pasidBits = features.pasidBits;
    this.#hawFrames = 2 ** (features.hawBits - 12);
    this.#ssFrames = [0, 1, 2, 3].map((aw) => 2 ** (Math.min(features.mgawBits, 30 + 9 * aw) - 12));
  }

  /** Listen to every structure read; undefined = stop. */
  set trace(sink: TraceSink | undefined) {
    this.context.trace = sink;
    this.pasid.trace = sink;
    this.secondStage.trace = sink;
    this.firstStage.trace = sink;
  }

  /**
   * Make this a translator that changes nothing: no accessed/dirty updates, no cache fills.
   * @param readCaches answer from the context and PASID caches
   */
  dry(readCaches: boolean): this {
    this.commitUpdates = false;
    for (const walker of [this.context, this.pasid]) {
      walker.fillCache = false;
      walker.readCache = readCaches;
    }
    return this;
  }

  /** RTADDR.SSIRWE, as latched by SRTP. */
  get ssirwe(): boolean {
    return this.#ssirwe;
  }

  set ssirwe(on: boolean) {
    this.#ssirwe = on;
    this.secondStage.interruptRights = on;
  }

  /** Take over another translator's latched state. */
  follow(other: Translator): void {
    this.rootTable = other.rootTable;
    this.ttm = other.ttm;
    this.ssirwe = other.ssirwe;
  }

  /** Whether the latched table mode is one this unit has: 0, or a fault reason. */
  modeReason(pasid: number): number {
    if (this.ttm === TTM.SCALABLE) return this.#features.scalable ? 0 : ROOT_TABLE;
    if (this.ttm === TTM.ABORT)
      return this.#features.abortDma ? FAULT_REASON.ABORT_DMA : ROOT_TABLE;
    if (this.ttm === TTM.RESERVED) return ROOT_TABLE;
    if (pasid >= 0) return FAULT_REASON.LEGACY_WITH_PASID;
    return this.ssirwe ? ROOT_TABLE : 0;
  }

  /**
   * Translate. @hot
   * @returns 0, or a fault reason; `fpd` is valid in both cases
   */
  resolve(request: TranslationRequest): number {
    this.fpd = false;
    this.priv = false;
    this.ssFailure = 0;
    this.walked = false;
    this.noSnoop = false;
    this.cleanWrite = true;
    this.did = 0;
    this.pgtt = 0;
    this.pasidTag = 0;
    this.pending.count = 0;
    const mode = this.modeReason(request.pasid);
    if (mode !== 0) return mode;
    const reason = this.ttm === TTM.SCALABLE ? this.#scalable(request) : this.#legacy(request);
    if (reason !== 0 || this.pending.count === 0) return reason;
    return this.#update();
  }

  #update(): number {
    const features = this.#features;
    const snooped =
      this.#coherentWalks ||
      (features.scalableCoherent && (this.pasid.info & PASID_INFO.PWSNP) !== 0);
    const reason = this.pending.check(snooped);
    if (reason !== 0) return reason;
    return this.commitUpdates ? this.pending.commit(this.#memory) : 0;
  }

  #legacy(request: TranslationRequest): number {
    const { context } = this;
    const reason = context.find(request.rid, this.rootTable, false);
    this.fpd = (context.info & CONTEXT.FPD) !== 0;
    if (reason !== 0) return reason;
    const tt = (context.info >>> CONTEXT.TT_SHIFT) & 3;
    if (request.addressType !== ADDRESS_TYPE.UNTRANSLATED && tt !== CONTEXT_TT.ATS)
      return FAULT_REASON.LEGACY_TT_BLOCKS;
    this.did = context.did;
    if (tt === CONTEXT_TT.PASS_THROUGH)
      return this.#identity(
        request.pfn,
        FAULT_REASON.LEGACY_ADDRESS_BEYOND,
        FAULT_REASON.LEGACY_INTERRUPT_RANGE,
      );
    const aw = (context.info >>> CONTEXT.AW_SHIFT) & 7;
    if (request.pfn >= (this.#ssFrames[aw] as number)) return FAULT_REASON.LEGACY_ADDRESS_BEYOND;
    const { secondStage } = this;
    const { pfn, want, write } = request;
    const failed = secondStage.walk(context.pointer, aw + 2, pfn, want, false, write);
    if (failed !== 0) {
      this.ssFailure = failed;
      return legacyReason(failed, request.blameWrite);
    }
    this.#takeSecondStage();
    this.noSnoop = secondStage.snoop;
    return this.#outputCheck(FAULT_REASON.LEGACY_INTERRUPT_RANGE);
  }

  #takeSecondStage(): void {
    const { secondStage } = this;
    this.pfn = secondStage.pfn;
    this.rights = secondStage.rights;
    this.sizeLg2 = secondStage.sizeLg2;
    this.cleanWrite = secondStage.cleanWrite;
    this.walked = true;
  }

  #outputCheck(reason: number): number {
    const { pfn } = this;
    if (pfn >= INTERRUPT_RANGE.FIRST_PFN && pfn <= INTERRUPT_RANGE.LAST_PFN) return reason;
    return 0;
  }

  /** Pass-through: the address itself, in the largest region that holds no other answer. */
  #identity(pfn: number, beyond: number, interrupt: number): number {
    if (pfn >= this.#hawFrames) return beyond;
    this.pfn = pfn;
    this.rights = RIGHT.R | RIGHT.W;
    this.sizeLg2 = passThroughSizeLg2(pfn);
    return this.#outputCheck(interrupt);
  }

  #scalable(request: TranslationRequest): number {
    const tagged = request.pasid >= 0;
    if (tagged && request.exec && this.#features.major >= 8) return FAULT_REASON.EXECUTE_REQUEST;
    const reason = this.contextForScalable(request.rid, request.pasid, request.addressType);
    if (reason !== 0) return reason;
    const { context, pasid: entry } = this;
    const pasid = tagged ? request.pasid : context.ridPasid;
    const missing = this.pasidEntry(request.rid, pasid);
    if (missing !== 0) return missing;
    this.priv = tagged ? request.priv : (context.info & CONTEXT.RID_PRIV) !== 0;
    if (tagged && request.exec) return FAULT_REASON.PASID_EXECUTE;
    if (this.priv && (entry.info & PASID_INFO.SRE) === 0) return FAULT_REASON.PASID_SUPERVISOR;
    this.noSnoop = (entry.info & PASID_INFO.PGSNP) !== 0;
    if (this.pgtt === PGTT.SECOND_STAGE) return this.#second(request);
    if (this.pgtt === PGTT.PASS_THROUGH)
      return this.#identity(
        request.pfn,
        FAULT_REASON.ADDRESS_BEYOND_HAW,
        FAULT_REASON.INTERRUPT_RANGE,
      );
    return this.#firstStage(request);
  }

  /**
   * Context entry of a requester in scalable mode, with what the entry and the request's PASID must
   * fulfil together.
   * @returns 0, or a fault reason
   */
  contextForScalable(rid: number, pasid: number, addressType: number): number {
    const { context } = this;
    const reason = context.find(rid, this.rootTable, true);
    const { info } = context;
    this.fpd = (info & CONTEXT.FPD) !== 0;
    if (reason !== 0) return reason;
    const tagged = pasid >= 0;
    const orphanEptr = (info & CONTEXT.EPTR) !== 0 && (info & CONTEXT.PASIDE) === 0;
    if (orphanEptr && (!tagged || addressType === ADDRESS_TYPE.TRANSLATED))
      return FAULT_REASON.SM_CONTEXT_INVALID;
    if (addressType !== ADDRESS_TYPE.UNTRANSLATED && (info & CONTEXT.DTE) === 0)
      return FAULT_REASON.SM_DTE_BLOCKS;
    return tagged ? this.explicitPasid(pasid, addressType) : 0;
  }

  /** Checks of a request that carries a PASID against the context entry. */
  explicitPasid(pasid: number, addressType: number): number {
    const { info, ridPasid } = this.context;
    if (pasid >>> this.#pasidBits !== 0) return FAULT_REASON.PASID_BEYOND_PSS;
    if (addressType === ADDRESS_TYPE.TRANSLATED) {
      if ((info & CONTEXT.EPTR) === 0) return FAULT_REASON.SM_EPTR_BLOCKS;
    } else if ((info & CONTEXT.PASIDE) === 0) return FAULT_REASON.SM_PASIDE_BLOCKS;
    const pdts = (info >>> CONTEXT.PDTS_SHIFT) & 7;
    if (pasid >>> (pdts + 13) !== 0) return FAULT_REASON.SM_PASID_BEYOND_PDTS;
    return pasid === ridPasid ? FAULT_REASON.SM_PASID_IS_RID_PASID : 0;
  }

  /** PASID entry below the context that was found last. */
  pasidEntry(rid: number, pasid: number): number {
    const entry = this.pasid;
    const reason = entry.find(rid, pasid, this.context.pointer);
    this.fpd ||= (entry.info & PASID_INFO.FPD) !== 0;
    this.pasidTag = pasid;
    if (reason !== 0) return reason;
    this.pgtt = (entry.info >>> PASID_INFO.PGTT_SHIFT) & 7;
    this.did = entry.did;
    return 0;
  }

  #second(request: TranslationRequest): number {
    const { info, ssRoot } = this.pasid;
    const aw = (info >>> PASID_INFO.AW_SHIFT) & 7;
    if (request.pfn >= (this.#ssFrames[aw] as number)) return FAULT_REASON.ADDRESS_BEYOND_SS;
    const keepDirty = (info & PASID_INFO.SSADE) !== 0;
    const { pfn, want, write } = request;
    const failed = this.secondStage.walk(ssRoot, aw + 2, pfn, want, keepDirty, write);
    if (failed !== 0) {
      this.ssFailure = failed;
      return this.#scalableReason(failed, request.blameWrite);
    }
    this.#takeSecondStage();
    this.noSnoop ||= this.secondStage.snoop;
    return this.#outputCheck(FAULT_REASON.INTERRUPT_RANGE);
  }

  /** Before major version 6 an entry without permission is a missing permission, not 79h. */
  #scalableReason(failed: number, blameWrite: boolean): number {
    if (failed === SS_FAIL.EMPTY && this.#features.major < SS_NOT_PRESENT_MAJOR)
      return blameWrite ? FAULT_REASON.WRITE : FAULT_REASON.READ;
    return SCALABLE_SS_REASON[failed] as number;
  }

  #firstStage(request: TranslationRequest): number {
    const { info, ssRoot, fsRoot } = this.pasid;
    const level5 = (info & PASID_INFO.LEVEL5) !== 0;
    if (!isCanonical(request.pfn, level5)) return FAULT_REASON.NOT_CANONICAL;
    const first = this.#first;
    const aw = (info >>> PASID_INFO.AW_SHIFT) & 7;
    first.root = fsRoot;
    first.levels = level5 ? 5 : 4;
    first.want = request.want;
    first.write = request.write;
    first.user = !this.priv;
    first.writeProtect = !this.priv || (info & PASID_INFO.WPE) !== 0;
    first.extendedAccessed = (info & PASID_INFO.EAFE) !== 0;
    first.nested = this.pgtt === PGTT.NESTED;
    first.ssRoot = ssRoot;
    first.ssLevels = aw + 2;
    first.ssKeepDirty = (info & PASID_INFO.SSADE) !== 0;
    first.gpaLimit = (this.#ssFrames[aw] as number) * 4096;
    const walker = this.firstStage;
    const reason = walker.walk(first, request.pfn);
    if (reason !== 0) {
      this.ssFailure = walker.ssFailure;
      return reason;
    }
    this.pfn = walker.pfn;
    this.rights = walker.rights;
    this.sizeLg2 = walker.sizeLg2;
    this.cleanWrite = walker.cleanWrite;
    this.noSnoop ||= walker.snoop;
    this.walked = true;
    return this.#outputCheck(FAULT_REASON.INTERRUPT_RANGE);
  }

  /** Checks of an address that is host physical already. */
  translatedAddress(pfn: number): number {
    const scalable = this.ttm === TTM.SCALABLE;
    if (pfn >= this.#hawFrames)
      return scalable ? FAULT_REASON.ADDRESS_BEYOND_HAW : FAULT_REASON.LEGACY_ADDRESS_BEYOND;
    this.pfn = pfn;
    return this.#outputCheck(
      scalable ? FAULT_REASON.INTERRUPT_RANGE : FAULT_REASON.LEGACY_INTERRUPT_RANGE,
    );
  }
}

const ROOT_TABLE = FAULT_REASON.ROOT_TABLE_ADDRESS;

/** Legacy reasons of second-stage failures: an empty entry is a missing permission. */
function legacyReason(failed: number, blameWrite: boolean): number {
  if (failed === SS_FAIL.ROOT_ACCESS) return FAULT_REASON.LEGACY_CONTEXT_INVALID;
  if (failed === SS_FAIL.ACCESS) return FAULT_REASON.LEGACY_PAGING_ACCESS;
  if (failed === SS_FAIL.RESERVED) return FAULT_REASON.LEGACY_PAGING_RESERVED;
  if (failed === SS_FAIL.NO_READ) return FAULT_REASON.LEGACY_READ;
  if (failed === SS_FAIL.NO_WRITE) return FAULT_REASON.LEGACY_WRITE;
  return blameWrite ? FAULT_REASON.LEGACY_WRITE : FAULT_REASON.LEGACY_READ;
}

/** Whether bits 63:N-1 of an address are all equal. */
function isCanonical(pfn: number, level5: boolean): boolean {
  return level5
    ? pfn < HALF_57_FRAMES || pfn >= ALL_FRAMES - HALF_57_FRAMES
    : pfn < HALF_48_FRAMES || pfn >= ALL_FRAMES - HALF_48_FRAMES;
}

/** Largest of 1 GiB, 2 MiB, 4 KiB around a frame that stays clear of the interrupt range. */
function passThroughSizeLg2(pfn: number): number {
  for (const sizeLg2 of [PASS_THROUGH_LG2, 21]) {
    const frames = 2 ** (sizeLg2 - 12);
    const first = pfn - (pfn % frames);
    if (first > INTERRUPT_RANGE.LAST_PFN || first + frames <= INTERRUPT_RANGE.FIRST_PFN)
      return sizeLg2;
  }
  return 12;
}
