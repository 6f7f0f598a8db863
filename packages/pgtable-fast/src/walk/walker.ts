/**
 * Walks of tables anywhere in physical memory: the pool's own, a guest's, somebody else's.
 * @module
 */
import type { PageTableFormat } from '../formats/format.ts';
import { createDecodedEntry, ENTRY } from './entry-decoder.ts';
import { MAX_STEPS, WALK, type WalkTrace } from './walk-trace.ts';

/** Memory that a walker reads: pools, and core's physical memory. */
export interface WalkMemory {
  /** Region of a byte address; undefined when nothing answers. `i32[(pa - base) >>> 2]` is the word. */
  regionAt(
    pa: number,
  ): { readonly base: number; readonly size: number; readonly i32: Int32Array } | undefined;
}

/** Gives the host-physical address of an entry's address, negative to refuse (nested walks). */
export type TableTranslation = (entryPa: number) => number;

/** Walks tables of one format. Create it with {@link createWalker}; reusable, not reentrant. */
export interface Walker {
  /**
   * Walks from a root to the leaf of `iovaPfn`. Safe on hostile tables: it reads at most
   * {@link MAX_STEPS} entries, each bounds-checked.
   * @param rootPa byte address of the root, as its register or context entry gives it
   * @param levels levels from the root on; what is no number of levels gives `OUT_OF_RANGE`
   * @param translateTable for nested walks
   * @returns output frame, or a code of `WALK`
   */
  walk(
    memory: WalkMemory,
    rootPa: number,
    levels: number,
    iovaPfn: number,
    trace: WalkTrace,
    translateTable?: TableTranslation,
  ): number;
}

const ADDRESS_LIMIT = 2 ** 52;
const PERMISSIONS = 1 | 2;
const RESTRICTIONS = 8 | 32;
/** Numbers of levels, and levels: more than any format has. */
const LEVELS = [0, 1, 2, 3, 4, 5, 6, 7] as const;

/** Input bits, in frames, that `levels` levels can index; concatenated roots index more. */
function indexedBits(format: PageTableFormat, levels: number): number {
  const { levelBits, granuleLg2 } = format.decoder;
  const rootBits = Math.max(levelBits, Math.log2(format.rootEntries));
  return granuleLg2 + levelBits * (levels - 1) + rootBits;
}

/**
 * First frame behind the input range, or behind the lower half of a sign-extended one, for each level count;
 * nothing is in the range of a table without levels.
 */
function inputLimits(format: PageTableFormat): readonly number[] {
  const width = format.iovaBits - format.frameLg2;
  const sign = format.signExtended ? 1 : 0;
  return LEVELS.map((levels) =>
    levels === 0 ? 0 : 2 ** (Math.min(width, indexedBits(format, levels)) - sign),
  );
}

/** A walker for tables of `format`; the format's own level count is not used. */
export function createWalker(format: PageTableFormat): Walker {
  const { decoder } = format;
  const { levelBits, granuleLg2 } = decoder;
  const entry = createDecodedEntry();
  const items = LEVELS.map((level) => 2 ** (granuleLg2 + levelBits * level));
  // Products are as exact as quotients of powers of two; % on doubles would be a call into the C library.
  const perItem = items.map((frames) => 1 / frames);
  const entryMask = 2 ** levelBits - 1;
  const limits = inputLimits(format);
  const widths = LEVELS.map((levels) => 2 ** indexedBits(format, levels));

  /** Reads the entry at `pa` into step `trace.steps`; 0 or a WALK code. */
  function read(
    memory: WalkMemory,
    pa: number,
    level: number,
    trace: WalkTrace,
    translateTable: TableTranslation | undefined,
  ): number {
    const step = trace.steps;
    trace.level[step] = level;
    trace.entryPa[step] = pa;
    trace.wordLo[step] = 0;
    trace.wordHi[step] = 0;
    trace.steps = step + 1;
    const hpa = translateTable === undefined ? pa : translateTable(pa);
    if (hpa < 0) return WALK.TABLE_TRANSLATION;
    const region = memory.regionAt(hpa);
    if (region === undefined || hpa - region.base + 8 > region.size) return WALK.BUS_ERROR;
    const at = Math.floor((hpa - region.base) / 4);
    trace.wordLo[step] = region.i32[at] as number;
    trace.wordHi[step] = region.i32[at + 1] as number;
    return 0;
  }

  function leaf(va: number, trace: WalkTrace): number {
    const { sizeLg2 } = entry;
    trace.pageLg2 = sizeLg2 + format.frameLg2;
    trace.accessed = entry.accessed;
    trace.dirty = entry.dirty;
    return entry.frame + (sizeLg2 < 31 ? va & ((1 << sizeLg2) - 1) : va % 2 ** sizeLg2);
  }

  /** The frame as tables index it; negative outside the input range, or not canonical. */
  function indexForm(levels: number, iovaPfn: number): number {
    const limit = limits[levels] as number;
    if (iovaPfn >= 0 && iovaPfn < limit) return iovaPfn;
    if (!(format.signExtended && iovaPfn >= ADDRESS_LIMIT - limit && iovaPfn < ADDRESS_LIMIT))
      return -1;
    return iovaPfn - ADDRESS_LIMIT + (widths[levels] as number);
  }

  function descend(
    memory: WalkMemory,
    rootPa: number,
    levels: number,
    iovaPfn: number,
    trace: WalkTrace,
    translateTable: TableTranslation | undefined,
  ): number {
    const va = indexForm(levels, iovaPfn);
    if (va < 0) return WALK.OUT_OF_RANGE;
    let table = rootPa;
    let level = levels - 1;
    while (trace.steps < MAX_STEPS) {
      const position = Math.floor(va * (perItem[level] as number));
      const index = trace.steps > 0 ? position & entryMask : position;
      const error = read(memory, table + index * 8, level, trace, translateTable);
      if (error !== 0) return error;
      const step = trace.steps - 1;
      const lo = trace.wordLo[step] as number;
      const hi = trace.wordHi[step] as number;
      const kind = decoder.decode(lo | 0, hi | 0, level, entry);
      if (kind < 0) return kind;
      if (kind === ENTRY.NOT_PRESENT) return WALK.NOT_PRESENT;
      trace.prot =
        (trace.prot & entry.prot & PERMISSIONS) | ((trace.prot | entry.prot) & RESTRICTIONS);
      if (kind === ENTRY.LEAF) return leaf(va, trace);
      if (skips(va, level, entry.nextLevel)) return WALK.BAD_LEVEL;
      table = entry.tablePa;
      level = entry.nextLevel;
    }
    return WALK.BAD_LEVEL;
  }

  /** Whether address bits of skipped levels are set. */
  function skips(va: number, level: number, nextLevel: number): boolean {
    if (nextLevel === level - 1) return false;
    return va % (items[level] as number) >= (items[nextLevel + 1] as number);
  }

  return {
    walk(memory, rootPa, levels, iovaPfn, trace, translateTable) {
      trace.steps = 0;
      trace.prot = PERMISSIONS;
      trace.pageLg2 = 0;
      trace.accessed = false;
      trace.dirty = false;
      trace.result = descend(memory, rootPa, levels, iovaPfn, trace, translateTable);
      return trace.result;
    },
  };
}
