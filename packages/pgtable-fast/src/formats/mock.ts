/**
 * The mock format: AMD v1 entries whose address fields count 2 KiB, so that the smallest page is not
 * the CPU's. Frame numbers of its tables count 2 KiB too.
 * @linux drivers/iommu/generic_pt/fmt/iommu_mock.c
 * @module
 */
import * as engine from '../generated/mock.ts';
import { amdPageSizes } from './amd-v1.ts';
import { createAmdDecoder } from './amd-v1-decoder.ts';
import { checkOption, choosePageSizes, type PageTableFormat } from './format.ts';

/** Options of {@link mockFormat}. */
export interface MockFormatOptions {
  /** Levels at the start, 1-5. Default 3. */
  readonly levels?: number;
  /** Input width, at most 56 (default). */
  readonly iovaBits?: number;
  /** Output width, at most 51 (default). */
  readonly oaBits?: number;
  /** Subset of 11..50 with 11. Default all but 39. */
  readonly pageSizesLg2?: readonly number[];
}

/**
 * The mock format.
 * @throws {RangeError} naming the option
 */
export function mockFormat(options: MockFormatOptions = {}): PageTableFormat {
  const levels = checkOption('mock', 'levels', options.levels ?? 3, 1, 5);
  return {
    name: 'mock',
    engine,
    decoder: createAmdDecoder(11),
    levels,
    maxLevels: 5,
    growing: true,
    iovaBits: checkOption('mock', 'iovaBits', options.iovaBits ?? 56, 12, 56),
    oaBits: checkOption('mock', 'oaBits', options.oaBits ?? 51, 31, 51),
    tableBits: 51,
    frameLg2: 11,
    granuleLg2: 11,
    pageSizesLg2: choosePageSizes('mock', amdPageSizes(11, 50), options.pageSizesLg2),
    signExtended: false,
    rootEntries: 512,
    order: 0,
    rootOrder: 0,
    options: 0,
  };
}
