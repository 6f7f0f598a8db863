/**
 * How ranges are named in commands: TLBI by pieces of `(NUM + 1) * 2^SCALE` granules, ATC_INV by an
 * aligned power of two.
 *
 * @spec SMMUv3 4.4.1.1, 4.5.1
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_cmdq_batch_add_range)
 */

/** NUM + 1 at most. */
const MAX_MULTIPLE = 32;
const TWO_32 = 2 ** 32;

/** One range command: `multiple * 2^scale` granules. */
export interface RangePiece {
  readonly scale: number;
  /** NUM + 1. */
  readonly multiple: number;
}

/** The largest piece that a range of `granules` starts with: its odd part, five bits of it. @hot */
export const nextPiece = (granules: number): RangePiece => {
  const scale = 31 - Math.clz32(granules & -granules);
  return { scale, multiple: (granules / 2 ** scale) % MAX_MULTIPLE };
};

/**
 * Granules to name for a range whose leaf level is not given. Without a level a single granule
 * cannot be said (NUM, SCALE and TTL all zero are illegal), so one more is named.
 */
export const withoutLevel = (granules: number): number =>
  granules % MAX_MULTIPLE === 1 ? granules + 1 : granules;

/**
 * TTL of a leaf: the level of its descriptor, 1 to 3.
 *
 * @param leafLg2 lg2 of its bytes; 0 = any
 */
export const levelOf = (leafLg2: number, granuleLg2: number): number =>
  leafLg2 === 0 ? 0 : 4 - Math.floor((leafLg2 - 3) / (granuleLg2 - 3));

/**
 * ATC_INV.Size of the smallest aligned power of two that covers the 4 KiB frames from `start` to
 * `last`, inclusive: it has `2^Size` frames. @hot
 */
export const atcSize = (start: number, last: number): number => {
  const startHi = Math.floor(start / TWO_32);
  const lastHi = Math.floor(last / TWO_32);
  if (startHi !== lastHi) return 64 - Math.clz32(startHi ^ lastHi);
  return 32 - Math.clz32((start >>> 0) ^ (last >>> 0));
};
