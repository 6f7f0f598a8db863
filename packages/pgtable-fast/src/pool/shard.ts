/**
 * One memory of a pool: a contiguous piece of host-physical address space that holds page tables.
 * @module
 */
import {
  bestBuild,
  createEngine,
  type Engine,
  type EngineBuild,
  type EngineImage,
} from '../engine/engine.ts';
import { createMemory, WASM_PAGE_BYTES, type WasmMemory } from '../engine/webassembly.ts';
import { ERRNO } from '../errno.ts';
import {
  CHUNK_BYTES,
  CONTROL_BYTES,
  FIRST_PAGE,
  HEADER,
  SCRATCH_BYTES,
  SCRATCH_OFFSET,
} from './pool-layout.ts';

/** Region of host-physical memory that core can add as a backed region. */
export interface PoolRegion {
  readonly name: string;
  /** Byte address. */
  readonly base: number;
  /** Bytes; grows. */
  readonly size: number;
  /** Replaced when a non-shared memory grows: never keep it or a view across calls. */
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
  /** Where the region starts in `buffer`: the low half of `base`. */
  readonly byteOffset: number;
  /** Views of the region. */
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
}

/** State of one shard: what {@link Shard.save} gives. */
export interface ShardState {
  /** Bytes of the memory. */
  readonly size: number;
  /** Its start; the rest is zero. */
  readonly bytes: Uint8Array;
  /** Offsets of control blocks that no table has. */
  readonly freeBlocks: readonly number[];
}

/** What {@link Shard} needs to be told. */
export interface ShardOptions {
  readonly name: string;
  readonly base: number;
  readonly initialBytes: number;
  /** At most up to the next multiple of 4 GiB. */
  readonly maxBytes: number;
  readonly shared: boolean;
  /** Forces a build; for tests of the scalar engine. */
  readonly build?: EngineBuild | undefined;
  /** Memory made by another thread. */
  readonly memory?: WasmMemory | undefined;
  /** This thread's scratch area in it. */
  readonly scratchOffset?: number | undefined;
  /** Called after the memory has grown. */
  readonly onGrow: (shard: Shard) => void;
}

/** In `Shard.regions`: no region, a number that no region has. */
export const NO_REGION = -0x8000_0000;

const PAGE_BYTES = 4096;
/** The last page that 32-bit offsets reach. */
const LAST_PAGE = 2 ** 20 - 1;
/** log2 of the pages of a scratch area. */
const SCRATCH_ORDER = 4;
/** A growth step is at most this, unless more is asked for. */
const MAX_STEP_BYTES = 64 * 1024 * 1024;

/** One WebAssembly memory with its allocator state, and the engines bound to it. */
export class Shard implements PoolRegion {
  readonly name: string;
  readonly base: number;
  readonly maxBytes: number;
  readonly memory: WasmMemory;
  readonly build: EngineBuild;
  readonly scratchOffset: number;
  readonly byteOffset: number;
  buffer!: ArrayBuffer | SharedArrayBuffer;
  u8!: Uint8Array;
  i32!: Int32Array;
  /** The whole memory, for offsets as the engines have them; table entries as halves and in one. */
  words!: Int32Array;
  doubles!: Float64Array;
  /** The scratch area as doubles, and as bytes. */
  scratchF64!: Float64Array;
  scratchU8!: Uint8Array;
  size = 0;
  /** Table classes of this shard, one per engine. */
  readonly classes = new Map<EngineImage, unknown>();
  /** By control block: what look-ups know of its tree, see `table/look-up.ts`. */
  readonly regions = new Map<number, Int32Array>();
  readonly #engines = new Map<EngineImage, Engine>();
  readonly #freeBlocks: number[] = [];
  readonly #onGrow: (shard: Shard) => void;

  constructor(options: ShardOptions) {
    this.name = options.name;
    this.base = options.base;
    this.maxBytes = options.maxBytes;
    this.build = options.build ?? bestBuild(options.shared);
    this.byteOffset = options.base % 0x1_0000_0000;
    this.scratchOffset = options.scratchOffset ?? this.byteOffset + SCRATCH_OFFSET;
    this.#onGrow = options.onGrow;
    const { byteOffset } = this;
    const { initialBytes, maxBytes, shared } = options;
    this.memory =
      options.memory ?? createMemory(byteOffset + initialBytes, byteOffset + maxBytes, shared);
    this.refresh();
    if (!options.memory) {
      this.i32[HEADER.BUMP] = byteOffset / PAGE_BYTES + FIRST_PAGE;
      this.#setLimit();
    }
  }

  /** Tells the engines where the memory ends. They never use its last page: addresses behind it would wrap. */
  #setLimit(): void {
    const end = (this.byteOffset + this.size) / PAGE_BYTES;
    this.i32[HEADER.LIMIT] = Math.min(end, LAST_PAGE);
  }

  /** Takes new views after the memory has grown, here or in another thread. */
  refresh(): void {
    const { buffer } = this.memory;
    const { byteOffset } = this;
    this.buffer = buffer;
    this.size = buffer.byteLength - byteOffset;
    this.u8 = new Uint8Array(buffer, byteOffset);
    this.i32 = new Int32Array(buffer, byteOffset);
    this.words = new Int32Array(buffer);
    this.doubles = new Float64Array(buffer);
    this.scratchF64 = new Float64Array(buffer, this.scratchOffset, SCRATCH_BYTES / 8);
    this.scratchU8 = new Uint8Array(buffer, this.scratchOffset, SCRATCH_BYTES);
  }

  /** Grows by at least `pages` 4 KiB pages, in steps that double up to 64 MiB. 0 or -12. */
  grow(pages: number): number {
    const room = this.maxBytes - this.size;
    const asked = Math.ceil((pages * PAGE_BYTES) / CHUNK_BYTES) * CHUNK_BYTES;
    if (asked > room) return ERRNO.ENOMEM;
    const step = Math.min(Math.max(asked, Math.min(this.size, MAX_STEP_BYTES)), room);
    if (!this.#growBytes(step) && !this.#growBytes(asked)) return ERRNO.ENOMEM;
    this.refresh();
    this.#setLimit();
    this.#onGrow(this);
    return 0;
  }

  #growBytes(bytes: number): boolean {
    try {
      this.memory.grow(bytes / WASM_PAGE_BYTES);
      return true;
    } catch {
      return false; // the machine has no more memory or address space
    }
  }

  /** The engine of a format on this memory. */
  engine(image: EngineImage): Engine {
    let engine = this.#engines.get(image);
    if (!engine) {
      engine = createEngine(image, this.build, this);
      this.#engines.set(image, engine);
    }
    return engine;
  }

  /** Offset of a zeroed control block, 0 when there is no memory left. */
  takeControlBlock(engine: Engine): number {
    if (this.#freeBlocks.length === 0) {
      if (engine.reserve(1, 0) !== 0) return 0;
      const page = engine.allocate(0) >>> 0;
      for (let at = PAGE_BYTES - CONTROL_BYTES; at >= 0; at -= CONTROL_BYTES)
        this.#freeBlocks.push(page + at);
    }
    const block = this.#freeBlocks.pop() as number;
    this.words.fill(0, block >>> 2, (block + CONTROL_BYTES) >>> 2);
    return block;
  }

  /** Gives a control block back. */
  releaseControlBlock(block: number): void {
    this.words.fill(0, block >>> 2, (block + CONTROL_BYTES) >>> 2);
    this.#freeBlocks.push(block);
  }

  /** Memory up to its last byte that is not zero, and control blocks to give out. */
  save(): ShardState {
    const { i32, u8, size } = this;
    let words = i32.length;
    while (words > 0 && i32[words - 1] === 0) words--;
    return { size, bytes: u8.slice(0, words * 4), freeBlocks: [...this.#freeBlocks] };
  }

  /**
   * Put a state in place of everything; tables made before are none any more.
   *
   * @param state of a shard at this base, of this size or smaller
   */
  load(state: ShardState): void {
    for (const known of this.regions.values()) known.fill(NO_REGION);
    this.regions.clear();
    this.u8.set(state.bytes);
    this.u8.fill(0, state.bytes.length);
    this.#setLimit();
    this.#freeBlocks.splice(0, this.#freeBlocks.length, ...state.freeBlocks);
  }

  /** Offset of a scratch area for another thread, 0 when there is no memory left or no table yet. */
  takeScratch(): number {
    const engine = this.#engines.values().next().value;
    if (engine === undefined || engine.reserve(1, SCRATCH_ORDER) !== 0) return 0;
    return engine.allocate(SCRATCH_ORDER) >>> 0;
  }

  /** Bytes that tables could still take: free blocks, fresh memory and growth. */
  room(): number {
    return this.maxBytes - ((this.i32[HEADER.IN_USE] as number) >>> 0) * PAGE_BYTES;
  }

  /** Touches memory now, so that first use does not pay for page faults. */
  prefault(bytes: number): void {
    const end = Math.min(bytes, this.size) >>> 2;
    for (let at = (FIRST_PAGE * PAGE_BYTES) >>> 2; at < end; at += PAGE_BYTES >>> 2)
      this.i32[at] = 0;
  }
}
