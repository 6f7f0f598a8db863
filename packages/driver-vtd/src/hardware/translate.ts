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
import { isCanonical, legacyReason, passThroughSizeLg2 } from './address-checks.ts';
import type { Caches } from './caches.ts';
import type { Features } from './capabilities.ts';
import { CONTEXT } from './context-cache.ts';
import { createFirstStageRequest, SCALABLE_SS_REASON } from './first-stage-walker.ts';
import type { HostPermissionTable } from './host-permission-walker.ts';
import { sourceOf } from './iotlb.ts';
import type { HardwareMemory } from './memory.ts';
import { HPT_SIZE_SHIFT, PASID_INFO } from './pasid-cache.ts';
import { RIGHT, SS_FAIL } from './second-stage-walker.ts';
import { ADDRESS_TYPE, INTERRUPT_RANGE, type TranslationRequest } from './translation-request.ts';
import { TranslatorState } from './translator-state.ts';

/** First major version that reports second-stage entries without permission as SSS.2. */
const SS_NOT_PRESENT_MAJOR = 6;

/** Translates; the result of the last call stands in its fields. */
export class Translator extends TranslatorState {
  readonly #coherentWalks: boolean;
  readonly #hawFrames: number;
  readonly #pasidBits: number;
  /** Frames below the second stage's limit, by AW code. */
  readonly #ssFrames: readonly number[];
  readonly #first = createFirstStageRequest();

  /** @param coherentWalks treat every walk as snooped, whatever PWSNP and SMPWCS say */
  constructor(memory: HardwareMemory, features: Features, caches: Caches, coherentWalks: boolean) {
    super(memory, features, caches);
    this.#coherentWalks = coherentWalks;
    this.#pasidBits = features.pasidBits;
    this.#hawFrames = 2 ** (features.hawBits - 12);
    this.#ssFrames = [0, 1, 2, 3].map((aw) => 2 ** (Math.min(features.mgawBits, 30 + 9 * aw) - 12));
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
    const { features } = this;
    const snooped =
      this.#coherentWalks ||
      (features.scalableCoherent && (this.pasid.info & PASID_INFO.PWSNP) !== 0);
    const reason = this.pending.check(snooped);
    if (reason !== 0) return reason;
    return this.commitUpdates ? this.pending.commit(this.memory) : 0;
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
    if (tagged && request.exec && this.features.major >= 8) return FAULT_REASON.EXECUTE_REQUEST;
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
    if (tagged && pasid >>> this.#pasidBits !== 0) return FAULT_REASON.PASID_BEYOND_PSS;
    return tagged ? this.explicitPasid(pasid, addressType) : 0;
  }

  /** Checks of a request that carries a PASID, a page request too, against the context entry. */
  explicitPasid(pasid: number, addressType: number): number {
    const { info, ridPasid } = this.context;
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
    if (failed === SS_FAIL.EMPTY && this.features.major < SS_NOT_PRESENT_MAJOR)
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

  /** The host permission table of the PASID entry that was found last. */
  get permissionTable(): HostPermissionTable {
    const { hptRoot, hptTag } = this.pasid;
    return { root: hptRoot, size: hptTag >>> HPT_SIZE_SHIFT, did: hptTag & 0xffff };
  }

  /**
   * A translated request behind a context entry with HPTE=1, which was found before.
   * @param access sum of `ACCESS` bits
   * @returns 0, or a fault reason
   */
  permittedAddress(rid: number, pasid: number, pfn: number, access: number): number {
    const entry = pasid >= 0 ? pasid : this.context.ridPasid;
    const missing = this.pasidEntry(rid, entry) || this.translatedAddress(pfn);
    if (missing !== 0) return missing;
    return this.hostPermission.check(sourceOf(rid, pasid, 0), pfn, access, this.permissionTable);
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
