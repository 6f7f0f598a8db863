import { createPool, type PageTablePool } from './pool.ts';
import type { PoolRegion } from './shard.ts';

/** Address space set aside for one pool: the most that it can grow to. */
const POOL_BYTES = 2 ** 32;

/** Physical memory that takes pieces of foreign buffers in; `PhysicalMemory` of core is one. */
export interface HostPhysicalMemory {
  /** What answers at a byte address; undefined = nothing. */
  regionAt(pa: number): unknown;
  /** Let `size` bytes of a buffer from `byteOffset` on answer at `base`. */
  addBackedRegion(options: {
    readonly name: string;
    readonly base: number;
    readonly size: number;
    readonly byteOffset: number;
    /** False: the pool's owner saves its bytes itself. */
    readonly carried?: boolean;
    buffer(): ArrayBuffer | SharedArrayBuffer;
  }): { refresh(): void };
}

/**
 * Make a page-table pool that hardware can see: in the upper half of the physical address space,
 * at the first place where nothing is.
 *
 * @param addressBits width of physical addresses, at least 33
 * @param maxBytes most memory that tables may take, a multiple of 2 MiB up to 4 GiB
 * @throws {RangeError} for another `maxBytes`
 */
export const createPoolIn = (
  memory: HostPhysicalMemory,
  addressBits: number,
  maxBytes: number = POOL_BYTES,
): PageTablePool => {
  let base = 2 ** (addressBits - 1);
  while (memory.regionAt(base) !== undefined) base += POOL_BYTES;
  const pool = createPool({ base, maxBytes });
  const follow = poolFollower(memory);
  for (const region of pool.regions) follow(region);
  pool.onGrow(follow);
  return pool;
};

/**
 * Regions of physical memory have a fixed size, a pool grows: each growth becomes one more region
 * over the same buffer, and the earlier ones take the new buffer.
 */
const poolFollower = (memory: HostPhysicalMemory): ((region: PoolRegion) => void) => {
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
        byteOffset: region.byteOffset + covered,
        carried: false,
        buffer: () => region.buffer,
      }),
    );
    covered = region.size;
  };
};
