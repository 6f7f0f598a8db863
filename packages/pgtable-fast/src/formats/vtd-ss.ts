/**
 * VT-d second stage: what a domain's GPA or IOVA is translated with.
 * @spec VT-d 9.8
 * @linux drivers/iommu/generic_pt/fmt/vtdss.h
 * @module
 */
import { maskOf } from '@iommukit/bits';
import * as engine from '../generated/vtd-ss.ts';
import { type DecodedEntry, ENTRY, type EntryDecoder, frameOf } from '../walk/entry-decoder.ts';
import { WALK } from '../walk/walk-trace.ts';
import { badOption, checkOption, choosePageSizes, type PageTableFormat } from './format.ts';
import { SS_PDE_2M, SS_PDPE_1G, SS_PTE, SS_TABLE } from './vtd-ss-layout.ts';

/** Options of {@link vtdSecondStage}. */
export interface VtdSecondStageOptions {
  /** 3, 4 or 5 levels: 39, 48 or 57 input bits. */
  readonly levels: number;
  /** Set SNP in leaves (enforce coherency). Default false. */
  readonly snoop?: boolean;
  /** Host address width, at most 52 (default). */
  readonly oaBits?: number;
  /** Subset of [12, 21, 30] with 12. */
  readonly pageSizesLg2?: readonly number[];
}

const OPTION_SNOOP = 1;

/** Decoder with the reserved bits of a unit that has snoop control and both large page sizes. */
function createDecoder(oaBits: number): EntryDecoder {
  const [rw = 0] = maskOf(SS_TABLE, 'R', 'W');
  const ps = SS_TABLE.fields.PS.mask;
  const a = SS_PTE.fields.A.mask;
  const d = SS_PTE.fields.D.mask;
  const [tableLo = 0, tableHi = 0] = SS_TABLE.reservedMasks;
  const leafLo = [SS_PTE, SS_PDE_2M, SS_PDPE_1G].map((layout) => layout.reservedMasks[0] as number);
  const leafHi = SS_PTE.reservedMasks[1] as number;
  const beyond = oaBits >= 52 ? 0 : (0xfffff << (oaBits - 32)) & 0xfffff;
  return {
    levelBits: 9,
    granuleLg2: 0,
    decode(lo: number, hi: number, level: number, out: DecodedEntry): number {
      out.prot = lo & rw;
      if (out.prot === 0) return ENTRY.NOT_PRESENT;
      if (level === 0 || (level <= 2 && (lo & ps) !== 0)) {
        if ((lo & (leafLo[level] as number)) !== 0 || (hi & (leafHi | beyond)) !== 0)
          return WALK.RESERVED;
        out.frame = frameOf(lo, hi);
        out.sizeLg2 = 9 * level;
        out.accessed = (lo & a) !== 0;
        out.dirty = (lo & d) !== 0;
        return ENTRY.LEAF;
      }
      if ((lo & (tableLo | ps)) !== 0 || (hi & (tableHi | beyond)) !== 0) return WALK.RESERVED;
      out.tablePa = frameOf(lo, hi) * 4096;
      out.nextLevel = level - 1;
      return ENTRY.TABLE;
    },
  };
}

/**
 * The VT-d second-stage format.
 * @throws {RangeError} naming the option
 */
export function vtdSecondStage(options: VtdSecondStageOptions): PageTableFormat {
  const levels = checkOption('vtd-ss', 'levels', options.levels, 3, 5);
  const oaBits = checkOption('vtd-ss', 'oaBits', options.oaBits ?? 52, 32, 52);
  if (options.snoop !== undefined && typeof options.snoop !== 'boolean') {
    badOption('vtd-ss', 'snoop', options.snoop, 'a boolean');
  }
  return {
    name: 'vtd-ss',
    engine,
    decoder: createDecoder(oaBits),
    levels,
    maxLevels: levels,
    growing: false,
    iovaBits: 12 + 9 * levels,
    oaBits,
    tableBits: 52,
    frameLg2: 12,
    granuleLg2: 12,
    pageSizesLg2: choosePageSizes('vtd-ss', [12, 21, 30], options.pageSizesLg2),
    signExtended: false,
    rootEntries: 512,
    order: 0,
    rootOrder: 0,
    options: options.snoop ? OPTION_SNOOP : 0,
  };
}
