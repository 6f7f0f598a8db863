/**
 * Geometry of VMSAv8-64 tables: levels, page sizes, concatenated roots.
 * @spec Arm ARM D8.2
 * @module
 */
import { badOption, checkOption, choosePageSizes } from './format.ts';

/** Options that both stages have. */
export interface ArmOptions {
  /** Translation granule in bytes: 4096 (default), 16384 or 65536. */
  readonly granule?: number;
  /** Input width, 16-52. Default 48. More than 48 needs a 64 KiB granule or the DS format. */
  readonly iovaBits?: number;
  /** Output width, 32-52. Default 48. With a 4 or 16 KiB granule more than 48 selects the DS format. */
  readonly oaBits?: number;
  /** Offer the sizes of contiguous groups when mapping. Default false, as the kernel. */
  readonly contiguous?: boolean;
  /** DBM in writable leaves, so that hardware tracks writes to them. Default false. */
  readonly dirtyTracking?: boolean;
  /** Subset of the sizes that the granule has (and `contiguous` adds), with the smallest. */
  readonly pageSizesLg2?: readonly number[];
}

/** What a granule has, log2. */
interface Granule {
  readonly lg2: number;
  /** Block and page sizes, and the one that only 52-bit descriptors have. */
  readonly leaves: readonly number[];
  readonly wideLeaf: number;
  readonly groups: readonly number[];
  /** Levels from -1 or 0 or 1 to 3. */
  readonly maxLevels: number;
}

const GRANULES: Readonly<Record<number, Granule>> = {
  4096: { lg2: 12, leaves: [12, 21, 30], wideLeaf: 39, groups: [16, 25, 34], maxLevels: 5 },
  16384: { lg2: 14, leaves: [14, 25], wideLeaf: 36, groups: [21, 30], maxLevels: 4 },
  65536: { lg2: 16, leaves: [16, 29], wideLeaf: 42, groups: [21, 34], maxLevels: 3 },
};

/** Result of {@link armGeometry}. */
export interface ArmGeometry {
  readonly granuleLg2: number;
  readonly levels: number;
  readonly iovaBits: number;
  readonly oaBits: number;
  readonly rootEntries: number;
  /** 52-bit descriptors of a 4 or 16 KiB granule (LPA2). */
  readonly ds: boolean;
  readonly pageSizesLg2: readonly number[];
}

/** Most tables that a stage 2 root concatenates, log2. */
const MAX_CONCATENATED_LG2 = 4;

function granuleOf(name: string, bytes: number): Granule {
  return GRANULES[bytes] ?? badOption(name, 'granule', bytes, '4096, 16384 or 65536');
}

/** Levels for stage 2: one fewer where the root may be concatenated instead. */
function stage2Levels(
  name: string,
  granule: Granule,
  iovaBits: number,
  startLevel: number | undefined,
): number {
  const stride = granule.lg2 - 3;
  const levels = Math.ceil((iovaBits - granule.lg2) / stride);
  const rootBits = iovaBits - granule.lg2 - stride * (levels - 1);
  if (startLevel === undefined)
    return rootBits <= MAX_CONCATENATED_LG2 && levels > 1 ? levels - 1 : levels;
  const chosen = 4 - checkOption(name, 'startLevel', startLevel, 4 - granule.maxLevels, 3);
  const bits = iovaBits - granule.lg2 - stride * (chosen - 1);
  if (bits < 1 || bits > stride + MAX_CONCATENATED_LG2) {
    badOption(name, 'startLevel', startLevel, `one that ${iovaBits} input bits can start at`);
  }
  return chosen;
}

/** Page sizes that exist at the levels in use. */
function possibleSizes(
  granule: Granule,
  options: ArmOptions,
  levels: number,
  wide: boolean,
  iovaBits: number,
): number[] {
  const leaves = wide ? [...granule.leaves, granule.wideLeaf] : [...granule.leaves];
  const groups = options.contiguous ? granule.groups : [];
  const stride = granule.lg2 - 3;
  const fits = (lg2: number) =>
    Math.floor((lg2 - granule.lg2) / stride) < levels && lg2 <= iovaBits;
  return [...leaves, ...groups].filter(fits).sort((a, b) => a - b);
}

/**
 * Works out the geometry of a table.
 * @param stage 1 or 2; only stage 2 concatenates
 * @throws {RangeError} naming the option
 */
export function armGeometry(
  name: string,
  stage: 1 | 2,
  options: ArmOptions & { startLevel?: number },
): ArmGeometry {
  const granule = granuleOf(name, options.granule ?? 4096);
  const { lg2 } = granule;
  const iovaBits = checkOption(name, 'iovaBits', options.iovaBits ?? 48, lg2 + 1, 52);
  const oaBits = checkOption(name, 'oaBits', options.oaBits ?? 48, 32, 52);
  const ds = lg2 < 16 && (iovaBits > 48 || oaBits > 48);
  const stride = lg2 - 3;
  const levels =
    stage === 1
      ? Math.ceil((iovaBits - lg2) / stride)
      : stage2Levels(name, granule, iovaBits, options.startLevel);
  const wide = lg2 === 16 ? oaBits === 52 : ds;
  const possible = possibleSizes(granule, options, levels, wide, iovaBits);
  return {
    granuleLg2: lg2,
    levels,
    iovaBits,
    oaBits,
    rootEntries: 2 ** (iovaBits - lg2 - stride * (levels - 1)),
    ds,
    pageSizesLg2: choosePageSizes(name, possible, options.pageSizesLg2),
  };
}
