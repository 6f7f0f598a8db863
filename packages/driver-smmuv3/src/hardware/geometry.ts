/**
 * The shape of VMSAv8-64 tables: granules, levels, indices, sizes. Frames are 4 KiB.
 *
 * @spec SMMUv3 3.4; Arm ARM D8.2
 */

const FRAME_LG2 = 12;
const LAST_LEVEL = 3;
const MAX_LG2 = 64;
const TWO_32 = 0x1_0000_0000;

/** 2^n for n from 0 to 64, by lookup. */
const POWER = Float64Array.from({ length: MAX_LG2 + 1 }, (_, n) => 2 ** n);

/** 4 KiB frames of a page, by lg2 of its bytes. @hot */
export const pageFrames = (sizeLg2: number): number => POWER[sizeLg2 - FRAME_LG2] as number;

/** lg2 of the bytes that one entry of a level covers. */
export const entryLg2 = (granuleLg2: number, level: number): number =>
  granuleLg2 + (LAST_LEVEL - level) * (granuleLg2 - 3);

/**
 * Index into the table of a level; the start level takes all bits that are left. @hot
 *
 * @param pfn 4 KiB frame of the input
 */
export const tableIndex = (
  pfn: number,
  granuleLg2: number,
  level: number,
  isStart: boolean,
): number => {
  const index = Math.floor(pfn / (POWER[entryLg2(granuleLg2, level) - FRAME_LG2] as number));
  return isStart ? index : index % (POWER[granuleLg2 - 3] as number);
};

/**
 * Whether a block may stand at a level. With 52-bit addresses (`wide`) each granule has one size
 * more: 512G, 64G, 4T.
 */
export const isBlockLevel = (granuleLg2: number, level: number, wide: boolean): boolean => {
  if (level === 2) return true;
  if (granuleLg2 === 12) return level === 1 || (level === 0 && wide);
  return level === 1 && wide;
};

/** Start level of a stage-1 table for inputs of `inputBits`. */
export const stage1StartLevel = (granuleLg2: number, inputBits: number): number =>
  LAST_LEVEL + 1 - Math.ceil((inputBits - granuleLg2) / (granuleLg2 - 3));

/** Bytes of the start table (stage 2: of all concatenated ones). */
export const startTableBytes = (granuleLg2: number, level: number, inputBits: number): number =>
  8 * 2 ** Math.max(inputBits - entryLg2(granuleLg2, level), 0);

/** What the start levels of a stage 2 depend on besides its STE. */
export interface StartLevelRules {
  /** S2DS: 52-bit addresses with 4K and 16K. */
  readonly ds: boolean;
  /** Small translation tables (IDR3.STT). */
  readonly smallTables: boolean;
}

/** Start levels by S2SL0 and S2SL0_2 (bit 2), by granule; undefined = reserved. */
const startLevelOf = (granuleLg2: number, code: number, rules: StartLevelRules) => {
  if (granuleLg2 === 12) {
    if (code === 3) return rules.smallTables ? 3 : undefined;
    if (code === 4) return rules.ds ? -1 : undefined;
    return [2, 1, 0][code];
  }
  if (code === 3 && granuleLg2 === 14) return rules.ds ? 0 : undefined;
  return [3, 2, 1][code];
};

/**
 * Start level of a stage-2 table.
 *
 * @param code S2SL0, with S2SL0_2 as bit 2
 * @returns undefined when the code is reserved or does not fit the IPA size
 */
export const stage2StartLevel = (
  granuleLg2: number,
  code: number,
  inputBits: number,
  rules: StartLevelRules,
): number | undefined => {
  const level = startLevelOf(granuleLg2, code, rules);
  if (level === undefined) return undefined;
  const covered = entryLg2(granuleLg2, level);
  // One level resolves at least one bit, at most its own and four by concatenation.
  const fits = inputBits > covered && inputBits <= covered + granuleLg2 - 3 + 4;
  return fits ? level : undefined;
};

/** Granule shift of the code that TG0 and S2TG use. */
export const granuleOfTg0 = (code: number): number | undefined => [12, 16, 14][code];
/** Granule shift of the code that TG1 uses. */
export const granuleOfTg1 = (code: number): number | undefined => [undefined, 14, 12, 16][code];
/** Granule shift of the code that range invalidations use. */
export const granuleOfRange = (code: number): number | undefined => [undefined, 12, 14, 16][code];

/**
 * Start levels that are reserved for small output sizes: the level above them suffices with
 * concatenated tables.
 *
 * @spec Arm ARM D8.2.5
 */
export const isStartLevelReserved = (
  granuleLg2: number,
  level: number,
  oaBits: number,
): boolean => {
  if (granuleLg2 === 12) return level === 0 && oaBits <= 42;
  if (granuleLg2 === 14) return level === 1 && oaBits <= 40;
  return level === 1 && oaBits < 44;
};

/**
 * Entries of a contiguous group, lg2, by granule and level; 0 = the hint means nothing there.
 *
 * @spec Arm ARM D8.6.1
 */
export const contiguousLg2 = (granuleLg2: number, level: number): number => {
  if (granuleLg2 === 12) return level >= 1 ? 4 : 0;
  if (level === LAST_LEVEL) return granuleLg2 === 14 ? 7 : 5;
  return level === 2 ? 5 : 0;
};

/**
 * Output or next-table address of a descriptor, byte address. @hot
 *
 * @param sizeLg2 bits below this are no part of it
 * @param wide 52-bit addresses: the 64K granule keeps bits 51:48 in 15:12, the others (LPA2) bits
 *   51:50 in 9:8 and 49:48 in place
 */
export const descriptorAddress = (
  lo: number,
  hi: number,
  granuleLg2: number,
  sizeLg2: number,
  wide: boolean,
): number => {
  let high = hi & 0xffff;
  if (wide) {
    if (granuleLg2 === 16) high |= (lo & 0xf000) << 4;
    else high = (hi & 0x3_ffff) | ((lo & 0x300) << 10);
  }
  if (sizeLg2 >= 32) return (high & (-1 << (sizeLg2 - 32))) * TWO_32;
  return high * TWO_32 + ((lo & (-1 << sizeLg2)) >>> 0);
};
