/**
 * Untranslated requests, in the order of the specification's steps.
 *
 * @spec AMD IOMMU 2.1.3, 2.2.4 (I/O page translation sequence)
 */
import { ENTRY_KIND, NO_PASID } from '@iommukit/pgtable-fast';
import { DTE, HAD } from '../spec/device-table-entry.ts';
import { DEVICE_REQUEST_TYPE } from '../spec/events.ts';
import { type Caches, DEVICE, DTE_VERDICT } from './caches.ts';
import type { Features } from './capabilities.ts';
import { judgeDeviceEntry } from './device-entry.ts';
import { type EventRecords, FLAG } from './event-records.ts';
import { type HostTableWalker, WALK } from './host-table-walker.ts';
import { interruptVerdict } from './interrupts.ts';
import { type HardwareMemory, joinAddress, readDwords } from './memory.ts';
import type { UnitState } from './unit-state.ts';

/** What the agent returns for a refused request (target abort). */
const BLOCKED = -1;

/** Bits of a request's `access`, as on the bus. */
const READ = 1;
const WRITE = 2;
const ATOMIC = 16;

const { TV, MODE, IR, SE, SA, EX } = DTE.fields;
const HAD_SHIFT = DTE.fields.HAD.shift;
const ROOT_LO = 0xffff_f000 | 0;
const ROOT_HI = DTE.fields.HOST_ROOT.masks[1] as number;
const RIGHTS_SHIFT = IR.shift;
const DOMAIN_MASK = 0xffff;

const FIRST_INTERRUPT_PFN = 0xfee00;
const LAST_INTERRUPT_PFN = 0xfeeff;
const PASID_LOW_MASK = 0xffff;

/** Where a request comes from and goes to, while it is worked on. */
interface Request {
  rid: number;
  pasid: number;
  pfn: number;
  offset: number;
  /** Rights it needs: 1 read, 2 write. */
  need: number;
}

/** Translates requests of one unit. */
export class Translator {
  readonly #memory: HardwareMemory;
  readonly #state: UnitState;
  readonly #features: Features;
  readonly #caches: Caches;
  readonly #walker: HostTableWalker;
  readonly #events: EventRecords;
  readonly #fetched = new Int32Array(8);
  readonly #request: Request = { rid: 0, pasid: NO_PASID, pfn: 0, offset: 0, need: 0 };

  constructor(
    memory: HardwareMemory,
    state: UnitState,
    features: Features,
    caches: Caches,
    walker: HostTableWalker,
    events: EventRecords,
  ) {
    this.#memory = memory;
    this.#state = state;
    this.#features = features;
    this.#caches = caches;
    this.#walker = walker;
    this.#events = events;
  }

  /**
   * Translate one page. @hot
   *
   * @param pasid 20 bits, or -1
   * @param pfn 4 KiB frame of the address
   * @param access sum of the bus's access bits
   * @param offset byte offset in the page, for the event
   * @returns 4 KiB frame, or {@link BLOCKED}
   */
  translate(rid: number, pasid: number, pfn: number, access: number, offset: number): number {
    if (!this.#state.enabled) return pfn;
    const request = this.#request;
    request.rid = rid;
    request.pasid = pasid;
    request.pfn = pfn;
    request.offset = offset;
    request.need = rightsNeeded(access);
    const cached = this.#caches.devices.lookup(rid, NO_PASID);
    const at = cached >= 0 ? cached : this.#fetchDevice(request);
    return at < 0 ? BLOCKED : this.#withDevice(request, at);
  }

  /** Steps after the device table entry at `devices.words[at]` is known. */
  #withDevice(request: Request, at: number): number {
    const words = this.#caches.devices.words;
    const { pfn } = request;
    if (pfn >= FIRST_INTERRUPT_PFN && pfn <= LAST_INTERRUPT_PFN && request.pasid === NO_PASID) {
      return this.#interruptRange(request, at);
    }
    const verdict = words[at + DEVICE.VERDICT] as number;
    if (verdict === DTE_VERDICT.PASS) return pfn;
    if (verdict === DTE_VERDICT.RESERVED_BITS) return this.#illegalEntry(request, FLAG.RZ);
    if (this.#isExcluded(request, words[at + 3] as number)) return pfn;
    const w0 = words[at] as number;
    if ((w0 & TV.mask) === 0) return this.#pageFault(request, at, 0);
    const mode = (w0 >>> MODE.shift) & 7;
    // The width of the address comes before the entry's rights: PR=0 although PE would hold too.
    if (request.pasid === NO_PASID && isTooWide(pfn, mode)) return this.#pageFault(request, at, 0);
    const allowed = (words[at + 1] as number) >>> RIGHTS_SHIFT;
    if ((request.need & ~allowed) !== 0) return this.#pageFault(request, at, FLAG.PR | FLAG.PE);
    if (verdict === DTE_VERDICT.UNSUPPORTED_MODE) return this.#illegalEntry(request, 0);
    if (request.pasid !== NO_PASID) return this.#pageFault(request, at, FLAG.GN);
    return mode === 0 ? pfn : this.#hostTable(request, at, mode);
  }

  /** Host translation: IOTLB, then the table. Rights of the device entry are not cached with it. */
  #hostTable(request: Request, at: number, mode: number): number {
    const { pfn, need } = request;
    const { iotlb, devices } = this.#caches;
    const domain = (devices.words[at + 2] as number) & DOMAIN_MASK;
    const hit = iotlb.lookup(domain, NO_PASID, pfn, need);
    if (hit >= 0) return hit;
    const w0 = devices.words[at] as number;
    const had = (w0 >>> HAD_SHIFT) & HAD.ACCESSED_DIRTY;
    const root = joinAddress(w0 & ROOT_LO, (devices.words[at + 1] as number) & ROOT_HI);
    const walker = this.#walker;
    const result = walker.walk(root, mode, pfn, need, had);
    if (result !== WALK.OK) return this.#walkFault(request, at, result, domain);
    iotlb.insert(
      domain,
      NO_PASID,
      pfn,
      walker.pfn,
      walker.sizeLg2,
      walker.rights,
      walker.dirtyKnown,
      ENTRY_KIND.SECOND_STAGE,
      domain,
      NO_PASID,
    );
    return walker.pfn;
  }

  #walkFault(request: Request, at: number, result: number, domain: number): number {
    if (result !== WALK.ABORT) return this.#pageFault(request, at, WALK_FLAGS[result] as number);
    const entry = this.#walker.entryAddress;
    this.#events.pageTabHardwareError(request.rid, domain, writeFlag(request), entry);
    return BLOCKED;
  }

  /** Read a device table entry into the cache; -1 when the request ended there. */
  #fetchDevice(request: Request): number {
    const { rid } = request;
    const address = this.#state.dteAddress(rid);
    if (address < 0) {
      this.#events.pageFault(rid, 0, 0, request.pfn, request.offset);
      return -1;
    }
    const words = this.#fetched;
    if (!readDwords(this.#memory, address, words, 8)) {
      this.#events.devTabHardwareError(rid, writeFlag(request), address);
      return -1;
    }
    const { devices } = this.#caches;
    const at = devices.insert(rid, NO_PASID, (words[2] as number) & DOMAIN_MASK, NO_PASID);
    devices.words.set(words, at);
    devices.words[at + DEVICE.VERDICT] = judgeDeviceEntry(words, this.#features);
    return at;
  }

  /** Interrupt messages: writes to FEEx_xxxx; everything else there is an invalid request. */
  #interruptRange(request: Request, at: number): number {
    const { rid, pfn, offset } = request;
    if ((request.need & READ) !== 0) {
      const type = DEVICE_REQUEST_TYPE.READ_IN_INTERRUPT_RANGE;
      this.#events.invalidDeviceRequest(rid, type, pfn, offset);
      return BLOCKED;
    }
    const verdict = interruptVerdict(this.#caches.devices.words, at + DEVICE.WORDS);
    if (verdict.forward) return pfn;
    if (verdict.reserved) this.#events.illegalDevTableEntry(rid, FLAG.I | FLAG.RZ, pfn, offset);
    else if (verdict.log) {
      const domain = (this.#caches.devices.words[at + 2] as number) & DOMAIN_MASK;
      this.#events.pageFault(rid, domain, FLAG.I, pfn, offset);
    }
    return BLOCKED;
  }

  /** Exclusion range; it does not apply to requests with PASID. */
  #isExcluded(request: Request, w3: number): boolean {
    const { exclusion, exclusionForAll, exclusionFirstPfn, exclusionLastPfn } = this.#state;
    if (!exclusion || request.pasid !== NO_PASID) return false;
    if (!exclusionForAll && (w3 & EX.mask) === 0) return false;
    return request.pfn >= exclusionFirstPfn && request.pfn <= exclusionLastPfn;
  }

  #illegalEntry(request: Request, flags: number): number {
    const { rid, pfn, offset } = request;
    this.#events.illegalDevTableEntry(rid, flags | writeFlag(request), pfn, offset);
    return BLOCKED;
  }

  /** IO_PAGE_FAULT, unless DTE.SA or a second one under DTE.SE. */
  #pageFault(request: Request, at: number, flags: number): number {
    const { words } = this.#caches.devices;
    const w3 = words[at + 3] as number;
    const first = words[at + DEVICE.FAULT_LOGGED] === 0;
    words[at + DEVICE.FAULT_LOGGED] = 1;
    if ((w3 & SA.mask) !== 0 || ((w3 & SE.mask) !== 0 && !first)) return BLOCKED;
    const { rid, pasid, pfn, offset } = request;
    const guest = (flags & FLAG.GN) !== 0;
    const tag = guest ? pasid & PASID_LOW_MASK : (words[at + 2] as number) & DOMAIN_MASK;
    const rw = (flags & FLAG.PR) !== 0 ? writeFlag(request) : 0;
    this.#events.pageFault(rid, tag, flags | rw, pfn, offset, guest ? pasid >>> 16 : 0);
    return BLOCKED;
  }
}

/**
 * First 4 KiB frame beyond a host table, by Mode; there is none for Mode 0, 6 and 7. By lookup: a
 * power costs more than the whole rest of a cache hit.
 */
const END_OF_TABLE = Float64Array.from({ length: 8 }, (_, mode) =>
  mode >= 1 && mode < 6 ? 2 ** (9 * mode) : Number.POSITIVE_INFINITY,
);

/** Whether an address has more bits than a host table of `mode` levels translates. */
const isTooWide = (pfn: number, mode: number): boolean => pfn >= (END_OF_TABLE[mode] as number);

/** Flags of the page fault, by walk result. RW counts only beside PR. */
const WALK_FLAGS: readonly number[] = [0, 0, FLAG.PR | FLAG.RZ, FLAG.PR | FLAG.PE, FLAG.PR];

/** An atomic reads and writes; a request that names neither reads. */
const rightsNeeded = (access: number): number => {
  if ((access & ATOMIC) !== 0) return READ | WRITE;
  const need = access & (READ | WRITE);
  return need === 0 ? READ : need;
};

const writeFlag = (request: Request): number => ((request.need & WRITE) !== 0 ? FLAG.RW : 0);
