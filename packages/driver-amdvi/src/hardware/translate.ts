/**
 * One request through the tables, in the order of the specification's steps. No memory of its own but
 * the results of the last call; caching of results and recording of events is the caller's.
 *
 * @spec AMD IOMMU 2.1.3, 2.2.4 (I/O page translation sequence), 2.2.6 (guest translation)
 */
import { hex } from '@iommukit/bits';
import { ENTRY_KIND, NO_PASID } from '@iommukit/pgtable-fast';
import { DTE } from '../spec/device-table-entry.ts';
import { EVENT } from '../spec/events.ts';
import { DEVICE, DTE_INFO, DTE_VERDICT, GUEST } from './caches.ts';
import { gcr3RootOf, glxOf, guestLevelsOf, hadOf, hostRootOf, modeOf } from './device-entry.ts';
import { FOUND } from './device-table.ts';
import { FLAG } from './event-records.ts';
import { createGuestWalk, isGuestAddress } from './guest-table-walker.ts';
import { RIGHT, WALK } from './host-table-walker.ts';
import { joinAddress } from './memory.ts';
import { htRange, interruptRange, isHtRange, isInterruptRange, SPECIAL } from './special-ranges.ts';
import type { TranslationRequest } from './translation-request.ts';
import { TranslatorState } from './translator-state.ts';

const { TV, EX, IR } = DTE.fields;
const READ_WRITE = RIGHT.R | RIGHT.W;
const ALL_RIGHTS = READ_WRITE | RIGHT.X | RIGHT.USER;
const LOW_PAGE = 0xfff;

/** Translates; the result of the last call stands in its fields. */
export class Translator extends TranslatorState {
  readonly #guestWalk = createGuestWalk();

  /**
   * An untranslated memory request. @hot
   * @returns 0, or the code of the event that {@link refusal} describes
   */
  resolve(request: TranslationRequest): number {
    const found = this.locate(request);
    return found !== 0 ? found : this.located(request);
  }

  /** The same, when {@link locate} has found the device table entry. @hot */
  located(request: TranslationRequest): number {
    if (request.pasid === NO_PASID) {
      const { pfn } = request;
      if (isInterruptRange(pfn) || (this.state.htRange && isHtRange(pfn))) {
        const verdict = this.#special(request);
        if (verdict !== SPECIAL.TRANSLATE) return this.#concludeSpecial(request, verdict);
      }
    }
    return this.configured(request);
  }

  /** Find the device table entry. @returns 0, or an event code */
  locate(request: TranslationRequest): number {
    this.begin();
    const { device } = this;
    const found = device.find(request.rid);
    if (found === FOUND.ENTRY) return 0;
    if (found === FOUND.OUT_OF_RANGE) {
      this.trace?.rule('DeviceID beyond the device table');
      return this.refuse(EVENT.IO_PAGE_FAULT, 0, request.pfn, request.offset);
    }
    return this.refuseTable(EVENT.DEV_TAB_HARDWARE_ERROR, writeFlag(request), device.address);
  }

  #special(request: TranslationRequest): number {
    const { words, at } = this.device;
    const write = (request.need & RIGHT.R) === 0;
    if (isInterruptRange(request.pfn)) return interruptRange(words, at + DEVICE.WORDS, write);
    return htRange(words, at, request.pfn, write);
  }

  #concludeSpecial(request: TranslationRequest, verdict: number): number {
    const { pfn, offset } = request;
    this.trace?.rule(`special address range, verdict ${verdict}`);
    switch (verdict) {
      case SPECIAL.FORWARD:
        return this.#pass(request);
      case SPECIAL.PAGE_FAULT:
        return this.refuse(EVENT.IO_PAGE_FAULT, 0, pfn, offset);
      case SPECIAL.INTERRUPT_FAULT:
      case SPECIAL.INTERRUPT_SILENT:
        this.silent = verdict === SPECIAL.INTERRUPT_SILENT;
        return this.refuse(EVENT.IO_PAGE_FAULT, FLAG.I, pfn, offset);
      case SPECIAL.INTERRUPT_RESERVED:
        return this.refuse(EVENT.ILLEGAL_DEV_TABLE_ENTRY, FLAG.I | FLAG.RZ, pfn, offset);
      default:
        this.refusal.type = verdict - SPECIAL.INVALID;
        return this.refuse(EVENT.INVALID_DEVICE_REQUEST, 0, pfn, offset);
    }
  }

  /**
   * A translated request of a device that may send them: the entry's reserved bits, IR and IW count, the
   * address is not looked at.
   */
  translated(request: TranslationRequest): number {
    const { words, at } = this.device;
    if (words[at + DEVICE.VERDICT] === DTE_VERDICT.RESERVED_BITS) {
      return this.#illegalEntry(request, FLAG.RZ);
    }
    const allowed = ((words[at + 1] as number) >>> IR.shift) & READ_WRITE;
    if ((request.need & READ_WRITE & ~allowed) === 0) return this.#pass(request);
    return this.pageFault(request, FLAG.PR | FLAG.PE);
  }

  /** Everything after the special addresses: what the entry says, then the tables. */
  configured(request: TranslationRequest): number {
    const { words, at } = this.device;
    const verdict = words[at + DEVICE.VERDICT] as number;
    if (verdict === DTE_VERDICT.PASS) return this.#pass(request, 'DTE.V=0: passes untranslated');
    if (verdict === DTE_VERDICT.RESERVED_BITS) return this.#illegalEntry(request, FLAG.RZ);
    this.excluded = this.#isExcluded(request);
    if (this.excluded) return this.#pass(request, 'inside the exclusion range');
    const gn = request.pasid === NO_PASID ? 0 : FLAG.GN;
    if (((words[at] as number) & TV.mask) === 0) {
      this.trace?.rule('DTE.TV=0: blocked');
      return this.pageFault(request, gn);
    }
    const info = words[at + DEVICE.INFO] as number;
    const guest = request.pasid === NO_PASID ? info & DTE_INFO.GUEST_ZERO : info & DTE_INFO.GUEST;
    const mode = modeOf(words, at);
    // The width of the address comes before the entry's rights: PR=0 although PE would hold too.
    if (guest === 0 && gn === 0 && isTooWide(request.pfn, mode)) return this.pageFault(request, 0);
    const allowed = ((words[at + 1] as number) >>> IR.shift) & READ_WRITE;
    if ((request.need & READ_WRITE & ~allowed) !== 0) {
      this.trace?.rule('DTE.IR or IW forbids it');
      return this.pageFault(request, gn | FLAG.PR | FLAG.PE);
    }
    if (verdict === DTE_VERDICT.UNSUPPORTED_MODE) return this.#illegalEntry(request, 0);
    if (guest !== 0) return this.#guestStage(request, mode);
    if (gn !== 0) {
      this.trace?.rule('PASID without guest tables (DTE.GV=0)');
      return this.pageFault(request, gn);
    }
    return mode === 0
      ? this.#pass(request, 'DTE.Mode=0: identity')
      : this.#hostStage(request, mode);
  }

  #illegalEntry(request: TranslationRequest, flags: number): number {
    const { pfn, offset } = request;
    this.trace?.rule(flags === 0 ? 'DTE.Mode is not supported' : 'reserved bits or values in DTE');
    return this.refuse(EVENT.ILLEGAL_DEV_TABLE_ENTRY, flags | writeFlag(request), pfn, offset & ~3);
  }

  /** The address itself. */
  #pass(request: TranslationRequest, rule?: string): number {
    if (rule !== undefined) this.trace?.rule(rule);
    this.pfn = request.pfn;
    this.rights = ALL_RIGHTS;
    this.sizeLg2 = 12;
    return 0;
  }

  #hostStage(request: TranslationRequest, mode: number): number {
    const { words, at } = this.device;
    const { host } = this;
    const { pfn, need, write } = request;
    const root = hostRootOf(words, at);
    const result = host.walk(root, mode, pfn, need & READ_WRITE, write, hadOf(words, at));
    if (result === WALK.OK) {
      this.takeWalk(host, ENTRY_KIND.SECOND_STAGE, NO_PASID);
      return 0;
    }
    if (result !== WALK.ABORT) return this.pageFault(request, WALK_FLAGS[result] as number);
    return this.refuseTable(EVENT.PAGE_TAB_HARDWARE_ERROR, writeFlag(request), host.entryAddress);
  }

  /** Guest tables, alone or nested; requests without PASID use PASID 0. */
  #guestStage(request: TranslationRequest, mode: number): number {
    const { words, at } = this.device;
    const { guestPhysical, guest, state } = this;
    guestPhysical.mode = mode;
    guestPhysical.root = hostRootOf(words, at);
    guestPhysical.had = hadOf(words, at);
    const pasid = request.pasid === NO_PASID ? 0 : request.pasid;
    const root = this.#guestRoot(request, pasid, mode);
    if (root < 0) return this.refusal.code;
    const levels = guestLevelsOf(words, at);
    if (!isGuestAddress(request.pfn, levels, pasid)) {
      this.trace?.rule('the address is wider than the guest tables, or not canonical');
      return this.pageFault(request, FLAG.GN);
    }
    const walk = this.#guestWalk;
    walk.root = root;
    walk.offset = request.offset;
    walk.levels = levels;
    walk.need = request.need;
    walk.write = request.write;
    walk.accessed = state.guestAccessed;
    walk.dirty = state.guestDirty;
    const result = guest.walk(walk, request.pfn);
    if (result !== WALK.OK) return this.#guestFault(request, result, guest.entryAddress);
    this.takeWalk(guest, mode === 0 ? ENTRY_KIND.FIRST_STAGE : ENTRY_KIND.NESTED, pasid);
    return 0;
  }

  /** The guest's CR3: cached by DomainID and PASID, else out of the GCR3 tables; -1 = refused. */
  #guestRoot(request: TranslationRequest, pasid: number, mode: number): number {
    const { words, at, domain } = this.device;
    const { guests } = this.caches;
    const cached = this.readGuestCache ? guests.lookup(domain, pasid) : -1;
    if (this.trace !== undefined && this.readGuestCache) {
      this.trace.cache('guest CR3 cache', cached >= 0, `DomainID ${domain} PASID ${hex(pasid)}`);
    }
    if (cached >= 0) {
      const lo = guests.words[cached + GUEST.LO] as number;
      return joinAddress(lo, guests.words[cached + GUEST.HI] as number);
    }
    const { gcr3, state } = this;
    const throughHost = state.guestGcr3 && mode !== 0;
    const beyond = pasid >>> this.features.pasidBits !== 0;
    const result = beyond
      ? WALK.NOT_PRESENT
      : gcr3.walk(gcr3RootOf(words, at), glxOf(words, at), pasid, throughHost);
    if (result !== WALK.OK) {
      this.#guestFault(request, result, gcr3.entryAddress);
      return -1;
    }
    if (this.fillGuestCache) this.keepGuestRoot(domain, pasid, gcr3.cr3);
    return gcr3.cr3;
  }

  #guestFault(request: TranslationRequest, result: number, entryAddress: number): number {
    if (result === WALK.HOST) return this.#nestedFault();
    if (result === WALK.ABORT) {
      const flags = FLAG.GN | writeFlag(request);
      return this.refuseTable(EVENT.PAGE_TAB_HARDWARE_ERROR, flags, entryAddress);
    }
    return this.pageFault(request, FLAG.GN | (WALK_FLAGS[result] as number));
  }

  /** The host table refused a guest physical address: GN=0, that address, the access as done. */
  #nestedFault(): number {
    const { result, pfn, offset, write } = this.guestPhysical;
    const rw = write ? FLAG.RW : 0;
    if (result === WALK.ABORT) {
      return this.refuseTable(EVENT.PAGE_TAB_HARDWARE_ERROR, rw, this.host.entryAddress);
    }
    const flags = WALK_FLAGS[result] as number;
    this.trace?.rule('the host table refuses a guest physical address');
    const told = (flags & FLAG.PR) !== 0 ? flags | rw : flags;
    return this.refuse(EVENT.IO_PAGE_FAULT, told, pfn, offset & LOW_PAGE);
  }

  /** IO_PAGE_FAULT; RW, US and NX describe the request where a translation was found. */
  protected pageFault(request: TranslationRequest, flags: number): number {
    let told = flags;
    if ((flags & FLAG.PR) !== 0) {
      told |= writeFlag(request);
      if ((flags & FLAG.GN) !== 0) {
        if ((request.need & RIGHT.USER) !== 0) told |= FLAG.US;
        if ((request.need & RIGHT.X) !== 0) told |= FLAG.NX;
      }
    }
    return this.refuse(EVENT.IO_PAGE_FAULT, told, request.pfn, request.offset);
  }

  /** Exclusion range; it does not apply to requests with PASID. */
  #isExcluded(request: TranslationRequest): boolean {
    const { exclusion, exclusionForAll, exclusionFirstPfn, exclusionLastPfn } = this.state;
    if (!exclusion || request.pasid !== NO_PASID) return false;
    const w3 = this.device.words[this.device.at + EX.word] as number;
    if (!exclusionForAll && (w3 & EX.mask) === 0) return false;
    return request.pfn >= exclusionFirstPfn && request.pfn <= exclusionLastPfn;
  }
}

/**
 * First 4 KiB frame beyond a host table, by Mode; there is none for Mode 0, 6 and 7. By lookup: a
 * power costs more than the whole rest of a cache hit.
 */
export const END_OF_TABLE = Float64Array.from({ length: 8 }, (_, mode) =>
  mode >= 1 && mode < 6 ? 2 ** (9 * mode) : Number.POSITIVE_INFINITY,
);

/** Whether an address has more bits than a host table of `mode` levels translates. */
const isTooWide = (pfn: number, mode: number): boolean => pfn >= (END_OF_TABLE[mode] as number);

/** Flags of the page fault, by walk result. RW counts only beside PR. */
const WALK_FLAGS: readonly number[] = [0, 0, FLAG.PR | FLAG.RZ, FLAG.PR | FLAG.PE, FLAG.PR];

const writeFlag = (request: TranslationRequest): number =>
  (request.need & RIGHT.W) !== 0 ? FLAG.RW : 0;
