/**
 * Walks guest (v2) tables: 4 or 5 levels of x86-64 format, pages of 4 KiB, 2 MiB and 1 GiB; alone,
 * or nested, where every table pointer and the page go through the host table.
 *
 * @spec AMD IOMMU 2.2.6 (guest translation), 2.2.6.2 (nested)
 */
import type { Layout } from '@iommukit/bits';
import {
  GUEST_ENTRY_BYTES,
  GUEST_PDE_2M,
  GUEST_PDPE_1G,
  GUEST_PML,
  GUEST_PTE,
  GUEST_TABLE,
} from '../spec/guest-table-entry.ts';
import type { PendingUpdates } from './accessed-dirty.ts';
import type { Features } from './capabilities.ts';
import type { GuestPhysical } from './guest-physical.ts';
import { type HostTableWalker, RIGHT, WALK } from './host-table-walker.ts';
import { type HardwareMemory, joinAddress } from './memory.ts';
import type { TraceSink } from './trace.ts';

const P = GUEST_PTE.fields.P.mask;
const RW = GUEST_PTE.fields.RW.mask;
const US = GUEST_PTE.fields.US.mask;
const A = GUEST_PTE.fields.A.mask;
const D = GUEST_PTE.fields.D.mask;
const PS = GUEST_PDE_2M.fields.PS.mask;
const XD_HI = GUEST_PTE.fields.XD.masks[1] as number;
const ADDR_LO = 0xffff_f000 | 0;
const ADDR_HI = GUEST_PTE.fields.ADDR.masks[1] as number;
const READ_WRITE = RIGHT.R | RIGHT.W;

const MAX_LEVELS = 5;
/** Pages may stand at levels 1 to 3. */
const TOP_LEAF_LEVEL = 3;
const LAST_INDEX = 511;
const LOW_PFN_BITS = 2 ** 20;
/** 4 KiB frames that one entry of a level spans, by level (1 to 5). */
const FRAMES = Float64Array.from({ length: MAX_LEVELS + 2 }, (_, level) => 2 ** (9 * (level - 1)));
/** Canonical addresses: frames of the lower half and first frame of the upper, by level count. */
const HALF_FRAMES = Float64Array.from({ length: MAX_LEVELS + 1 }, (_, n) => 2 ** (9 * n - 1));
const ALL_FRAMES = 2 ** 52;

const low = (layout: Layout): number => (layout.reservedMasks[0] as number) | 0;
/** Reserved bits of the low dword, by level: of leaves, and of entries that point to tables. */
const LEAF_RESERVED = [0, low(GUEST_PTE), low(GUEST_PDE_2M), low(GUEST_PDPE_1G), 0, 0];
const TABLE_RESERVED = [0, 0, low(GUEST_TABLE), low(GUEST_TABLE), low(GUEST_PML), low(GUEST_PML)];
const LEAF_LAYOUT = [GUEST_PTE, GUEST_PTE, GUEST_PDE_2M, GUEST_PDPE_1G];

/** What a guest walk is for; one object per unit, filled before each walk. */
export interface GuestWalk {
  /** Byte address of the top table. */
  root: number;
  /** Byte offset of the request in its page, for the host's refusal. */
  offset: number;
  /** 4 or 5. */
  levels: number;
  /** Rights that must be there, a sum of {@link RIGHT}. */
  need: number;
  /** The request writes where it may: dirty bits are owed. */
  write: boolean;
  /** Keep accessed bits, dirty bits (Control.GAUpdateDis, GDUpdateDis clear). */
  accessed: boolean;
  dirty: boolean;
}

/** An empty walk. */
export const createGuestWalk = (): GuestWalk => ({
  root: 0,
  offset: 0,
  levels: 4,
  need: 0,
  write: false,
  accessed: true,
  dirty: true,
});

/**
 * Whether a guest address has the form that its PASID asks for: below the table's width without
 * sign for PASID 0, sign-extended for all others. @hot
 *
 * @param pfn 4 KiB frame, 52 bits
 */
export const isGuestAddress = (pfn: number, levels: number, pasid: number): boolean => {
  const half = HALF_FRAMES[levels] as number;
  if (pasid === 0) return pfn < 2 * half;
  return pfn < half || pfn >= ALL_FRAMES - half;
};

/** One walker per unit; the result of the last walk stands in its fields. */
export class GuestTableWalker {
  /** 4 KiB frame of the result, system physical. */
  pfn = 0;
  /** A sum of {@link RIGHT}, of all entries of both stages. */
  rights = 0;
  sizeLg2 = 12;
  dirtyKnown = true;
  /** Byte address (system physical) of the entry read last. */
  entryAddress = 0;
  trace: TraceSink | undefined;

  readonly #memory: HardwareMemory;
  readonly #pending: PendingUpdates;
  readonly #host: HostTableWalker;
  readonly #guestPhysical: GuestPhysical;
  readonly #highReserved: number;
  readonly #userChecks: boolean;
  readonly #visited = new Float64Array(MAX_LEVELS);
  readonly #visitedSystem = new Float64Array(MAX_LEVELS);
  readonly #visitedWord = new Int32Array(MAX_LEVELS);

  constructor(
    memory: HardwareMemory,
    features: Features,
    pending: PendingUpdates,
    host: HostTableWalker,
    guestPhysical: GuestPhysical,
  ) {
    this.#memory = memory;
    this.#pending = pending;
    this.#host = host;
    this.#guestPhysical = guestPhysical;
    this.#userChecks = features.userChecks;
    const addressMask = ADDR_HI & ~(2 ** (features.physicalAddressBits - 32) - 1);
    this.#highReserved = features.noExecute ? addressMask : addressMask | XD_HI;
  }

  /**
   * Walk; at most five entries. @hot
   *
   * @param pfn 4 KiB frame of an address that {@link isGuestAddress}
   * @returns one of {@link WALK}
   */
  walk(walk: GuestWalk, pfn: number): number {
    let table = walk.root;
    let flags = RW | US;
    let forbidsExecute = 0;
    for (let level = walk.levels, step = 0; ; level--, step++) {
      const index = Math.floor(pfn / (FRAMES[level] as number)) & LAST_INDEX;
      const entry = table + index * GUEST_ENTRY_BYTES;
      const address = this.#guestPhysical.toSystem(entry, false);
      if (address < 0) return WALK.HOST;
      this.entryAddress = address;
      const region = this.#memory.regionAt(address);
      if (region === undefined) return this.#noAnswer(address);
      const at = (address - region.base) >>> 2;
      const lo = region.i32[at] as number;
      const hi = region.i32[at + 1] as number;
      const leaf = level === 1 || (level <= TOP_LEAF_LEVEL && (lo & PS) !== 0);
      if (this.trace !== undefined) this.#traceEntry(address, lo, hi, level, leaf);
      if ((lo & P) === 0) return WALK.NOT_PRESENT;
      const reserved = (leaf ? LEAF_RESERVED[level] : TABLE_RESERVED[level]) as number;
      if ((lo & reserved) !== 0 || (hi & this.#highReserved) !== 0) return WALK.RESERVED;
      this.#visited[step] = entry;
      this.#visitedSystem[step] = address;
      this.#visitedWord[step] = lo;
      flags &= lo;
      forbidsExecute |= hi & XD_HI;
      if (leaf) return this.#leaf(walk, pfn, lo, hi, level, step, flags, forbidsExecute !== 0);
      table = joinAddress(lo & ADDR_LO, hi & ADDR_HI);
    }
  }

  #leaf(
    walk: GuestWalk,
    pfn: number,
    lo: number,
    hi: number,
    level: number,
    step: number,
    flags: number,
    forbidsExecute: boolean,
  ): number {
    let rights: number = (flags & RW) !== 0 ? READ_WRITE : RIGHT.R;
    if (!forbidsExecute) rights |= RIGHT.X;
    if ((flags & US) !== 0 || !this.#userChecks) rights |= RIGHT.USER;
    if ((walk.need & ~rights) !== 0) return WALK.DENIED;
    const frames = FRAMES[level] as number;
    const target = (hi & ADDR_HI) * LOW_PFN_BITS + (lo >>> 12);
    this.pfn = target - (target % frames) + (pfn % frames);
    this.rights = rights;
    this.sizeLg2 = 3 + 9 * level;
    this.dirtyKnown = true;
    const nested = this.#guestPhysical.mode !== 0;
    const write = walk.write && (rights & RIGHT.W) !== 0;
    const certain = write && (!nested || (walk.need & RIGHT.W) !== 0);
    const owed = this.#owe(walk, step, certain);
    if (owed !== WALK.OK || !nested) return owed;
    return this.#page(walk, step, write, certain);
  }

  /** Owe A in every entry used, and D in the leaf when `dirty`. */
  #owe(walk: GuestWalk, last: number, dirty: boolean): number {
    const accessed = walk.accessed ? A : 0;
    for (let step = 0; step < last; step++) {
      const result = this.#oweBits(step, accessed);
      if (result !== WALK.OK) return result;
    }
    const bits = dirty && walk.dirty ? accessed | D : accessed;
    const word = (this.#visitedWord[last] as number) | bits;
    this.dirtyKnown = !walk.dirty || (word & D) !== 0;
    return this.#oweBits(last, bits);
  }

  /** Setting bits of a guest entry is a write through the host table. */
  #oweBits(step: number, bits: number): number {
    if (((this.#visitedWord[step] as number) & bits) === bits) return WALK.OK;
    const address =
      this.#guestPhysical.mode === 0
        ? (this.#visitedSystem[step] as number)
        : this.#guestPhysical.toSystem(this.#visited[step] as number, true);
    if (address < 0) return WALK.HOST;
    this.#pending.add(address, bits);
    return WALK.OK;
  }

  /** Nested: the page itself goes through the host table, with the request's access. */
  #page(walk: GuestWalk, step: number, write: boolean, dirtyOwed: boolean): number {
    const guestDirtyKnown = this.dirtyKnown;
    const host = this.#host;
    const { sizeLg2, rights } = this;
    if (
      this.#guestPhysical.page(this.pfn, walk.offset, walk.need & READ_WRITE, write) !== WALK.OK
    ) {
      return WALK.HOST;
    }
    this.pfn = host.pfn;
    this.rights =
      (rights & host.rights) | (host.rights & (RIGHT.UNTRANSLATED_ONLY | RIGHT.COHERENT));
    this.sizeLg2 = Math.min(sizeLg2, host.sizeLg2);
    const hostDirtyKnown = host.dirtyKnown;
    this.dirtyKnown = guestDirtyKnown && hostDirtyKnown;
    const late = write && !dirtyOwed && walk.dirty && (this.rights & RIGHT.W) !== 0;
    if (!late) return WALK.OK;
    // A translation request: what cannot be marked dirty is not given for writing.
    if (this.#oweBits(step, D) === WALK.OK) this.dirtyKnown = hostDirtyKnown;
    else this.rights &= ~RIGHT.W;
    return WALK.OK;
  }

  #noAnswer(address: number): number {
    this.trace?.busError(GUEST_PTE, address);
    return WALK.ABORT;
  }

  #traceEntry(address: number, lo: number, hi: number, level: number, leaf: boolean): void {
    const table = level > TOP_LEAF_LEVEL ? GUEST_PML : GUEST_TABLE;
    const layout = leaf ? (LEAF_LAYOUT[level] as Layout) : table;
    this.trace?.read(layout, address, [lo, hi], `guest table, level ${level}`);
  }
}
