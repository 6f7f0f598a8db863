/**
 * Where the last operations on single pages were: a leaf table, and the table above it, whose entries can
 * be read and written without a call into the engine. What is known stays true until tables leave the
 * tree, where they join the list of freed tables: every operation that can do that calls `forgetFreed`
 * afterwards. Nothing is ever known in shared memory, where another thread could see one half of an entry
 * written without the other.
 *
 * Measured, Node 20: mapping or unmapping a page next to the one before takes 3-4 ns, one elsewhere in the
 * same GiB 7-8 ns as long as the tables are in the cache; through the engine both take 11-14 ns.
 * @module
 */
import type { Engine } from '../engine/engine.ts';
import type { PageTableFormat } from '../formats/format.ts';
import { CONTROL, recordOf } from '../pool/pool-layout.ts';
import type { Shard } from '../pool/shard.ts';
import { defineReadSide, type ReadSide } from './read-side.ts';

/** Output frames below this stand in bits 47:12 of an entry, in every format. */
const PLAIN_FRAMES = 2 ** 36;
// Tables of a 4 KiB granule have 512 entries; tables of larger granules are never known.
const ENTRIES = 512;
const PARENT_FRAMES = 262_144;

/**
 * State and members for operations on single pages. Numbers of frames are the caller's; a slot is the
 * index of an entry in `shard.doubles`, twice that in `shard.words`.
 */
export interface LastLeaf extends ReadSide {
  /** First frame of the leaf table, its frames (0 when none is known) and its first slot. */
  leafFirst: number;
  leafFrames: number;
  leafSlot: number;
  /** What must be added to its count of entries in use before the engine sees it. */
  leafDelta: number;
  /** Permissions of `leafLo` and `leafHi`, the halves of an entry that maps frame 0; -1 when none are known. */
  leafProt: number;
  leafLo: number;
  leafHi: number;
  /** The last output frame that can be added to them. */
  readonly leafOaLast: number;
  /** Bits of leaves of several slots, in the low (0) or high (1) half; no bits where there are none. */
  groupMask: number;
  groupHalf: number;
  /** Frames below the known table above leaf tables, 0 when none is known. */
  parentFrames: number;
  /** Slot of a frame below that table, or -1: the engine must find it. */
  nearSlot(iovaPfn: number): number;
  /** Adds to the count of entries in use of the table of a slot that is not in the known leaf table. */
  addLive(slot: number, n: number): void;
  /** Notes where the engine has just found the leaf table of `iovaPfn`. */
  noteSlot(iovaPfn: number): void;
  /** Learns the entry of frame 0 with permissions `prot`. */
  learnProt(prot: number): void;
  /** Must be called before the engine looks at the table: brings the count of entries up to date. */
  settleLeaf(): void;
  /** Must be called after tables may have left the tree, and after `takeFreedTables`. */
  forgetFreed(): void;
}

/** Defines the base of the mapping side of the tables of `engine` on `shard`. */
export function defineLastLeaf(
  shard: Shard,
  engine: Engine,
): new (
  format: PageTableFormat,
  block: number,
) => LastLeaf {
  const isShared = shard.build === 'shared';

  return class TableWithLastLeaf extends defineReadSide(shard, engine) implements LastLeaf {
    leafFirst = 0;
    leafFrames = 0;
    leafSlot = 0;
    leafDelta = 0;
    leafProt = -1;
    leafLo = 0;
    leafHi = 0;
    readonly leafOaLast: number;
    groupMask = 0;
    groupHalf = 0;
    parentFirst = 0;
    parentFrames = 0;
    /** Index in `shard.words` of the first entry of that table. */
    parentWord = 0;
    /** The low half of an entry that points to a leaf table: `(lo & tableMask) === tableBits`. */
    tableMask = 0;
    tableBits = 1;
    /** Low half of the entry above the last operation outside the known leaf table. */
    nearEntry = 0;
    /** Frames of a known parent; 0 when nothing may be known. */
    readonly reach: number;
    /** Page of the entry that the engine noted before. */
    notedPage = 0;
    /** Freed tables that wait, when everything above was true. */
    knownFreed = 0;

    constructor(format: PageTableFormat, block: number) {
      super(format, block);
      const { frameLg2, granuleLg2, oaBits, iovaBits } = format;
      this.leafOaLast = Math.min(2 ** (oaBits - frameLg2), PLAIN_FRAMES) - 1;
      const isUsable = !isShared && granuleLg2 === 12 && iovaBits >= 21;
      this.reach = isUsable ? Math.min(PARENT_FRAMES, 2 ** (iovaBits - frameLg2)) | 0 : 0;
    }

    nearSlot(iovaPfn: number): number {
      const far = iovaPfn - this.parentFirst;
      const at = far | 0;
      if (!(at === far && at >= 0 && at < this.parentFrames)) return -1;
      const entry = shard.words[this.parentWord + ((at >>> 9) << 1)] as number;
      if ((entry & this.tableMask) !== this.tableBits) return -1;
      const slot = ((entry & -4096) >>> 3) + (at & 511);
      // The second time in a row only: random pages would do it for nothing.
      if (entry === this.nearEntry) this.#enterLeaf(iovaPfn - (at & 511), slot & -512);
      else this.nearEntry = entry;
      return slot;
    }

    #enterLeaf(first: number, slot: number): void {
      this.settleLeaf();
      this.leafFirst = first;
      this.leafFrames = ENTRIES;
      this.leafSlot = slot;
    }

    addLive(slot: number, n: number): void {
      const { words } = shard;
      const at = recordOf(slot << 3) >>> 2;
      words[at] = (words[at] as number) + n;
    }

    noteSlot(iovaPfn: number): void {
      const at = shard.words[(this.block >>> 2) + CONTROL.LAST_SLOT] as number;
      const page = at >>> 12;
      // As above, for pages all over the address space.
      if (page === this.notedPage && page !== 0) this.#enterParent(iovaPfn, at);
      this.notedPage = page;
    }

    #enterParent(iovaPfn: number, entryAt: number): void {
      const at = iovaPfn % this.reach;
      if (!(at >= 0)) return; // reach 0 gives NaN
      if (this.tableMask === 0) this.#learnFormat();
      this.parentFirst = iovaPfn - at;
      this.parentFrames = this.reach;
      this.parentWord = (entryAt >>> 2) - ((at >>> 9) << 1);
    }

    #learnFormat(): void {
      engine.describeLeaf(this.block, 0);
      const at = shard.scratchOffset >>> 2;
      const { words } = shard;
      const { granuleLg2, pageSizesLg2 } = this.format;
      if (pageSizesLg2.some((lg2) => lg2 > granuleLg2 && lg2 < granuleLg2 + 9)) {
        this.groupHalf = words[at + 2] === 0 ? 1 : 0;
        this.groupMask = words[at + 2 + this.groupHalf] as number;
      }
      this.tableMask = words[at + 4] as number;
      this.tableBits = words[at + 5] as number;
    }

    learnProt(prot: number): void {
      engine.describeLeaf(this.block, prot);
      const at = shard.scratchOffset >>> 2;
      this.leafLo = shard.words[at] as number;
      this.leafHi = shard.words[at + 1] as number;
      this.leafProt = prot;
    }

    settleLeaf(): void {
      if (this.leafDelta === 0) return;
      this.addLive(this.leafSlot, this.leafDelta);
      this.leafDelta = 0;
    }

    forgetFreed(): void {
      this.settleRegions();
      const freed = shard.words[(this.block >>> 2) + CONTROL.FREED_COUNT] as number;
      if (freed === this.knownFreed) return;
      this.knownFreed = freed;
      this.leafFrames = 0;
      this.parentFrames = 0;
    }
  };
}
