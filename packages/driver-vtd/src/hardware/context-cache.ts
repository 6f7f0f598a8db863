/**
 * The context cache: one decoded context entry per requester.
 *
 * @spec VT-d 6.2.1 (tagging), 6.5.2.1 (invalidation)
 */

/** Bits of an entry's info word. A word of 0 is no entry. */
export const CONTEXT = {
  VALID: 1,
  FPD: 1 << 1,
  /** Translation type of a legacy entry. */
  TT_SHIFT: 2,
  /** AW code of a legacy entry. */
  AW_SHIFT: 4,
  DTE: 1 << 8,
  PASIDE: 1 << 9,
  PRE: 1 << 10,
  EPTR: 1 << 11,
  RID_PRIV: 1 << 12,
  HPTE: 1 << 13,
  /** Read in scalable mode; an entry of the other mode does not answer. */
  SCALABLE: 1 << 15,
  PDTS_SHIFT: 16,
  /** Fault reason of a negative entry (caching mode only). */
  REASON_SHIFT: 24,
} as const;

const FIRST_CAPACITY = 64;

/** Function bits of a devfn that an FM code masks. */
const FUNCTION_MASK = [0, 4, 6, 7] as const;

/** Every requester has its own place, so entries leave only by invalidation. */
export class ContextCache {
  /** Place of a requester, plus one; 0 = never seen. */
  readonly #placeOf = new Uint32Array(0x1_0000);
  #count = 0;
  /** Requester of each place. */
  readonly #rids: number[] = [];
  /** Changes with every entry that comes or goes. */
  generation = 0;
  /** Packed fields, see {@link CONTEXT}. */
  info = new Int32Array(FIRST_CAPACITY);
  /** Domain id of a legacy entry; 0 for scalable and negative entries. */
  did = new Int32Array(FIRST_CAPACITY);
  ridPasid = new Int32Array(FIRST_CAPACITY);
  /** 4 KiB frame of the second-stage table or PASID directory. */
  pointer = new Float64Array(FIRST_CAPACITY);

  /** @hot Place of a requester, or -1 when it has none. */
  find(rid: number): number {
    return (this.#placeOf[rid] as number) - 1;
  }

  /** Place of a requester, made when it has none. */
  placeFor(rid: number): number {
    this.generation++;
    const known = this.find(rid);
    if (known >= 0) return known;
    if (this.#count === this.info.length) this.#grow();
    this.#rids.push(rid);
    this.#placeOf[rid] = ++this.#count;
    return this.#count - 1;
  }

  #grow(): void {
    const capacity = this.info.length * 2;
    const { info, did, ridPasid, pointer } = this;
    this.info = new Int32Array(capacity);
    this.did = new Int32Array(capacity);
    this.ridPasid = new Int32Array(capacity);
    this.pointer = new Float64Array(capacity);
    this.info.set(info);
    this.did.set(did);
    this.ridPasid.set(ridPasid);
    this.pointer.set(pointer);
  }

  /** Drop everything. */
  invalidateAll(): number {
    let dropped = 0;
    for (let place = 0; place < this.#count; place++) dropped += this.#drop(place);
    return dropped;
  }

  #drop(place: number): number {
    if (this.info[place] === 0) return 0;
    this.info[place] = 0;
    this.generation++;
    return 1;
  }

  /** Domain-selective, legacy mode: entries that carry the DID. */
  invalidateDomain(did: number): number {
    let dropped = 0;
    for (let place = 0; place < this.#count; place++)
      if (this.did[place] === did) dropped += this.#drop(place);
    return dropped;
  }

  /**
   * Device-selective.
   * @param functionMask FM: masks bits of the function number
   * @param did only entries that carry it; -1 = whatever they carry (scalable mode)
   */
  invalidateDevice(sid: number, functionMask: number, did: number): number {
    const mask = FUNCTION_MASK[functionMask & 3] as number;
    let dropped = 0;
    for (let fn = 0; fn <= 7; fn++) {
      if ((fn & ~mask) !== 0) continue;
      const place = this.find((sid & ~mask) | fn);
      if (place >= 0 && (did === -1 || this.did[place] === did)) dropped += this.#drop(place);
    }
    return dropped;
  }

  /** Requesters with an entry, for inspection. */
  requesters(): number[] {
    return this.#rids.filter((_, place) => this.info[place] !== 0);
  }

  /** Copies of the state. */
  snapshot(): ContextCacheSnapshot {
    const { info, did, ridPasid, pointer } = this;
    return {
      placeOf: this.#placeOf.slice(),
      count: this.#count,
      info: info.slice(),
      did: did.slice(),
      ridPasid: ridPasid.slice(),
      pointer: pointer.slice(),
    };
  }

  /** Put a state back. */
  restore(state: ContextCacheSnapshot): void {
    this.generation++;
    this.#placeOf.set(state.placeOf);
    this.#count = state.count;
    this.#rids.length = 0;
    state.placeOf.forEach((place, rid) => {
      if (place > 0) this.#rids[place - 1] = rid;
    });
    this.info = state.info.slice();
    this.did = state.did.slice();
    this.ridPasid = state.ridPasid.slice();
    this.pointer = state.pointer.slice();
  }
}

/** State of the context cache. */
export interface ContextCacheSnapshot {
  readonly placeOf: Uint32Array;
  readonly count: number;
  readonly info: Int32Array;
  readonly did: Int32Array;
  readonly ridPasid: Int32Array;
  readonly pointer: Float64Array;
}
