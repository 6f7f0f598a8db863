/**
 * Storage of the software IOTLB: geometry, the record of one entry, hashing, live page sizes.
 *
 * One entry is one 64-byte cache line of a single buffer, seen as 16 `i32` words and as 8 `f64`
 * words. Frame numbers are `f64` because they have up to 52 bits.
 */
import {
  COLOURS_LG2,
  F64_PER_ENTRY_LG2,
  FIRST,
  HIT_FOLD,
  I32_PER_ENTRY_LG2,
  LAST,
  MAX_SIZE_LG2,
  MIN_SIZE_LG2,
  PAGE_MIX,
  PASID_MIX,
  SET_FULL,
  SIZE_LG2,
  SIZE_MIX,
  SOURCE_MIX,
} from './layout.ts';

/** What an entry was made from; commands reach some kinds and leave others. Bits of a mask. */
export const ENTRY_KIND = {
  /** Second-stage (VT-d SS, SMMU stage 2, AMD host) translation. */
  SECOND_STAGE: 1,
  /** First-stage (VT-d FS, SMMU stage 1, AMD guest) translation that is not nested. */
  FIRST_STAGE: 2,
  /** First stage over second stage: keyed by the untranslated address, holds the final frame. */
  NESTED: 4,
  /** Pass-through. */
  PASS_THROUGH: 8,
} as const;

/** Geometry of an {@link IotlbStore}. */
export interface IotlbOptions {
  /** Number of sets: a power of two, 8 to 16384. Default 512. */
  readonly sets?: number;
  /** Entries per set: 1 to 16, `sets * ways` at most 65536. Default 4. */
  readonly ways?: number;
  /** Permission bits that need the leaf's D bit to be 1 already. Default 2 (`ACCESS.WRITE`). */
  readonly writeMask?: number;
}

/** Entries of an {@link IotlbStore} and the order in which they give way, as plain data. */
export interface IotlbState {
  readonly sets: number;
  readonly ways: number;
  /** The records of all slots. */
  readonly words: Int32Array;
  readonly victims: Uint8Array;
}

/** Counters since creation or the last reset. */
export interface IotlbStatistics {
  readonly hits: number;
  readonly misses: number;
  /** Valid entries replaced for want of room. */
  readonly evictions: number;
  /** Entries dropped by invalidations. */
  readonly invalidated: number;
}

/** Whether `sizeLg2` is a size an entry or a range can have. */
export function isSizeLg2(sizeLg2: number): boolean {
  return (sizeLg2 | 0) === sizeLg2 && sizeLg2 >= MIN_SIZE_LG2 && sizeLg2 <= MAX_SIZE_LG2;
}

/** Mixes a lookup key without its address into 32 bits. */
export function mixKey(source: number, pasid: number): number {
  return (Math.imul(source, SOURCE_MIX) + Math.imul(pasid, PASID_MIX)) | 0;
}

/** Mixes a page number (at the page's own size) into 32 bits. */
export function mixPage(page: number, sizeLg2: number): number {
  return (Math.imul(page, PAGE_MIX) + Math.imul(sizeLg2 - MIN_SIZE_LG2, SIZE_MIX)) | 0;
}

function requireGeometry(sets: number, ways: number): void {
  const powerOfTwo = Number.isInteger(sets) && sets > 0 && (sets & (sets - 1)) === 0;
  if (!powerOfTwo || sets < 8 || sets > 16384) {
    throw new RangeError(`IOTLB sets must be a power of two from 8 to 16384, got ${sets}`);
  }
  if (!Number.isInteger(ways) || ways < 1 || ways > 16 || sets * ways > 65536) {
    throw new RangeError(
      `IOTLB ways must be 1 to 16 with sets * ways at most 65536, got ${ways} with ${sets} sets`,
    );
  }
}

/** The arrays of an IOTLB and the few operations every other part is made of. */
export class IotlbStore {
  /** Number of sets. */
  readonly sets: number;
  /** Entries per set. */
  readonly ways: number;
  /** Entries in all. */
  readonly capacity: number;
  protected readonly writeMask: number;
  protected readonly i32: Int32Array;
  protected readonly f64: Float64Array;
  /** First input frame of each slot again: searching a set reads one cache line, not `ways`. */
  protected readonly starts: Float64Array;
  /** Next victim way of each set, {@link SET_FULL} added, at the index of the set's first slot. */
  protected readonly victims: Uint8Array;
  /** Shift that turns a 32-bit mix into a set number. */
  protected readonly setShift: number;
  /** Frames per page of each size lg2. */
  protected readonly frames = new Float64Array(MAX_SIZE_LG2 + 1);
  /** Pages per frame of each size lg2: a product is as exact as the quotient, and sooner there. */
  protected readonly pages = new Float64Array(MAX_SIZE_LG2 + 1);
  /** Valid entries of each size lg2. */
  readonly #countBySize = new Int32Array(MAX_SIZE_LG2 + 1);
  /** The sizes with at least one entry, ascending, in the first {@link liveSizeCount} places. */
  protected readonly liveSizes = new Uint8Array(MAX_SIZE_LG2 + 1);
  protected liveSizeCount = 0;
  #entryCount = 0;
  /** Hits since {@link hitsFolded}: a small integer, because adding to a double takes longer. */
  protected hits = 0;
  protected hitsFolded = 0;
  protected misses = 0;
  protected evictions = 0;
  protected invalidated = 0;

  /** @throws {RangeError} when the geometry is impossible */
  constructor(options: IotlbOptions = {}) {
    const { sets = 512, ways = 4, writeMask = 2 } = options;
    requireGeometry(sets, ways);
    this.sets = sets;
    this.ways = ways;
    this.capacity = sets * ways;
    this.writeMask = writeMask;
    // `| 0`: Math.log2 gives a double, and a field that ever held one costs a check per use.
    this.setShift = (32 - Math.log2(sets)) | 0;
    const buffer = new ArrayBuffer(this.capacity << 6);
    this.i32 = new Int32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.starts = new Float64Array(this.capacity);
    this.victims = new Uint8Array(this.capacity);
    for (let lg2 = MIN_SIZE_LG2; lg2 <= MAX_SIZE_LG2; lg2++) {
      this.frames[lg2] = 2 ** (lg2 - MIN_SIZE_LG2);
      this.pages[lg2] = 2 ** (MIN_SIZE_LG2 - lg2);
    }
    for (let slot = 0; slot < this.capacity; slot++) this.clear(slot);
  }

  /** Valid entries. */
  get size(): number {
    return this.#entryCount;
  }

  /** Counters; a fresh object. */
  get statistics(): IotlbStatistics {
    return {
      hits: this.hitsFolded + this.hits,
      misses: this.misses,
      evictions: this.evictions,
      invalidated: this.invalidated,
    };
  }

  /** Sets all counters to 0; entries stay. */
  resetStatistics(): void {
    this.hits = 0;
    this.hitsFolded = 0;
    this.misses = 0;
    this.evictions = 0;
    this.invalidated = 0;
  }

  /** Copies of the entries, for a snapshot; counters are not part of it. */
  save(): IotlbState {
    const { sets, ways, i32, victims } = this;
    return { sets, ways, words: i32.slice(), victims: victims.slice() };
  }

  /**
   * Put entries back in place of all that are there.
   * @throws {RangeError} with nothing changed, for the state of an IOTLB of another geometry
   */
  load(state: IotlbState): void {
    if (state.sets !== this.sets || state.ways !== this.ways) {
      throw new RangeError(
        `IOTLB state has ${state.sets} sets of ${state.ways}, this one ${this.sets} of ${this.ways}`,
      );
    }
    for (let slot = 0; slot < this.capacity; slot++) if (this.isValid(slot)) this.drop(slot);
    this.i32.set(state.words);
    this.victims.set(state.victims);
    for (let slot = 0; slot < this.capacity; slot++) {
      this.starts[slot] = this.f64[(slot << F64_PER_ENTRY_LG2) + FIRST] as number;
      if (this.isValid(slot))
        this.addSize(this.i32[(slot << I32_PER_ENTRY_LG2) + SIZE_LG2] as number);
    }
  }

  /** Whether `slot` holds an entry. */
  protected isValid(slot: number): boolean {
    return this.starts[slot] !== Number.POSITIVE_INFINITY;
  }

  protected clear(slot: number): void {
    this.starts[slot] = Number.POSITIVE_INFINITY;
    this.f64[(slot << F64_PER_ENTRY_LG2) + FIRST] = Number.POSITIVE_INFINITY;
    this.f64[(slot << F64_PER_ENTRY_LG2) + LAST] = Number.POSITIVE_INFINITY;
  }

  protected countHit(): void {
    if (++this.hits === HIT_FOLD) this.foldHits();
  }

  protected foldHits(): void {
    this.hitsFolded += this.hits;
    this.hits = 0;
  }

  /** Notes that one more entry of this size exists. */
  protected addSize(sizeLg2: number): void {
    this.#entryCount++;
    const count = (this.#countBySize[sizeLg2] as number) + 1;
    this.#countBySize[sizeLg2] = count;
    if (count !== 1) return;
    let at = this.liveSizeCount++;
    for (; at > 0 && (this.liveSizes[at - 1] as number) > sizeLg2; at--) {
      this.liveSizes[at] = this.liveSizes[at - 1] as number;
    }
    this.liveSizes[at] = sizeLg2;
  }

  /** Makes the valid entry in `slot` invalid. */
  protected drop(slot: number): void {
    this.clear(slot);
    const first = slot - (slot % this.ways);
    this.victims[first] = (this.victims[first] as number) & ~SET_FULL;
    const sizeLg2 = this.i32[(slot << I32_PER_ENTRY_LG2) + SIZE_LG2] as number;
    this.#entryCount--;
    const count = (this.#countBySize[sizeLg2] as number) - 1;
    this.#countBySize[sizeLg2] = count;
    if (count !== 0) return;
    const at = this.liveSizes.indexOf(sizeLg2);
    this.liveSizes.copyWithin(at, at + 1, this.liveSizeCount--);
  }

  /**
   * First slot of the set of a page.
   *
   * A key only flips the low {@link COLOURS_LG2} bits of the set number. Spaces that use the
   * same addresses still land in different sets, and an invalidation, which does not know the
   * keys, finds all entries of a page in one aligned group of sets.
   */
  protected firstSlot(page: number, sizeLg2: number, keyMix: number): number {
    const set = (mixPage(page, sizeLg2) >>> this.setShift) ^ (keyMix >>> (32 - COLOURS_LG2));
    return set * this.ways;
  }
}
