/**
 * Walks first-stage tables (x86-64 format): 4 or 5 levels, pages of 4 KiB, 2 MiB, 1 GiB; alone, or
 * nested, where every table pointer and the page are guest physical and go through the second stage.
 *
 * @spec VT-d 3.6 (first-stage translation), 3.8 (nested translation), 9.8 (entries)
 */
import type { Layout } from '@iommukit/bits';
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import {
  FS_PDE_2M,
  FS_PDPE_1G,
  FS_PML_ENTRY,
  FS_PTE,
  FS_TABLE_ENTRY,
} from '../spec/first-stage-entry.ts';
import { type PendingUpdates, UPDATE } from './accessed-dirty.ts';
import type { Features } from './capabilities.ts';
import type { HardwareMemory } from './memory.ts';
import { highMaskAbove, joinAddress, tableIndex } from './page-index.ts';
import { RIGHT, type SecondStageWalker, SS_FAIL } from './second-stage-walker.ts';
import { TableWindow } from './table-window.ts';
import type { TraceSink } from './trace.ts';

const P = FS_PTE.fields.P.mask;
const RW = FS_PTE.fields.RW.mask;
const US = FS_PTE.fields.US.mask;
const A = FS_PTE.fields.A.mask;
const EA = FS_PTE.fields.EA.mask;
const D = FS_PTE.fields.D.mask;
const PS = FS_PDE_2M.fields.PS.mask;
const ADDR_LO = 0xffff_f000 | 0;
const ADDR_HI = FS_PTE.fields.ADDR.masks[1] as number;

/** Reasons of second-stage failures in scalable mode, by {@link SS_FAIL}. */
export const SCALABLE_SS_REASON = Uint8Array.of(
  0,
  FAULT_REASON.SS_ROOT_ACCESS,
  FAULT_REASON.SS_ENTRY_ACCESS,
  FAULT_REASON.SS_NOT_PRESENT,
  FAULT_REASON.SS_RESERVED,
  FAULT_REASON.WRITE,
  FAULT_REASON.READ,
);

/** What a first-stage walk works on; one object per unit, filled before each walk. */
export interface FirstStageRequest {
  /** 4 KiB frame of the top table; guest physical when nested. */
  root: number;
  levels: number;
  /** Rights that must be there; 0 = report what is there. */
  want: number;
  /** The request writes: set dirty bits where it may. */
  write: boolean;
  /** User request: U/S must be set at every level. */
  user: boolean;
  /** R/W counts: user requests, and supervisor requests with WPE. */
  writeProtect: boolean;
  /** Accessed bits to set: A, and EA with EAFE. */
  extendedAccessed: boolean;
  nested: boolean;
  /** Nested: the second stage; its table as a 4 KiB frame. */
  ssRoot: number;
  ssLevels: number;
  ssKeepDirty: boolean;
  /** Nested: guest physical addresses lie below this. */
  gpaLimit: number;
}

/** An empty request. */
export const createFirstStageRequest = (): FirstStageRequest => ({
  root: 0,
  levels: 4,
  want: 0,
  write: false,
  user: true,
  writeProtect: true,
  extendedAccessed: false,
  nested: false,
  ssRoot: 0,
  ssLevels: 4,
  ssKeepDirty: false,
  gpaLimit: 0,
});

/** One walker per unit; the result of the last walk stands in its fields. */
export class FirstStageWalker {
  /** 4 KiB frame of the final result. */
  pfn = 0;
  rights = 0;
  sizeLg2 = 12;
  snoop = false;
  cleanWrite = true;
  /** How the second stage failed, one of `SS_FAIL`; 0 = it did not. */
  ssFailure = 0;
  trace: TraceSink | undefined;

  readonly #window: TableWindow;
  readonly #pending: PendingUpdates;
  readonly #secondStage: SecondStageWalker;
  readonly #leafReserved: Int32Array;
  readonly #tableReserved: Int32Array;
  readonly #highReserved: number;
  #tableWritable = true;

  constructor(
    memory: HardwareMemory,
    features: Features,
    pending: PendingUpdates,
    secondStage: SecondStageWalker,
  ) {
    const low = (layout: Layout) => (layout.reservedMasks[0] as number) | 0;
    this.#window = new TableWindow(memory);
    this.#pending = pending;
    this.#secondStage = secondStage;
    const pml = low(FS_PML_ENTRY);
    this.#tableReserved = Int32Array.of(0, 0, 0, pml, pml);
    this.#leafReserved = Int32Array.of(
      low(FS_PTE),
      low(FS_PDE_2M),
      features.fs1G ? low(FS_PDPE_1G) : PS,
      pml,
      pml,
    );
    this.#highReserved = highMaskAbove(features.hawBits, 51);
  }

  /**
   * Walk. @hot
   *
   * @param pfn 4 KiB frame of a canonical address
   * @returns 0, or a fault reason
   */
  walk(request: FirstStageRequest, pfn: number): number {
    const { levels, nested } = request;
    const accessed = request.extendedAccessed ? A | EA : A;
    this.#tableWritable = true;
    this.ssFailure = 0;
    const window = this.#window;
    let rights = RW | US;
    let lo = request.root << 12;
    let hi = (request.root / 0x10_0000) | 0;
    for (let level = levels - 1; ; level--) {
      const top = level === levels - 1;
      if (nested) {
        const reason = this.#tableThroughSecondStage(request, lo, hi, top);
        if (reason !== 0) return reason;
        lo = this.#secondStage.pfn << 12;
        hi = (this.#secondStage.pfn / 0x10_0000) | 0;
      }
      const table =
        top || nested ? window.begin(lo, hi & ADDR_HI) : window.indexOf(lo, hi & ADDR_HI);
      if (table < 0) return this.#noAnswer(lo, hi, top);
      const at = table + tableIndex(pfn, level) * 2;
      lo = window.i32[at] as number;
      hi = window.i32[at + 1] as number;
      if (this.trace !== undefined) this.#traceEntry(window.addressOf(at), lo, hi, level);
      if ((lo & P) === 0) return FAULT_REASON.FS_NOT_PRESENT;
      const leaf = level === 0 || (lo & PS) !== 0;
      const reserved = leaf ? this.#leafReserved[level] : this.#tableReserved[level];
      if ((lo & (reserved as number)) !== 0 || (hi & this.#highReserved) !== 0)
        return FAULT_REASON.FS_RESERVED;
      if (nested && joinAddress(lo & ADDR_LO, hi & ADDR_HI) >= request.gpaLimit)
        return FAULT_REASON.FS_ADDRESS_BEYOND;
      rights &= lo;
      if (leaf) return this.#leaf(request, at, lo, hi, level, pfn, rights);
      if ((lo & accessed) !== accessed) this.#owe(at, accessed);
    }
  }

  #owe(at: number, bits: number): void {
    const kind = this.#tableWritable ? UPDATE.FIRST_STAGE : UPDATE.FIRST_STAGE_READ_ONLY;
    this.#pending.add(this.#window.addressOf(at), bits, kind);
  }

  #leaf(
    request: FirstStageRequest,
    at: number,
    lo: number,
    hi: number,
    level: number,
    pfn: number,
    flags: number,
  ): number {
    if (request.user && (flags & US) === 0) return FAULT_REASON.USER_ON_SUPERVISOR;
    const writable = !request.writeProtect || (flags & RW) !== 0;
    this.rights = writable ? RIGHT.R | RIGHT.W : RIGHT.R;
    if ((request.want & ~this.rights) !== 0) return FAULT_REASON.WRITE;
    const pageFrames = (1 << (9 * level)) - 1;
    const frameLow = (lo >>> 12) & ~pageFrames;
    this.pfn = (hi & ADDR_HI) * 0x10_0000 + frameLow + ((pfn | 0) & pageFrames);
    this.sizeLg2 = 12 + 9 * level;
    this.snoop = false;
    let ssCleanWrite = true;
    if (request.nested) {
      const reason = this.#pageThroughSecondStage(request);
      if (reason !== 0) return reason;
      ssCleanWrite = this.#secondStage.cleanWrite;
    }
    const accessed = request.extendedAccessed ? A | EA : A;
    const bits = request.write && (this.rights & RIGHT.W) !== 0 ? accessed | D : accessed;
    if ((lo & bits) !== bits) this.#owe(at, bits);
    this.cleanWrite = ssCleanWrite && ((lo | bits) & D) !== 0;
    return 0;
  }

  /** A table's page: readable, and writable too when the second stage keeps dirty bits. */
  #tableThroughSecondStage(
    request: FirstStageRequest,
    lo: number,
    hi: number,
    top: boolean,
  ): number {
    const { ssRoot, ssLevels, ssKeepDirty } = request;
    const want = ssKeepDirty ? RIGHT.R | RIGHT.W : RIGHT.R;
    const walker = this.#secondStage;
    const frame = (hi & ADDR_HI) * 0x10_0000 + (lo >>> 12);
    const failed = walker.walk(ssRoot, ssLevels, frame, want, ssKeepDirty, ssKeepDirty);
    this.#tableWritable = true;
    if (failed === 0) {
      this.#tableWritable = (walker.rights & RIGHT.W) !== 0;
      return 0;
    }
    this.ssFailure = failed;
    if (failed !== SS_FAIL.NO_READ && failed !== SS_FAIL.NO_WRITE)
      return SCALABLE_SS_REASON[failed] as number;
    return top ? FAULT_REASON.FS_ROOT_NO_SS_READ : FAULT_REASON.FS_ENTRY_NO_SS_READ;
  }

  #pageThroughSecondStage(request: FirstStageRequest): number {
    const walker = this.#secondStage;
    const { ssRoot, ssLevels, want, ssKeepDirty } = request;
    const write = request.write && (this.rights & RIGHT.W) !== 0;
    const failed = walker.walk(ssRoot, ssLevels, this.pfn, want, ssKeepDirty, write);
    this.ssFailure = failed;
    if (failed !== 0) return SCALABLE_SS_REASON[failed] as number;
    this.pfn = walker.pfn;
    this.rights &= walker.rights;
    this.sizeLg2 = Math.min(this.sizeLg2, walker.sizeLg2);
    this.snoop = walker.snoop;
    return 0;
  }

  #noAnswer(lo: number, hi: number, top: boolean): number {
    this.trace?.busError(
      FS_PML_ENTRY as unknown as Layout,
      joinAddress(lo & ADDR_LO, hi & ADDR_HI),
    );
    return top ? FAULT_REASON.FS_ROOT_ACCESS : FAULT_REASON.FS_ENTRY_ACCESS;
  }

  #traceEntry(address: number, lo: number, hi: number, level: number): void {
    const leaf = level === 0 || (lo & PS) !== 0;
    const layout =
      level > 2 ? FS_PML_ENTRY : leaf ? [FS_PTE, FS_PDE_2M, FS_PDPE_1G][level] : FS_TABLE_ENTRY;
    this.trace?.read(
      layout as Layout,
      address,
      [lo >>> 0, hi >>> 0],
      `first stage, level ${level + 1}`,
    );
  }
}
