/**
 * x86-64 first stage: VT-d first-stage tables and AMD v2 guest tables.
 * @spec VT-d 9.7
 * @linux drivers/iommu/generic_pt/fmt/x86_64.h
 * @module
 */
import * as engine from '../generated/x86-64.ts';
import { type DecodedEntry, ENTRY, type EntryDecoder, frameOf } from '../walk/entry-decoder.ts';
import { WALK } from '../walk/walk-trace.ts';
import { checkOption, choosePageSizes, type PageTableFormat } from './format.ts';
import { FS_PDE_2M, FS_PDPE_1G, FS_PTE, FS_TABLE } from './x86-64-layout.ts';

/** Options of {@link x86FirstStage}. */
export interface X86FirstStageOptions {
  /** 4 or 5 levels: 48 or 57 input bits. */
  readonly levels: number;
  /** Canonical addresses (VT-d, AMD with PASID). Default true; AMD's PASID 0 without PASID has none. */
  readonly signExtend?: boolean;
  /** Map with A, and D where writable, already set. Default true, as the kernel does. */
  readonly presetAccessedDirty?: boolean;
  /** Output width, at most 52 (default). */
  readonly oaBits?: number;
  /** Subset of [12, 21, 30] with 12. */
  readonly pageSizesLg2?: readonly number[];
}

const OPTION_SIGN_EXTEND = 1;
const OPTION_NO_PRESET = 2;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_NOEXEC = 8;
const PROT_PRIV = 32;

function createDecoder(oaBits: number): EntryDecoder {
  const { P, RW, US, XD, PS, A } = FS_TABLE.fields;
  const p = P.mask;
  const rw = RW.mask;
  const us = US.mask;
  const xd = XD.mask | 0;
  const ps = PS.mask;
  const a = A.mask;
  const d = FS_PTE.fields.D.mask;
  const beyond = oaBits >= 52 ? 0 : (0xfffff << (oaBits - 32)) & 0xfffff;
  const leafLo = [FS_PTE, FS_PDE_2M, FS_PDPE_1G].map((layout) => layout.reservedMasks[0] as number);
  const frameMask = [-1, ~0x1fffff, ~0x3fffffff];
  return {
    levelBits: 9,
    granuleLg2: 0,
    decode(lo: number, hi: number, level: number, out: DecodedEntry): number {
      if ((lo & p) === 0) return ENTRY.NOT_PRESENT;
      out.prot =
        PROT_READ |
        (lo & rw ? PROT_WRITE : 0) |
        (lo & us ? 0 : PROT_PRIV) |
        (hi & xd ? PROT_NOEXEC : 0);
      if (level === 0 || (level <= 2 && (lo & ps) !== 0)) {
        if ((lo & (leafLo[level] as number)) !== 0 || (hi & beyond) !== 0) return WALK.RESERVED;
        out.frame = frameOf(lo & (frameMask[level] as number), hi);
        out.sizeLg2 = 9 * level;
        out.accessed = (lo & a) !== 0;
        out.dirty = (lo & d) !== 0;
        return ENTRY.LEAF;
      }
      if ((lo & ps) !== 0 || (hi & beyond) !== 0) return WALK.RESERVED;
      out.tablePa = frameOf(lo, hi) * 4096;
      out.nextLevel = level - 1;
      return ENTRY.TABLE;
    },
  };
}

/**
 * The x86-64 first-stage format.
 * @throws {RangeError} naming the option
 */
export function x86FirstStage(options: X86FirstStageOptions): PageTableFormat {
  const levels = checkOption('x86-64', 'levels', options.levels, 4, 5);
  const oaBits = checkOption('x86-64', 'oaBits', options.oaBits ?? 52, 32, 52);
  const signExtended = options.signExtend ?? true;
  const preset = options.presetAccessedDirty ?? true;
  return {
    name: 'x86-64',
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
    pageSizesLg2: choosePageSizes('x86-64', [12, 21, 30], options.pageSizesLg2),
    signExtended,
    rootEntries: 512,
    order: 0,
    rootOrder: 0,
    options: (signExtended ? OPTION_SIGN_EXTEND : 0) | (preset ? 0 : OPTION_NO_PRESET),
  };
}
