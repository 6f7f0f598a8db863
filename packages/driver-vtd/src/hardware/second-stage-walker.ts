/**
 * Walks second-stage tables: 3, 4 or 5 levels, pages of 4 KiB, 2 MiB, 1 GiB.
 *
 * @spec VT-d 3.7 (second-stage translation), 9.9 (entries)
 */
import type { Layout } from '@iommukit/bits';
import {
  SS_PDE_2M,
  SS_PDPE_1G,
  SS_PML_ENTRY,
  SS_PTE,
  SS_TABLE_ENTRY,
} from '../spec/second-stage-entry.ts';
import { type PendingUpdates, UPDATE } from './accessed-dirty.ts';
import type { Features } from './capabilities.ts';
import type { HardwareMemory } from './memory.ts';
import { highMaskAbove, joinAddress } from './page-index.ts';
import { TableWindow } from './table-window.ts';
import type { TraceSink } from './trace.ts';

/** Rights as bits: what is wanted, what is left. */
export const RIGHT = { R: 1, W: 2 } as const;

/** Ways a walk fails; each mode has its own reason for them. */
export const SS_FAIL = {
  ROOT_ACCESS: 1,
  ACCESS: 2,
  EMPTY: 3,
  RESERVED: 4,
  NO_WRITE: 5,
  NO_READ: 6,
} as const;

const RW = SS_PTE.fields.R.mask | SS_PTE.fields.W.mask;
const PS = SS_PDE_2M.fields.PS.mask;
const A = SS_PTE.fields.A.mask;
const D = SS_PTE.fields.D.mask;
const SNP = SS_PTE.fields.SNP.mask;
const ADDR_LO = 0xffff_f000 | 0;
/** IR and IW, bits 61 and 62: their place in the high dword, and both of them. */
const IO_SHIFT = 29;
const IO_RIGHTS = RW << IO_SHIFT;
const ADDR_HI = SS_PTE.fields.ADDR.masks[1] as number;

const low = (layout: Layout) => (layout.reservedMasks[0] as number) | 0;
const PML_RESERVED = low(SS_PML_ENTRY as unknown as Layout);
const DIR_RESERVED = low(SS_TABLE_ENTRY as unknown as Layout);

/** Low dword bits that are reserved in a leaf, by level. */
function leafReservedBits(features: Features): Int32Array {
  const snp = features.snoopControl ? 0 : SNP;
  return Int32Array.of(
    low(SS_PTE as unknown as Layout) | snp,
    features.ss2M ? low(SS_PDE_2M as unknown as Layout) | snp : PS,
    features.ss1G ? low(SS_PDPE_1G as unknown as Layout) | snp : PS,
    PML_RESERVED,
    PML_RESERVED,
  );
}

/** One walker per unit; the result of the last walk stands in its fields. */
export class SecondStageWalker {
  /** 4 KiB frame of the result. */
  pfn = 0;
  /** Rights that are left, see {@link RIGHT}. */
  rights = 0;
  /** lg2 of the page's bytes. */
  sizeLg2 = 12;
  /** Leaf SNP bit. */
  snoop = false;
  /** The leaf's dirty bit is set or about to be, or not kept. */
  cleanWrite = true;
  /** Set while a request is explained. */
  trace: TraceSink | undefined;

  readonly #window: TableWindow;
  readonly #pending: PendingUpdates;
  readonly #leafReserved: Int32Array;
  #highReserved: number;
  readonly #strictHighReserved: number;
  /** IR and IW count instead of R and W. */
  #ioRights = false;

  constructor(memory: HardwareMemory, features: Features, pending: PendingUpdates) {
    this.#window = new TableWindow(memory);
    this.#pending = pending;
    this.#leafReserved = leafReservedBits(features);
    this.#strictHighReserved =
      (SS_PTE.reservedMasks[1] as number) | highMaskAbove(features.hawBits, 51) | 0;
    this.#highReserved = this.#strictHighReserved;
  }

  /** RTADDR.SSIRWE: bits 61 and 62 give the rights, bits 0 and 1 are ignored. */
  set ioRights(on: boolean) {
    this.#ioRights = on;
    this.#highReserved = this.#strictHighReserved & (on ? ~IO_RIGHTS : -1);
  }

  /**
   * Walk. @hot
   *
   * @param root 4 KiB frame of the top table
   * @param levels 3, 4 or 5
   * @param pfn 4 KiB frame of the input; below 2^(levels * 9)
   * @param want rights that must be there; 0 = report what is there
   * @param keepDirty accessed and dirty bits are kept (SSADE)
   * @param write set the dirty bit of the leaf if it may be written
   * @returns 0, or one of {@link SS_FAIL}
   */
  walk(
    root: number,
    levels: number,
    pfn: number,
    want: number,
    keepDirty: boolean,
    write: boolean,
  ): number {
    const window = this.#window;
    const { trace } = this;
    const leafReserved = this.#leafReserved;
    const highReserved = this.#highReserved;
    const ioRights = this.#ioRights;
    const pfnLow = pfn | 0;
    const pfnHigh = (pfn / 0x800_0000) | 0;
    let rights = RW;
    let lo = root << 12;
    let hi = (root / 0x10_0000) | 0;
    let table = window.begin(lo, hi);
    for (let level = levels - 1; ; level--) {
      if (table < 0) return this.#noAnswer(lo, hi, level, levels);
      const index = level < 3 ? pfnLow >>> (9 * level) : pfnHigh >>> (9 * (level - 3));
      const at = table + (index & 511) * 2;
      const { i32 } = window;
      lo = i32[at] as number;
      hi = i32[at + 1] as number;
      if (trace !== undefined) this.#traceEntry(window.addressOf(at), lo, hi, level);
      const own = ioRights ? hi >>> IO_SHIFT : lo;
      if ((own & RW) === 0) return SS_FAIL.EMPTY;
      const leaf = level === 0 || (lo & PS) !== 0;
      const reserved = leaf
        ? (leafReserved[level] as number)
        : level < 3
          ? DIR_RESERVED
          : PML_RESERVED;
      if ((lo & reserved) !== 0 || (hi & highReserved) !== 0) return SS_FAIL.RESERVED;
      rights &= own;
      if (rights === 0) return SS_FAIL.EMPTY;
      if ((want & ~rights) !== 0) return missing(want & ~rights);
      if (leaf) {
        this.rights = rights;
        return this.#leaf(lo, hi, level, pfn, keepDirty, write, at);
      }
      if (keepDirty && (lo & A) === 0)
        this.#pending.add(window.addressOf(at), A, UPDATE.SECOND_STAGE);
      table = window.indexOf(lo, hi & ADDR_HI);
    }
  }

  #leaf(
    lo: number,
    hi: number,
    level: number,
    pfn: number,
    keepDirty: boolean,
    write: boolean,
    at: number,
  ): number {
    this.cleanWrite = true;
    if (keepDirty) {
      const bits = write && (this.rights & RIGHT.W) !== 0 ? A | D : A;
      if ((lo & bits) !== bits)
        this.#pending.add(this.#window.addressOf(at), bits, UPDATE.SECOND_STAGE);
      this.cleanWrite = ((lo | bits) & D) !== 0;
    }
    const pageFrames = (1 << (9 * level)) - 1;
    this.pfn = (hi & ADDR_HI) * 0x10_0000 + (lo >>> 12) + ((pfn | 0) & pageFrames);
    this.sizeLg2 = 12 + 9 * level;
    this.snoop = (lo & SNP) !== 0;
    return 0;
  }

  #noAnswer(lo: number, hi: number, level: number, levels: number): number {
    this.trace?.busError(
      SS_PML_ENTRY as unknown as Layout,
      joinAddress(lo & ADDR_LO, hi & ADDR_HI),
    );
    return level === levels - 1 ? SS_FAIL.ROOT_ACCESS : SS_FAIL.ACCESS;
  }

  #traceEntry(address: number, lo: number, hi: number, level: number): void {
    const leaf = level === 0 || (lo & PS) !== 0;
    const layout =
      level > 2 ? SS_PML_ENTRY : leaf ? [SS_PTE, SS_PDE_2M, SS_PDPE_1G][level] : SS_TABLE_ENTRY;
    this.trace?.read(
      layout as Layout,
      address,
      [lo >>> 0, hi >>> 0],
      `second stage, level ${level + 1}`,
    );
  }
}

/** Which right to complain about: a missing write right comes first. */
function missing(rights: number): number {
  return (rights & RIGHT.W) !== 0 ? SS_FAIL.NO_WRITE : SS_FAIL.NO_READ;
}
