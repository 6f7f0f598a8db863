/**
 * Engine modules: the operations of one format, compiled from `wasm/`, bound to one shard's memory.
 * @module
 */
import { compile, hasSimd, instantiate, type WasmMemory, type WasmModule } from './webassembly.ts';

/** The builds of one format's engine, base64. */
export interface EngineImage {
  readonly SIMD: string;
  readonly SCALAR: string;
  /** SIMD, and atomics where another thread could see a half-built table. */
  readonly SHARED: string;
}

/** Which build to run. */
export type EngineBuild = 'simd' | 'scalar' | 'shared';

/** Exports of an engine module. `block` is the memory offset of a table's control block. */
export interface Engine {
  mapRange(block: number, iova: number, oa: number, frames: number, prot: number): number;
  mapOne(block: number, iova: number, oa: number, prot: number): number;
  beginRuns(block: number, iova: number, frames: number, prot: number): number;
  planRuns(block: number, iova: number, runs: number, last: boolean): number;
  writeRuns(block: number, iova: number, runs: number): void;
  /** Frames, -errno, or -2^31 when the frames are in the scratch area, as a double. */
  unmapRange(block: number, iova: number, frames: number): number;
  /**
   * Frames of a range in two full leaf tables of one region, or 0 when `unmapRange` must do it. `entries` is
   * what `regionTable` gives for the region.
   */
  unmapInRegion(entries: number, iova: number, frames: number): number;
  /** Frames, or -1 when `unmapRange` must do it. */
  unmapOne(block: number, iova: number): number;
  /** Writes a leaf of frame 0 and the bits of leaves with several slots to the scratch area. */
  describeLeaf(block: number, prot: number): void;
  translate(block: number, iova: number): number;
  translateBatch(block: number, count: number): void;
  /** Offset (as int32) of the level-1 entries of the 2^18 frames around `iova`; 0 when there are none to read. */
  regionTable(block: number, iova: number): number;
  /** Writes to the scratch area how to read entries there, see `wasm/translate.ts`. */
  describeLookUp(): void;
  readRuns(block: number, iova: number, frames: number, capacity: number): number;
  readAndClearDirty(
    block: number,
    iova: number,
    frames: number,
    bit: number,
    bitLg2: number,
    flags: number,
  ): number;
  /** The errno that `readAndClearDirty` of a range gives, or 0; for a range that takes several calls. */
  checkDirtyRange(block: number, iova: number, frames: number): number;
  setAccessedDirty(block: number, iova: number, write: boolean): number;
  /** Writes a leaf to the scratch area: first frame, output frame, frames, level, word halves. */
  nextLeaf(block: number, iova: number, end: number): number;
  splitLeaf(block: number, iova: number, sizeLg2: number): number;
  mergeLeaves(block: number, iova: number, frames: number, maxSizeLg2: number): number;
  allocate(order: number): number;
  release(offset: number, order: number): void;
  releaseList(first: number, count: number, order: number): void;
  reserve(count: number, order: number): number;
  freeAll(block: number): void;
  mappedFrames(block: number): number;
}

/** What an engine imports. */
export interface EngineHost {
  readonly memory: WasmMemory;
  /** Host-physical byte address where the pool starts; its low half is the memory offset. */
  readonly base: number;
  /** Offset of this thread's scratch area. */
  readonly scratchOffset: number;
  /** Grows the memory by 4 KiB pages; 0 or -12. */
  grow(pages: number): number;
}

let simd: boolean | undefined;
const modules = new WeakMap<EngineImage, Partial<Record<EngineBuild, WasmModule>>>();

/** The best build for a memory: `shared` needs SIMD, which every engine with shared memory has. */
export function bestBuild(shared: boolean): EngineBuild {
  if (shared) return 'shared';
  simd ??= hasSimd();
  return simd ? 'simd' : 'scalar';
}

/** Compiles an image once per process. */
function moduleOf(image: EngineImage, build: EngineBuild): WasmModule {
  let compiled = modules.get(image);
  if (!compiled) {
    compiled = {};
    modules.set(image, compiled);
  }
  const text = build === 'simd' ? image.SIMD : build === 'scalar' ? image.SCALAR : image.SHARED;
  compiled[build] ??= compile(text);
  return compiled[build];
}

/** Binds an engine to a memory. */
export function createEngine(image: EngineImage, build: EngineBuild, host: EngineHost): Engine {
  const origin = host.base % 0x1_0000_0000;
  const baseHi = (host.base - origin) / 0x1_0000_0000;
  const grow = (pages: number) => host.grow(pages >>> 0);
  return instantiate<Engine>(moduleOf(image, build), {
    env: {
      memory: host.memory,
      grow,
      baseHi: baseHi | 0,
      origin: origin | 0,
      scratch: host.scratchOffset | 0,
    },
  });
}
