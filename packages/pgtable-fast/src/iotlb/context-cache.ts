/**
 * A set-associative cache of what (source, PASID) selects: context entries, PASID entries, STEs,
 * CDs, DTEs. It stands in front of the IOTLB on every request.
 *
 * The payload is the driver's: a few i32 words in {@link ContextCache.words}, already decoded.
 * Entries stay until an invalidation reaches them or room is needed.
 *
 * @spec VT-d 6.2.2, 6.2.3; SMMUv3 3.21; AMD IOMMU 2.4.2
 */
import {
  ANY_TAG,
  CC_EMPTY,
  CC_HEADER_WORDS,
  CC_PASID,
  CC_SOURCE,
  CC_TAG_A,
  CC_TAG_B,
  PASID_MIX,
  SOURCE_MIX,
} from './layout.ts';

/** Geometry of a {@link ContextCache}. */
export interface ContextCacheOptions {
  /** Number of sets: a power of two, 1 to 16384. Default 64. */
  readonly sets?: number;
  /** Entries per set, 1 to 16. Default 4. */
  readonly ways?: number;
  /** i32 words of payload per entry, 1 to 60. Default 4. */
  readonly payloadWords?: number;
}

/** Entries of a {@link ContextCache} and the order in which they give way, as plain data. */
export interface ContextCacheState {
  readonly words: Int32Array;
  readonly victims: Uint8Array;
}

function requireInteger(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`context cache ${name} must be ${min} to ${max}, got ${value}`);
  }
}

/** Cache from (source, PASID) to a few words, see the module description. */
export class ContextCache {
  /** Payloads; {@link lookup} and {@link insert} return where one starts. */
  readonly words: Int32Array;
  readonly #ways: number;
  readonly #strideLg2: number;
  readonly #setMask: number;
  /** Words of a set. */
  readonly #setWords: number;
  readonly #victims: Uint8Array;

  /** @throws {RangeError} when the geometry is impossible */
  constructor(options: ContextCacheOptions = {}) {
    const { sets = 64, ways = 4, payloadWords = 4 } = options;
    requireInteger('sets', sets, 1, 16384);
    requireInteger('ways', ways, 1, 16);
    requireInteger('payloadWords', payloadWords, 1, 60);
    if ((sets & (sets - 1)) !== 0) {
      throw new RangeError(`context cache sets must be a power of two, got ${sets}`);
    }
    this.#ways = ways;
    this.#strideLg2 = Math.ceil(Math.log2(CC_HEADER_WORDS + payloadWords));
    this.#setMask = sets - 1;
    this.#setWords = ways << this.#strideLg2;
    this.#victims = new Uint8Array(sets);
    this.words = new Int32Array((sets * ways) << this.#strideLg2);
    for (let at = 0; at < this.words.length; at += 1 << this.#strideLg2)
      this.words[at + CC_PASID] = CC_EMPTY;
  }

  /**
   * Finds the payload of a source and PASID.
   *
   * @param source u32 SID, StreamID or DeviceID
   * @param pasid PASID or SubstreamID, {@link NO_PASID} for none
   * @returns index into {@link words}, or -1
   * @hot
   */
  lookup(source: number, pasid: number): number {
    const { words } = this;
    const mix = (Math.imul(source, SOURCE_MIX) + Math.imul(pasid, PASID_MIX)) >>> 18;
    const first = (mix & this.#setMask) * this.#setWords;
    // The first way apart: nearly every hit, and no loop. The rest is a call, so that this inlines.
    if (words[first + CC_SOURCE] === (source | 0) && words[first + CC_PASID] === pasid) {
      return first + CC_HEADER_WORDS;
    }
    return this.#lookupOtherWays(source, pasid, first);
  }

  #lookupOtherWays(source: number, pasid: number, first: number): number {
    const { words } = this;
    for (let way = 1; way < this.#ways; way++) {
      const at = first + (way << this.#strideLg2);
      if (words[at + CC_SOURCE] === (source | 0) && words[at + CC_PASID] === pasid) {
        return at + CC_HEADER_WORDS;
      }
    }
    return -1;
  }

  /**
   * Makes room for an entry, in place of an older one of the same source and PASID.
   *
   * @param tagA, tagB what invalidations compare besides source and PASID, for example the DID
   * @returns index into {@link words} of the payload, zeroed, for the caller to fill
   * @hot
   */
  insert(source: number, pasid: number, tagA: number, tagB: number): number {
    const at = this.#wordFor(source, pasid);
    this.words[at + CC_SOURCE] = source;
    this.words[at + CC_PASID] = pasid;
    this.words[at + CC_TAG_A] = tagA;
    this.words[at + CC_TAG_B] = tagB;
    this.words.fill(0, at + CC_HEADER_WORDS, at + (1 << this.#strideLg2));
    return at + CC_HEADER_WORDS;
  }

  /** Drops every entry. @returns number of entries dropped */
  invalidateAll(): number {
    return this.#dropMatching(0, 0, ANY_TAG, ANY_TAG, ANY_TAG);
  }

  /**
   * Drops the entries of sources that agree with `source` in the bits of `sourceMask`.
   *
   * @param sourceMask u32; VT-d FM and SMMU ranges clear low bits
   * @param pasid one PASID, or {@link ANY_TAG}
   * @param tagA only entries of this domain, or {@link ANY_TAG} (legacy VT-d compares both)
   * @returns number of entries dropped
   */
  invalidateSource(
    source: number,
    sourceMask = -1,
    pasid: number = ANY_TAG,
    tagA: number = ANY_TAG,
  ): number {
    return this.#dropMatching(source, sourceMask, pasid, tagA, ANY_TAG);
  }

  /** Drops the entries of a tag pair, whatever their source. @returns number of entries dropped */
  invalidateTag(tagA: number, tagB: number = ANY_TAG): number {
    return this.#dropMatching(0, 0, ANY_TAG, tagA, tagB);
  }

  /** Every entry's source and PASID, in slot order: for dumps and for checks of what is cached. */
  *entries(): Generator<{ readonly source: number; readonly pasid: number }> {
    const { words } = this;
    for (let at = 0; at < words.length; at += 1 << this.#strideLg2) {
      const pasid = words[at + CC_PASID] as number;
      if (pasid !== CC_EMPTY) yield { source: (words[at + CC_SOURCE] as number) >>> 0, pasid };
    }
  }

  /** Copies of the entries, for a snapshot. */
  save(): ContextCacheState {
    return { words: this.words.slice(), victims: this.#victims.slice() };
  }

  /**
   * Put entries back in place of all that are there.
   * @throws {RangeError} with nothing changed, for the state of a cache of another geometry
   */
  load({ words, victims }: ContextCacheState): void {
    if (words.length !== this.words.length || victims.length !== this.#victims.length) {
      throw new RangeError(
        `context cache state has ${words.length} words in ${victims.length} sets, ` +
          `this one ${this.words.length} in ${this.#victims.length}`,
      );
    }
    this.words.set(words);
    this.#victims.set(victims);
  }

  #wordFor(source: number, pasid: number): number {
    const found = this.lookup(source, pasid);
    if (found >= 0) return found - CC_HEADER_WORDS;
    const mix = (Math.imul(source, SOURCE_MIX) + Math.imul(pasid, PASID_MIX)) >>> 18;
    const first = (mix & this.#setMask) * this.#setWords;
    for (let way = 0; way < this.#ways; way++) {
      const at = first + (way << this.#strideLg2);
      if (this.words[at + CC_PASID] === CC_EMPTY) return at;
    }
    const set = first / this.#setWords;
    const way = this.#victims[set] as number;
    this.#victims[set] = way + 1 === this.#ways ? 0 : way + 1;
    return first + (way << this.#strideLg2);
  }

  #dropMatching(
    source: number,
    sourceMask: number,
    pasid: number,
    tagA: number,
    tagB: number,
  ): number {
    const { words } = this;
    let dropped = 0;
    for (let at = 0; at < words.length; at += 1 << this.#strideLg2) {
      if (
        words[at + CC_PASID] !== CC_EMPTY &&
        (((words[at + CC_SOURCE] as number) ^ source) & sourceMask) === 0 &&
        (pasid === ANY_TAG || words[at + CC_PASID] === pasid) &&
        (tagA === ANY_TAG || words[at + CC_TAG_A] === (tagA | 0)) &&
        (tagB === ANY_TAG || words[at + CC_TAG_B] === tagB)
      ) {
        words[at + CC_PASID] = CC_EMPTY;
        dropped++;
      }
    }
    return dropped;
  }
}
