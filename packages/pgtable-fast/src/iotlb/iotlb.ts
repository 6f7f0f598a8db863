/**
 * The software IOTLB of the hardware halves: set-associative, without allocation or bigint.
 *
 * What a lookup compares and what an invalidation compares are different things on silicon, and
 * here:
 *
 * | architecture | `source` | `pasid` | `tagA` | `tagB` |
 * |---|---|---|---|---|
 * | VT-d | SID | PASID or none | DID | PASID, RID_PASID for requests without one |
 * | SMMUv3 | world and VMID | ASID, none for global entries | world and VMID | ASID or none |
 * | AMD-Vi | DomainID | PASID or none | DomainID | PASID or none |
 *
 * Entries stay until an invalidation reaches them or room is needed: a forgotten invalidation
 * shows as a stale translation. Replacement is deterministic.
 *
 * @spec VT-d 6.2.4, 6.5; SMMUv3 3.17 and 4.4; AMD IOMMU 2.2.5, 2.4
 */
import {
  EINVAL,
  F64_PER_ENTRY_LG2,
  FAULT,
  FIRST,
  GRANTED,
  HIT_FOLD,
  I32_PER_ENTRY_LG2,
  IOTLB_MISS,
  KIND,
  LAST,
  MIN_SIZE_LG2,
  OFFSET,
  PAGE_MIX,
  PASID,
  PASID_MIX,
  PERMISSION_BITS,
  SIZE_LG2,
  SOURCE,
  SOURCE_MIX,
  TAG_A,
  TAG_B,
  TRANSLATION,
  USABLE,
} from './layout.ts';
import { PlacingIotlb } from './placement.ts';
import { mixKey } from './store.ts';

/** One entry as {@link Iotlb.entries} shows it. */
export interface IotlbEntry {
  readonly source: number;
  readonly pasid: number;
  readonly iovaPfn: number;
  readonly outPfn: number;
  readonly sizeLg2: number;
  /** Permissions the walk found. */
  readonly permissions: number;
  /** False: the leaf's D bit was 0, a write has to walk again. */
  readonly dirtyKnown: boolean;
  readonly kind: number;
  readonly tagA: number;
  readonly tagB: number;
  /** Negative code of a cached fault, 0 for a translation. */
  readonly fault: number;
}

/** A set-associative IOTLB. One instance serves one unit. */
export class Iotlb extends PlacingIotlb {
  /**
   * Translates one 4 KiB frame.
   *
   * An entry that lacks a needed permission is a miss, not a fault: hardware walks again before
   * it reports. So is a write through a leaf that was cached with D=0.
   *
   * @param source u32 of the lookup key
   * @param pasid PASID or ASID of the lookup key, {@link NO_PASID} for none
   * @param iovaPfn 4 KiB input frame, 52 bits
   * @param need permission bits, all of which the entry must have
   * @returns output 4 KiB frame; {@link IOTLB_MISS}; or the code of a cached fault (-2 or less)
   * @hot
   */
  lookup(source: number, pasid: number, iovaPfn: number, need: number): number {
    // Written out without helpers: what V8 may inline into one caller is bounded.
    const key = (Math.imul(source, SOURCE_MIX) + Math.imul(pasid, PASID_MIX)) | 0;
    const hint = (Math.imul(iovaPfn, PAGE_MIX) + key) >>> this.hintShift;
    const word = (this.hints[hint] as number) << I32_PER_ENTRY_LG2;
    const double = word >>> 1;
    const { i32, f64 } = this;
    if (
      i32[word + SOURCE] === (source | 0) &&
      i32[word + PASID] === pasid &&
      ((i32[word + USABLE] as number) & (need | TRANSLATION)) === (need | TRANSLATION) &&
      // Inside [first, last], as one branch: alone, each comparison is a toss-up in a miss.
      (iovaPfn - (f64[double + FIRST] as number)) * ((f64[double + LAST] as number) - iovaPfn) >= 0
    ) {
      if (++this.hits === HIT_FOLD) this.foldHits();
      return iovaPfn + (f64[double + OFFSET] as number);
    }
    return this.#lookupByProbe(source, pasid, iovaPfn, need);
  }

  /**
   * Finds the entry a {@link lookup} would use, for callers that need more than the frame (ATS
   * completions). Counts as a lookup.
   *
   * @returns slot for {@link describe}, or {@link IOTLB_MISS}
   */
  find(source: number, pasid: number, iovaPfn: number, need: number): number {
    const slot = this.#probe(source, pasid, iovaPfn, need | TRANSLATION);
    if (slot < 0) this.misses++;
    else this.countHit();
    return slot;
  }

  /**
   * Caches a translation. Replaces the entry of the same key, page and size, else takes a free
   * way, else the oldest insertion of the set.
   *
   * @param iovaPfn any 4 KiB frame of the page
   * @param outPfn the output frame of that frame
   * @param sizeLg2 size of the page in bytes, lg2, 12 to 64
   * @param permissions what the walk found, 16 bits whose meaning is the caller's
   * @param dirtyKnown false when the leaf has a D bit that is 0: writes will miss
   * @param kind one of {@link ENTRY_KIND}
   * @param tagA, tagB what invalidations compare, `tagA` u32
   * @returns slot, or -22 (EINVAL) for a size that cannot be, with nothing changed
   * @hot
   */
  insert(
    source: number,
    pasid: number,
    iovaPfn: number,
    outPfn: number,
    sizeLg2: number,
    permissions: number,
    dirtyKnown: boolean,
    kind: number,
    tagA: number,
    tagB: number,
  ): number {
    const slot = this.place(source, pasid, iovaPfn, sizeLg2, kind, tagA, tagB);
    if (slot < 0) return slot;
    const word = slot << I32_PER_ENTRY_LG2;
    const usable = dirtyKnown ? permissions : permissions & ~this.writeMask;
    this.i32[word + USABLE] = (usable & PERMISSION_BITS) | TRANSLATION;
    this.i32[word + GRANTED] = permissions & PERMISSION_BITS;
    this.f64[(slot << F64_PER_ENTRY_LG2) + OFFSET] = outPfn - iovaPfn;
    return slot;
  }

  /**
   * Caches a fault, as hardware in caching mode (VT-d CAP.CM, AMD NpCache) may: lookups return
   * its code until an invalidation reaches it, whatever they need.
   *
   * @param fault what lookups return: an integer of -2 or less
   * @returns slot, or -22 (EINVAL) for a size or code that cannot be, with nothing changed
   * @spec VT-d 6.1
   */
  insertFault(
    source: number,
    pasid: number,
    iovaPfn: number,
    sizeLg2: number,
    fault: number,
    kind: number,
    tagA: number,
    tagB: number,
  ): number {
    if ((fault | 0) !== fault || fault > -2) return EINVAL;
    const slot = this.place(source, pasid, iovaPfn, sizeLg2, kind, tagA, tagB);
    if (slot < 0) return slot;
    const word = slot << I32_PER_ENTRY_LG2;
    this.i32[word + USABLE] = 0;
    this.i32[word + GRANTED] = 0;
    this.i32[word + FAULT] = fault;
    return slot;
  }

  /** The entry in a slot that {@link find} or {@link insert} returned; `undefined` when empty. */
  describe(slot: number): IotlbEntry | undefined {
    if (!(slot >= 0 && slot < this.capacity) || !this.isValid(slot)) return undefined;
    const at = (word: number) => this.i32[(slot << I32_PER_ENTRY_LG2) + word] as number;
    const double = slot << F64_PER_ENTRY_LG2;
    const iovaPfn = this.f64[double + FIRST] as number;
    const fault = (at(USABLE) & TRANSLATION) === 0 ? at(FAULT) : 0;
    return {
      source: at(SOURCE) >>> 0,
      pasid: at(PASID),
      iovaPfn,
      outPfn: fault === 0 ? iovaPfn + (this.f64[double + OFFSET] as number) : IOTLB_MISS,
      sizeLg2: at(SIZE_LG2),
      permissions: at(GRANTED),
      dirtyKnown: (at(USABLE) & PERMISSION_BITS) === at(GRANTED),
      kind: at(KIND),
      tagA: at(TAG_A) >>> 0,
      tagB: at(TAG_B),
      fault,
    };
  }

  /** Every entry, in slot order: for dumps and for checking that nothing stale is left. */
  *entries(): Generator<IotlbEntry> {
    for (let slot = 0; slot < this.capacity; slot++) {
      const entry = this.describe(slot);
      if (entry !== undefined) yield entry;
    }
  }

  #lookupByProbe(source: number, pasid: number, iovaPfn: number, need: number): number {
    const slot = this.#probe(source, pasid, iovaPfn, need | TRANSLATION);
    if (slot < 0) {
      this.misses++;
      return IOTLB_MISS;
    }
    this.countHit();
    this.noteHint(source, pasid, iovaPfn, slot);
    const word = slot << I32_PER_ENTRY_LG2;
    if (((this.i32[word + USABLE] as number) & TRANSLATION) === 0) {
      return this.i32[word + FAULT] as number;
    }
    return iovaPfn + (this.f64[(slot << F64_PER_ENTRY_LG2) + OFFSET] as number);
  }

  /** Slot of the entry that answers, smallest page first, or {@link IOTLB_MISS}. */
  #probe(source: number, pasid: number, iovaPfn: number, wanted: number): number {
    const { starts, ways, liveSizes, liveSizeCount } = this;
    const keyMix = mixKey(source, pasid);
    for (let at = 0; at < liveSizeCount; at++) {
      const sizeLg2 = liveSizes[at] as number;
      let page = iovaPfn;
      let start = iovaPfn;
      if (sizeLg2 !== MIN_SIZE_LG2) {
        page = Math.floor(iovaPfn * (this.pages[sizeLg2] as number));
        start = page * (this.frames[sizeLg2] as number);
      }
      const first = this.firstSlot(page, sizeLg2, keyMix);
      let isAbsent = true;
      for (let slot = first; slot < first + ways; slot++) {
        if (starts[slot] !== start) continue;
        if (this.#answers(slot, source, pasid, iovaPfn, wanted)) return slot;
        isAbsent = false;
      }
      if (isAbsent) {
        this.absentFirst = first;
        this.absentStart = start;
      }
    }
    return IOTLB_MISS;
  }

  /** Whether an entry that starts at or before the frame answers the rest of the question. */
  #answers(slot: number, source: number, pasid: number, iovaPfn: number, wanted: number): boolean {
    const word = slot << I32_PER_ENTRY_LG2;
    return (
      iovaPfn <= (this.f64[(slot << F64_PER_ENTRY_LG2) + LAST] as number) &&
      this.i32[word + SOURCE] === (source | 0) &&
      this.i32[word + PASID] === pasid &&
      (((this.i32[word + USABLE] as number) & wanted) === wanted ||
        ((this.i32[word + USABLE] as number) & TRANSLATION) === 0)
    );
  }
}
