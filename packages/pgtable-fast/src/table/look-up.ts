/**
 * One look-up. A table remembers where the level-1 tables of regions are (a region is what one of them
 * covers: 1 GiB of 4 KiB pages), as hardware does in its paging-structure caches, and reads the two entries
 * from there on without a call into the engine. Entries are never remembered, so that only a level-1 table
 * that leaves the tree makes what is known wrong. The engine counts those in the control block; every
 * operation that can free tables looks at the count afterwards and empties the slots, which all objects
 * of a table have in common. Nothing is known in shared memory, where another thread could free a table
 * between two reads.
 *
 * Unmapping a range in two leaf tables starts there as well: the rules are the same, as it changes no
 * level-1 entry.
 *
 * Measured, Node 20, random pages of 1 GiB: 6.2 ns, through the engine 7.2; of 8 GiB 11.0 and 12.4. To look at
 * the count in each look-up would cost 0.6 ns; to keep the last region in fields of its own doubles the time
 * of look-ups that change region (22 ns of 8 GiB). Pages of 1 GiB have no level-1 table: 5.6 ns, before 4.3.
 * @module
 */
import type { Engine } from '../engine/engine.ts';
import type { PageTableFormat } from '../formats/format.ts';
import { CONTROL } from '../pool/pool-layout.ts';
import { NO_REGION, type Shard } from '../pool/shard.ts';

/** Region n is remembered in slot n mod 512. */
const SLOTS = 512;
/** Slots of a table that knows no region: pairs of region, and index in `shard.words` of its entries. */
const NONE: Int32Array = new Int32Array(2 * SLOTS).fill(NO_REGION);

/** What every side of a table knows of it, and the look-up. */
export interface LookUp {
  readonly format: PageTableFormat;
  /** Offset of the control block; 0 after `destroy`. */
  block: number;
  /** What the engine's translate takes: the top word, or the control block of a growing table. */
  translateHandle: number;
  /** The top word of the control block, see `topWord()` of the pool layout. */
  readonly topWord: number;
  translate(iovaPfn: number): number;
  /** Offset (as int32) of the level-1 entries of the region of a frame; 0 when it is not known, or no region. */
  regionEntries(iovaPfn: number): number;
  /** Must be called after tables may have left the tree. */
  settleRegions(): void;
  /** Must be called before the control block is given back. */
  forgetRegions(): void;
}

/** Defines the base of the tables of `engine` on `shard`. */
export function defineLookUp(
  shard: Shard,
  engine: Engine,
): new (
  format: PageTableFormat,
  block: number,
) => LookUp {
  const { translate, regionTable } = engine;
  // Constants of this function: those of a module are read from memory at every use.
  engine.describeLookUp();
  const at = shard.scratchOffset >>> 2;
  const tableMask = shard.words[at] as number;
  const tableBits = shard.words[at + 1] as number;
  const codedMask = shard.words[at + 2] as number;
  const outputHiMask = shard.words[at + 3] as number;
  const isShared = shard.build === 'shared';
  /** Of look-ups in unknown regions one in so many makes its region known. */
  const LEARN_MASK = 15;

  return class TableLookUp implements LookUp {
    readonly format: PageTableFormat;
    // Small integers from the start: a field that was undefined first costs a check per look-up.
    block = 0;
    translateHandle = 0;
    /** Regions that are known. */
    regions = NONE;
    /** Level-1 tables that had left the tree when they were last looked at. */
    left = 0;
    /** Look-ups in unknown regions. */
    unknown = 0;
    /** Whether regions may become known. */
    readonly canLearn: boolean;

    constructor(format: PageTableFormat, block: number) {
      this.format = format;
      this.block = block;
      this.translateHandle = format.growing ? block : this.topWord;
      this.canLearn = !isShared && format.granuleLg2 === 12;
    }

    get topWord(): number {
      return shard.words[(this.block >>> 2) + CONTROL.TOP] as number;
    }

    translate(iovaPfn: number): number {
      const low = iovaPfn | 0;
      if (low !== iovaPfn) return translate(this.translateHandle, iovaPfn);
      const slot = (low >> 17) & 0x3fe;
      const { regions } = this;
      if (regions[slot] !== low >> 18) return this.translateUnknown(iovaPfn);
      const { words } = shard;
      const above = (regions[slot | 1] as number) | ((low >>> 8) & 0x3fe);
      const entry = words[above] as number;
      if ((entry & tableMask) !== tableBits) return this.translateAbove(iovaPfn, above);
      const word = ((entry & -4096) >>> 2) | ((low & 511) << 1);
      const lo = words[word] as number;
      if (lo === 0) return -1;
      if ((lo & codedMask) !== 0) return translate(this.translateHandle, iovaPfn);
      return ((words[word | 1] as number) & outputHiMask) * 0x10_0000 + (lo >>> 12);
    }

    /** A look-up that ends at the level-1 entry `word`: nothing there, or a large leaf. */
    translateAbove(iovaPfn: number, word: number): number {
      const { words } = shard;
      const lo = words[word] as number;
      if (lo === 0) return -1;
      if ((lo & codedMask) !== 0) return translate(this.translateHandle, iovaPfn);
      const first = ((words[word | 1] as number) & outputHiMask) * 0x10_0000 + (lo >>> 12);
      return first + (iovaPfn & 511);
    }

    /** A look-up in a region that is not known. */
    translateUnknown(iovaPfn: number): number {
      this.noteUnknown(iovaPfn | 0);
      return translate(this.translateHandle, iovaPfn);
    }

    regionEntries(iovaPfn: number): number {
      const low = iovaPfn | 0;
      const slot = (low >> 17) & 0x3fe;
      const { regions } = this;
      if (low !== iovaPfn) return 0;
      if (regions[slot] === low >> 18) return (regions[slot | 1] as number) << 2;
      this.noteUnknown(low);
      return 0;
    }

    noteUnknown(iovaPfn: number): void {
      this.unknown = (this.unknown + 1) & LEARN_MASK;
      if (this.unknown === 0 && this.canLearn) this.learnRegion(iovaPfn);
    }

    learnRegion(iovaPfn: number): void {
      if (this.block === 0) return;
      const word = regionTable(this.block, iovaPfn) >>> 2;
      if (word === 0) return;
      if (this.regions === NONE) this.regions = this.regionsOfBlock();
      const region = iovaPfn >> 18;
      const slot = (region % SLOTS) * 2;
      this.regions[slot] = region;
      this.regions[slot + 1] = word;
    }

    regionsOfBlock(): Int32Array {
      const regions = shard.regions.get(this.block) ?? NONE.slice();
      shard.regions.set(this.block, regions);
      return regions;
    }

    settleRegions(): void {
      const left = shard.words[(this.block >>> 2) + CONTROL.LEVEL_1_LEFT] as number;
      if (left === this.left) return;
      this.left = left;
      shard.regions.get(this.block)?.fill(NO_REGION);
    }

    forgetRegions(): void {
      shard.regions.get(this.block)?.fill(NO_REGION);
      shard.regions.delete(this.block);
      this.regions = NONE;
    }
  };
}
