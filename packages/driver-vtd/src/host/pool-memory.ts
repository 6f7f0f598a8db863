import type { PhysicalMemory } from '@iommukit/core';
import { createPool, type PageTablePool, type PoolRegion } from '@iommukit/pgtable-fast';

/** Address space set aside for one pool: the most that it can grow to. */
const POOL_BYTES = 2 ** 32;

/** A pool's place in physical memory. */
export interface TablePool {
  readonly pool: PageTablePool;
  readonly basePa: number;
}

/**
 * Make a page-table pool and let hardware see it: in the upper half of the physical address
 * space, at the first place where nothing is.
 *
 * @param hostAddressBits host address width
 */
export const createTablePool = (memory: PhysicalMemory, hostAddressBits: number): TablePool => {
  let basePa = 2 ** (hostAddressBits - 1);
  while (memory.regionAt(basePa) !== undefined) basePa += POOL_BYTES;
  const pool = createPool({ base: basePa, maxBytes: POOL_BYTES });
  const pieces = new PoolPieces(memory);
  for (const region of pool.regions) pieces.follow(region);
  pool.onGrow((region) => pieces.follow(region));
  return { pool, basePa };
};

/**
 * Regions of physical memory have a fixed size, a pool grows: each growth becomes one more region
 * over the same buffer, and the earlier ones take the new buffer.
 */
class PoolPieces {
  readonly #memory: PhysicalMemory;
  readonly #refreshers: (() => void)[] = [];
  #covered = 0;

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
  }

  follow(region: PoolRegion): void {
    for (const refresh of this.#refreshers) refresh();
    if (region.size === this.#covered) return;
    const piece = this.#memory.addBackedRegion({
      name: `${region.name}+${this.#covered}`,
      base: region.base + this.#covered,
      size: region.size - this.#covered,
      byteOffset: this.#covered,
      buffer: () => region.buffer,
    });
    this.#covered = region.size;
    this.#refreshers.push(() => piece.refresh());
  }
}
