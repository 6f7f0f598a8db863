/**
 * Walks host (v1) tables: 1 to 6 levels, level skipping, every power-of-two page size.
 *
 * @spec AMD IOMMU 2.2.3
 */
import { HAD } from '../spec/device-table-entry.ts';
import { HOST_PDE, HOST_PTE, NEXT_LEVEL } from '../spec/host-table-entry.ts';
import type { PendingUpdates } from './accessed-dirty.ts';
import { type HardwareMemory, joinAddress } from './memory.ts';
import type { TraceSink } from './trace.ts';

/** How a walk ends. */
export const WALK = {
  OK: 0,
  /** Nothing there: PR=0, skipped address bits not zero, or address beyond the table's width. */
  NOT_PRESENT: 1,
  /** Reserved bits of an entry. */
  RESERVED: 2,
  /** The rights of an entry forbid the request. */
  DENIED: 3,
  /** A page size or NextLevel that cannot stand there. */
  BAD_LEVEL: 4,
  /** Nothing answered at the walker's `entryAddress`. */
  ABORT: 5,
  /** Guest walks: the host table refused a guest physical address. */
  HOST: 6,
} as const;

/** Rights as the IOTLB keeps them; reads and writes as in a request's `need`. */
export const RIGHT = {
  R: 1,
  W: 2,
  /** Execute; host tables do not forbid it. */
  X: 4,
  /** User requests; host tables do not tell them apart. */
  USER: 8,
  /** HOST_PTE.U: a device must not keep the translation. */
  UNTRANSLATED_ONLY: 16,
  /** HOST_PTE.FC. */
  COHERENT: 32,
} as const;

const PR = HOST_PTE.fields.PR.mask;
const A = HOST_PTE.fields.A.mask;
const D = HOST_PTE.fields.D.mask;
const U_HI = HOST_PTE.fields.U.mask;
const FC_HI = HOST_PTE.fields.FC.mask;
const { NEXT_LEVEL: NEXT } = HOST_PTE.fields;
const ADDR_LO = 0xffff_f000 | 0;
const ADDR_HI = HOST_PTE.fields.ADDR.masks[1] as number;
const LEAF_RESERVED_HI = HOST_PTE.reservedMasks[1] as number;
const TABLE_RESERVED_HI = HOST_PDE.reservedMasks[1] as number;
/** IR and IW are bits 29 and 30 of the high dword; here READ is 1 and WRITE 2. */
const RIGHTS_SHIFT = HOST_PTE.fields.IR.shift;
const READ_WRITE = RIGHT.R | RIGHT.W;

const MAX_LEVELS = 6;
const LAST_INDEX = 511;
/** 4 KiB frames that one entry of a level spans, by level (1 to 6). */
const FRAMES = Array.from({ length: MAX_LEVELS + 2 }, (_, level) => 2 ** (9 * (level - 1)));

/** 4 KiB frames of a page, by lg2 of its bytes. */
const PAGE_FRAMES = Float64Array.from({ length: 64 }, (_, lg2) => 2 ** (lg2 - 12));

/** One walker per unit; the result of the last walk stands in its fields. */
export class HostTableWalker {
  /** 4 KiB frame of the result. */
  pfn = 0;
  /** Rights of all entries together, and the leaf's attributes: a sum of {@link RIGHT}. */
  rights = 0;
  /** lg2 of the page's bytes. */
  sizeLg2 = 12;
  /** The leaf's dirty bit needs no further write of it. */
  dirtyKnown = true;
  /** Byte address of the entry read last. */
  entryAddress = 0;
  trace: TraceSink | undefined;

  readonly #memory: HardwareMemory;
  readonly #pending: PendingUpdates;
  readonly #visited = new Float64Array(MAX_LEVELS);
  readonly #visitedWord = new Int32Array(MAX_LEVELS);

  constructor(memory: HardwareMemory, pending: PendingUpdates) {
    this.#memory = memory;
    this.#pending = pending;
  }

  /**
   * Walk. Each step goes to a lower level, so there are at most six. @hot
   *
   * @param root byte address of the top table
   * @param mode levels, 1 to 6
   * @param iovaPfn 4 KiB frame, 52 bits
   * @param need rights that every entry must have: 1 read, 2 write
   * @param write the request writes where it may: the dirty bit is owed
   * @param had DTE.HAD
   * @returns one of {@link WALK}
   */
  walk(
    root: number,
    mode: number,
    iovaPfn: number,
    need: number,
    write: boolean,
    had: number,
  ): number {
    if (mode < MAX_LEVELS && iovaPfn >= (FRAMES[mode + 1] as number)) return WALK.NOT_PRESENT;
    let table = root;
    let level = mode;
    let rights: number = READ_WRITE;
    for (let step = 0; ; step++) {
      const index = Math.floor(iovaPfn / (FRAMES[level] as number)) & LAST_INDEX;
      const address = table + index * 8;
      this.entryAddress = address;
      const region = this.#memory.regionAt(address);
      if (region === undefined) return this.#noAnswer(address);
      const at = (address - region.base) >>> 2;
      const lo = region.i32[at] as number;
      const hi = region.i32[at + 1] as number;
      this.#visited[step] = address;
      this.#visitedWord[step] = lo;
      const next = (lo >>> NEXT.shift) & 7;
      const leaf = next === NEXT_LEVEL.LEAF || next === NEXT_LEVEL.SIZED_LEAF;
      if (this.trace !== undefined) this.#traceEntry(address, lo, hi, level, leaf);
      if ((lo & PR) === 0) return WALK.NOT_PRESENT;
      if ((hi & (leaf ? LEAF_RESERVED_HI : TABLE_RESERVED_HI)) !== 0) return WALK.RESERVED;
      rights &= hi >>> RIGHTS_SHIFT;
      if ((need & ~rights) !== 0) return WALK.DENIED;
      if (leaf) return this.#leaf(lo, hi, level, next, iovaPfn, rights, write, had, step);
      if (next >= level) return WALK.BAD_LEVEL;
      if (!skipsOnlyZeros(iovaPfn, level, next)) return WALK.NOT_PRESENT;
      table = joinAddress(lo & ADDR_LO, hi & ADDR_HI);
      level = next;
    }
  }

  #leaf(
    lo: number,
    hi: number,
    level: number,
    next: number,
    iovaPfn: number,
    rights: number,
    write: boolean,
    had: number,
    step: number,
  ): number {
    const sizeLg2 = next === NEXT_LEVEL.SIZED_LEAF ? codedSizeLg2(lo, hi) : 3 + 9 * level;
    if (!fitsLevel(sizeLg2, level, next)) return WALK.BAD_LEVEL;
    const frames = PAGE_FRAMES[sizeLg2] as number;
    const target = joinAddress(lo & ADDR_LO, hi & ADDR_HI) / 4096;
    this.pfn = target - (target % frames) + (iovaPfn % frames);
    const untranslated = (hi & U_HI) !== 0 ? RIGHT.UNTRANSLATED_ONLY : 0;
    const coherent = (hi & FC_HI) !== 0 ? RIGHT.COHERENT : 0;
    this.rights = rights | RIGHT.X | RIGHT.USER | untranslated | coherent;
    this.sizeLg2 = sizeLg2;
    this.dirtyKnown = true;
    if (had !== HAD.OFF) this.#owe(step, had, write && (rights & RIGHT.W) !== 0);
    return WALK.OK;
  }

  /** Owe A in every entry used and D in the leaf of a write; only that copy of a sized leaf. */
  #owe(last: number, had: number, write: boolean): void {
    for (let step = 0; step < last; step++) this.#oweBits(step, A);
    const dirty = had === HAD.ACCESSED_DIRTY && write;
    this.#oweBits(last, dirty ? A | D : A);
    const word = this.#visitedWord[last] as number;
    this.dirtyKnown = had !== HAD.ACCESSED_DIRTY || dirty || (word & D) !== 0;
  }

  #oweBits(step: number, bits: number): void {
    if (((this.#visitedWord[step] as number) & bits) === bits) return;
    this.#pending.add(this.#visited[step] as number, bits);
  }

  #noAnswer(address: number): number {
    this.trace?.busError(HOST_PTE, address);
    return WALK.ABORT;
  }

  #traceEntry(address: number, lo: number, hi: number, level: number, leaf: boolean): void {
    const layout = leaf ? HOST_PTE : HOST_PDE;
    this.trace?.read(layout, address, [lo, hi], `host table, level ${level}`);
  }
}

/** Size of a leaf with NextLevel 7: twice the run of ones that bits 11:0 continue. */
export const codedSizeLg2 = (lo: number, hi: number): number => {
  const zerosLo = ~(lo | 0xfff);
  if (zerosLo !== 0) return trailingZeros(zerosLo) + 1;
  const zerosHi = ~(hi & ADDR_HI);
  return 32 + trailingZeros(zerosHi) + 1;
};

const trailingZeros = (word: number): number => 31 - Math.clz32(word & -word);

/** A coded size lies strictly between the sizes of this level and the next. */
const fitsLevel = (sizeLg2: number, level: number, next: number): boolean => {
  if (level === MAX_LEVELS) return false;
  if (next !== NEXT_LEVEL.SIZED_LEAF) return true;
  return sizeLg2 > 3 + 9 * level && sizeLg2 < 12 + 9 * level;
};

/** Whether the address bits of the levels between `level` and `next` are zero. */
const skipsOnlyZeros = (iovaPfn: number, level: number, next: number): boolean =>
  next === level - 1 || iovaPfn % (FRAMES[level] as number) < (FRAMES[next + 1] as number);
