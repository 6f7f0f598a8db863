/**
 * AMD v1: the host tables of AMD's IOMMU, with a top that grows and pages of every power of two.
 * @spec AMD IOMMU 2.2.3
 * @linux drivers/iommu/generic_pt/fmt/amdv1.h
 * @module
 */
import * as engine from '../generated/amd-v1.ts';
import { createAmdDecoder } from './amd-v1-decoder.ts';
import { badOption, checkOption, choosePageSizes, type PageTableFormat } from './format.ts';

/** Options of {@link amdV1}. */
export interface AmdV1Options {
  /** Levels at the start, 1-6. Default 3, as the kernel; more are added when a mapping needs them. */
  readonly levels?: number;
  /** Most levels, from `levels` to 6 (default). */
  readonly maxLevels?: number;
  /** Set FC in leaves. Default true, as the kernel. */
  readonly forceCoherent?: boolean;
  /** Input width, at most what `maxLevels` index (default): 64 for 6 levels. */
  readonly iovaBits?: number;
  /** Output width, at most 52 (default). */
  readonly oaBits?: number;
  /** Subset of 12..51 with 12. Default all but 39, which the kernel avoids for a hardware erratum. */
  readonly pageSizesLg2?: readonly number[];
}

const OPTION_FORCE_COHERENT = 1;
const ERRATUM_512G = 39;

/** Page sizes 2^from .. 2^to without 512 GiB. */
export function amdPageSizes(from: number, to: number): number[] {
  const all = Array.from({ length: to - from + 1 }, (_, i) => from + i);
  return all.filter((lg2) => lg2 !== ERRATUM_512G);
}

/**
 * The AMD v1 format.
 * @throws {RangeError} naming the option
 */
export function amdV1(options: AmdV1Options = {}): PageTableFormat {
  const name = 'amd-v1';
  const levels = checkOption(name, 'levels', options.levels ?? 3, 1, 6);
  const maxLevels = checkOption(name, 'maxLevels', options.maxLevels ?? 6, levels, 6);
  const widest = maxLevels === 6 ? 64 : 12 + 9 * maxLevels;
  const iovaBits = checkOption(name, 'iovaBits', options.iovaBits ?? widest, 13, widest);
  const oaBits = checkOption(name, 'oaBits', options.oaBits ?? 52, 32, 52);
  const asked = options.pageSizesLg2;
  if (asked?.some((lg2) => lg2 < 12 || lg2 > 51)) {
    badOption(name, 'pageSizesLg2', `[${asked}]`, 'from 12 to 51');
  }
  const possible = asked?.includes(ERRATUM_512G)
    ? [...amdPageSizes(12, 51), ERRATUM_512G]
    : amdPageSizes(12, 51);
  return {
    name,
    engine,
    decoder: createAmdDecoder(12),
    levels,
    maxLevels,
    growing: true,
    iovaBits,
    oaBits,
    tableBits: 52,
    frameLg2: 12,
    granuleLg2: 12,
    pageSizesLg2: choosePageSizes(name, possible, asked),
    signExtended: false,
    rootEntries: 512,
    order: 0,
    rootOrder: 0,
    options: (options.forceCoherent ?? true) ? OPTION_FORCE_COHERENT : 0,
  };
}
