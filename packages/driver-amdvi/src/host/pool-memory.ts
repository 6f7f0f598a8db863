import type { PhysicalMemory } from '@iommukit/core';
import { createPool, type PageTablePool, type PoolRegion } from '@iommukit/pgtable-fast';

/** Address space set aside for one pool: the most that it can grow to. */
const POOL_BYTES = 2 ** 32;

/**
 * Make a page-table pool that hardware can see: in the upper half of the physical address space,
 * at the first place where nothing is.
 *
 * @param addressBits width of physical addresses
 */
export const createTablePool = (memory: PhysicalMemory, addressBits: number): PageTablePool => {
  let base = 2 ** (addressBits - 1);
  while (memory.regionAt(base) !== undefined) base += POOL_BYTES;
  const pool = createPool({ base, maxBytes: POOL_BYTES });
  const follow = poolFollower(memory);
  for (const region of pool.regions) follow(region);
  pool.onGrow(follow);
  return pool;
};

/**
 * Regions of physical memory have a fixed size, a pool grows: each growth becomes one more region
 * over the same buffer, and the earlier ones take the new buffer.
 */
const poolFollower = (memory: PhysicalMemory): ((region: PoolRegion) => void) => {
  const pieces: { refresh(): void }[] = [];
  let covered = 0;
  return (region) => {
    for (const piece of pieces) piece.refresh();
    if (region.size === covered) return;
    pieces.push(
      memory.addBackedRegion({
        name: `${region.name}+${covered}`,
        base: region.base + covered,
        size: region.size - covered,
        byteOffset: covered,
        buffer: () => region.buffer,
      }),
    );
    covered = region.size;
  };
};
