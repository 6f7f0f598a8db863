/**
 * The page-table pool of a machine: memory for many tables, growing, in shards of at most 4 GiB.
 * @module
 */
import type { EngineBuild } from '../engine/engine.ts';
import type { WasmMemory } from '../engine/webassembly.ts';
import { CHUNK_BYTES, CONTROL_BYTES, HEADER, ORDERS } from './pool-layout.ts';
import { type PoolRegion, Shard, type ShardState } from './shard.ts';

/** Options of {@link createPool}. All sizes in bytes. */
export interface PoolOptions {
  /** Host-physical address of the first shard, a multiple of 2 MiB below 2^52. Default 64 GiB. */
  readonly base?: number;
  /** Memory of the first shard at the start, rounded up to 2 MiB. Default 2 MiB. */
  readonly initialBytes?: number;
  /** Memory of all shards together. Default 4 GiB. */
  readonly maxBytes?: number;
  /** Shared memory, so that other threads may translate. Default false. */
  readonly shared?: boolean;
  /** Memory to touch at once, which makes first use of it faster. Default 0. */
  readonly prefaultBytes?: number;
  /** Largest shard, a multiple of 2 MiB up to 4 GiB. Default 4 GiB. */
  readonly shardBytes?: number;
  /** Engine build; default the best the host runs. */
  readonly build?: EngineBuild;
}

/** What another thread needs for `attachPool`; structured-cloneable when the pool is shared. */
export interface PoolHandle {
  readonly options: Required<Omit<PoolOptions, 'build'>>;
  readonly memories: readonly WasmMemory[];
  /** The other thread's own scratch area in each memory. */
  readonly scratchOffsets: readonly number[];
}

/** What {@link PageTablePool.stats} returns. */
export interface PoolStats {
  /** Memory of all shards. */
  readonly totalBytes: number;
  /** Memory of tables and control blocks in use. */
  readonly usedBytes: number;
  /** Memory on free lists. */
  readonly freeBytes: number;
  readonly shards: number;
}

/** Largest WebAssembly memory, and the reach of a table pointer's low half. */
const MAX_SHARD_BYTES = 0x1_0000_0000;
const ADDRESS_LIMIT = 2 ** 52;

function fail(name: string, value: number, rule: string): never {
  throw new RangeError(`createPool: ${name} is ${value}, must be ${rule}`);
}

function checkSize(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    fail(name, value, `a whole number of bytes from ${min} to ${max}`);
  }
}

const roundUp = (bytes: number) => Math.ceil(bytes / CHUNK_BYTES) * CHUNK_BYTES;

function complete(options: PoolOptions): Required<Omit<PoolOptions, 'build'>> {
  const base = options.base ?? 0x10_0000_0000;
  const maxBytes = options.maxBytes ?? MAX_SHARD_BYTES;
  const shardBytes = options.shardBytes ?? MAX_SHARD_BYTES;
  const initialBytes = options.initialBytes ?? CHUNK_BYTES;
  const prefaultBytes = options.prefaultBytes ?? 0;
  checkSize('base', base, 0, ADDRESS_LIMIT - CHUNK_BYTES);
  if (base % CHUNK_BYTES !== 0) fail('base', base, 'a multiple of 2 MiB');
  checkSize('shardBytes', shardBytes, CHUNK_BYTES, MAX_SHARD_BYTES);
  if (shardBytes % CHUNK_BYTES !== 0) fail('shardBytes', shardBytes, 'a multiple of 2 MiB');
  checkSize('maxBytes', maxBytes, CHUNK_BYTES, ADDRESS_LIMIT - base);
  if (maxBytes % CHUNK_BYTES !== 0) fail('maxBytes', maxBytes, 'a multiple of 2 MiB');
  checkSize('initialBytes', initialBytes, 1, Math.min(maxBytes, shardBytes));
  checkSize('prefaultBytes', prefaultBytes, 0, Math.min(maxBytes, shardBytes));
  const start = roundUp(Math.max(initialBytes, prefaultBytes));
  return {
    base,
    maxBytes,
    shardBytes,
    initialBytes: start,
    prefaultBytes,
    shared: options.shared ?? false,
  };
}

const PAGE_BYTES = 4096;

function checkShardState({ size, bytes, freeBlocks }: ShardState, shard: Shard): void {
  const whole = size >= CHUNK_BYTES && size % CHUNK_BYTES === 0 && size <= shard.maxBytes;
  if (!whole || bytes.length > size || bytes.length % 4 !== 0) {
    throw new RangeError(`pool state: ${bytes.length} bytes of a shard of ${size}`);
  }
  const end = shard.byteOffset + size;
  for (const block of freeBlocks) {
    if (block % CONTROL_BYTES === 0 && block >= shard.byteOffset && block < end) continue;
    throw new RangeError(`pool state: no control block at ${block}`);
  }
}

/** Called after a region has grown, or with `isNew` after one was added. */
export type GrowListener = (region: PoolRegion, isNew: boolean) => void;

/** Memory for page tables. Create it with {@link createPool}. */
export class PageTablePool {
  readonly shared: boolean;
  readonly shards: Shard[] = [];
  readonly #options: Required<Omit<PoolOptions, 'build'>>;
  readonly #build: EngineBuild | undefined;
  readonly #listeners = new Set<GrowListener>();

  constructor(
    options: PoolOptions,
    memories: readonly WasmMemory[] = [],
    scratch: readonly number[] = [],
  ) {
    this.#options = complete(options);
    this.#build = options.build;
    this.shared = this.#options.shared;
    this.#addShard(memories[0], scratch[0]);
    for (let i = 1; i < memories.length; i++) this.#addShard(memories[i], scratch[i]);
    if (memories.length === 0) this.#first.prefault(this.#options.prefaultBytes);
  }

  get #first(): Shard {
    return this.shards[0] as Shard;
  }

  /** Host-physical byte address of the first shard. */
  get base(): number {
    return this.#first.base;
  }

  /** Bytes of the first shard; grows. */
  get size(): number {
    return this.#first.size;
  }

  /** Memory of the first shard; a new object after growth. */
  get buffer(): ArrayBuffer | SharedArrayBuffer {
    return this.#first.buffer;
  }

  /** Every shard as a region of host-physical memory. */
  get regions(): readonly PoolRegion[] {
    return this.shards;
  }

  /** The region that holds a host-physical byte address. @hot */
  regionAt(pa: number): PoolRegion | undefined {
    for (let i = 0; i < this.shards.length; i++) {
      const shard = this.shards[i] as Shard;
      const offset = pa - shard.base;
      if (offset < 0) return undefined;
      if (offset < shard.size) return shard;
      if (offset < shard.maxBytes && this.shared) {
        shard.refresh();
        if (offset < shard.size) return shard;
      }
    }
    return undefined;
  }

  /** Calls `listener` after growth. Returns what ends that. */
  onGrow(listener: GrowListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A shard after the last one; undefined when the pool is at its maximum. */
  addShard(): Shard | undefined {
    if (this.#shardSize(this.#nextBase()) === 0) return undefined;
    const shard = this.#addShard();
    for (const listener of this.#listeners) listener(shard, true);
    return shard;
  }

  /** Address behind the last shard. */
  #nextBase(): number {
    const last = this.shards.at(-1);
    return last ? last.base + last.maxBytes : this.#options.base;
  }

  /** Most bytes of a shard at `base`: it ends where its low address half would start again. */
  #shardSize(base: number): number {
    const { maxBytes, shardBytes } = this.#options;
    const left = this.#options.base + maxBytes - base;
    return Math.min(shardBytes, left, MAX_SHARD_BYTES - (base % MAX_SHARD_BYTES));
  }

  #addShard(memory?: WasmMemory, scratchOffset?: number): Shard {
    const { initialBytes, shared } = this.#options;
    const index = this.shards.length;
    const base = this.#nextBase();
    const size = this.#shardSize(base);
    const shard = new Shard({
      name: `page-table pool ${index}`,
      base,
      initialBytes: Math.min(index === 0 ? initialBytes : CHUNK_BYTES, size),
      maxBytes: size,
      shared,
      build: this.#build,
      memory,
      scratchOffset,
      onGrow: (grown) => {
        for (const listener of this.#listeners) listener(grown, false);
      },
    });
    this.shards.push(shard);
    return shard;
  }

  /** Everything in the pool, for a pool at the same base in another process. */
  save(): ShardState[] {
    return this.shards.map((shard) => shard.save());
  }

  /**
   * Make room for a state; tables stay.
   *
   * @throws {RangeError} when the pool cannot hold it, or it is no state of a pool
   */
  reserveFor(states: readonly ShardState[]): void {
    if (states.length === 0) throw new RangeError('pool state: no shard');
    states.forEach((state, index) => {
      const shard = this.shards[index] ?? this.addShard();
      if (!shard) throw new RangeError(`pool state: no room for shard ${index}`);
      checkShardState(state, shard);
      const missing = (state.size - shard.size) / PAGE_BYTES;
      if (missing > 0 && shard.grow(missing) !== 0) {
        throw new RangeError(`pool state: no memory for ${state.size} bytes`);
      }
    });
  }

  /** Put a state in place after {@link reserveFor}; tables made before are none any more. */
  load(states: readonly ShardState[]): void {
    states.forEach((state, index) => {
      (this.shards[index] as Shard).load(state);
    });
  }

  /** Counts over all shards; allocates its result. */
  stats(): PoolStats {
    let totalBytes = 0;
    let usedBytes = 0;
    let freeBytes = 0;
    for (const { size, i32 } of this.shards) {
      totalBytes += size;
      usedBytes += ((i32[HEADER.IN_USE] as number) >>> 0) * 4096;
      for (let order = 0; order < ORDERS; order++) {
        freeBytes += ((i32[HEADER.FREE_COUNTS + order] as number) >>> 0) * 4096 * 2 ** order;
      }
    }
    return { totalBytes, usedBytes, freeBytes, shards: this.shards.length };
  }

  /**
   * What `attachPool` in one other thread needs: post it as a message. Every thread needs a handle of
   * its own, because each comes with a scratch area; shards added later need a new one.
   * @throws {Error} the pool is not shared, has no table yet, or there is no memory left
   */
  handle(): PoolHandle {
    if (!this.shared)
      throw new Error('handle: the pool is not shared; create it with shared: true');
    const scratchOffsets = this.shards.map((shard) => {
      const offset = shard.takeScratch();
      if (offset === 0) throw new Error('handle: no table yet, or no memory for 64 KiB of scratch');
      return offset;
    });
    return {
      options: this.#options,
      memories: this.shards.map((shard) => shard.memory),
      scratchOffsets,
    };
  }
}

/**
 * Creates a pool.
 * @throws {RangeError} naming the option, its value and what is allowed
 */
export function createPool(options: PoolOptions = {}): PageTablePool {
  return new PageTablePool(options);
}

/** The pool of another thread, from its {@link PageTablePool.handle}. Only one thread may change tables. */
export function attachPool(handle: PoolHandle): PageTablePool {
  return new PageTablePool(handle.options, handle.memories, handle.scratchOffsets);
}
