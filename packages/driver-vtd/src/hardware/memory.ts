/**
 * The physical memory a unit reads and writes, as a structural type: `PhysicalMemory` of core, or
 * an emulator's own RAM.
 */

/** A stretch of RAM. */
export interface HardwareRegion {
  /** First byte address, a multiple of 4 KiB. */
  readonly base: number;
  /** Bytes, at most 4 GiB. */
  readonly size: number;
  /** The bytes as dwords: index `(address - base) >>> 2`. May be replaced when memory grows. */
  readonly i32: Int32Array;
  /** Set for memory that answers reads and refuses atomic updates, such as ROM. */
  readonly readOnly?: boolean;
}

/** Physical memory. */
export interface HardwareMemory {
  /** The region that answers at a byte address; undefined is a bus error. */
  regionAt(pa: number): HardwareRegion | undefined;
}

/**
 * Read whole dwords into `out`.
 * @param pa byte address, a multiple of 4; the span lies inside one 4 KiB page
 * @returns false when nothing answers
 */
export function readDwords(
  memory: HardwareMemory,
  pa: number,
  out: Int32Array | Uint32Array,
  count: number,
): boolean {
  const region = memory.regionAt(pa);
  if (region === undefined) return false;
  const at = (pa - region.base) >>> 2;
  const { i32 } = region;
  for (let i = 0; i < count; i++) out[i] = i32[at + i] as number;
  return true;
}

/**
 * Write one dword.
 * @param pa byte address, a multiple of 4
 * @returns false when nothing answers or the memory is read-only
 */
export function writeDword(memory: HardwareMemory, pa: number, value: number): boolean {
  const region = memory.regionAt(pa);
  if (region === undefined || region.readOnly === true) return false;
  region.i32[(pa - region.base) >>> 2] = value;
  return true;
}

/**
 * Set bits of a dword in one atomic read-modify-write.
 * @returns what it held before; undefined when nothing answers or the memory is read-only
 */
export function atomicFetchOr(
  memory: HardwareMemory,
  pa: number,
  bits: number,
): number | undefined {
  const region = memory.regionAt(pa);
  if (region === undefined || region.readOnly === true) return undefined;
  return Atomics.or(region.i32, (pa - region.base) >>> 2, bits);
}

/**
 * Set bits of a dword in one atomic read-modify-write.
 * @returns false when nothing answers or the memory is read-only
 */
export function atomicSetBits(memory: HardwareMemory, pa: number, bits: number): boolean {
  const region = memory.regionAt(pa);
  if (region === undefined || region.readOnly === true) return false;
  Atomics.or(region.i32, (pa - region.base) >>> 2, bits);
  return true;
}
