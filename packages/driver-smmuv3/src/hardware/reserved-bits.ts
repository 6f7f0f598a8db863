/** Reserved bits of structures in memory, for units that do not ignore them. */
import type { Layout } from '@iommukit/bits';

/**
 * Whether a structure has a bit set that its layout does not name.
 *
 * @param words u32 words, as many as the layout has
 */
export const hasReservedBits = (layout: Layout, words: ArrayLike<number>): boolean =>
  layout.reservedMasks.some((mask, at) => ((words[at] as number) & mask) !== 0);
