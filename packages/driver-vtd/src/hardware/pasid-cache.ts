/**
 * The PASID cache: decoded PASID table entries together with the directory entry above them.
 *
 * @spec VT-d 6.2.2 (tagging), 6.5.2.2 (invalidation)
 */

/** Bits of an entry's info word. */
export const PASID_INFO = {
  VALID: 1,
  /** FPD of the directory entry or of the PASID entry. */
  FPD: 1 << 1,
  PGTT_SHIFT: 2,
  /** AW code of the second stage. */
  AW_SHIFT: 5,
  LEVEL5: 1 << 8,
  SRE: 1 << 9,
  WPE: 1 << 10,
  EAFE: 1 << 11,
  SSADE: 1 << 12,
  PWSNP: 1 << 13,
  PGSNP: 1 << 14,
  /** Fault reason of a negative entry (caching mode only). */
  REASON_SHIFT: 24,
} as const;

/** Where HPTSZ stands in `hptTag`, above HPTDID. */
export const HPT_SIZE_SHIFT = 16;

const WAYS = 4;
const SETS_LG2 = 10;
const DOMAINS = 0x1_0000;

/** Set-associative, 4096 entries. */
export class PasidCache {
  /** PASID and requester in one number; NaN = free. */
  readonly #key = new Float64Array(WAYS << SETS_LG2).fill(Number.NaN);
  readonly #nextWay = new Uint8Array(1 << SETS_LG2);
  /** Entries of a domain, chained: commands for one domain touch its entries alone. */
  readonly #head = new Int32Array(DOMAINS).fill(-1);
  readonly #next = new Int32Array(WAYS << SETS_LG2);
  readonly #previous = new Int32Array(WAYS << SETS_LG2);
  /** Changes with every entry that comes or goes. */
  generation = 0;
  /** Packed fields, see {@link PASID_INFO}. */
  readonly info = new Int32Array(WAYS << SETS_LG2);
  readonly did = new Int32Array(WAYS << SETS_LG2);
  /** 4 KiB frames of the tables; a nested first-stage table is guest physical. */
  readonly ssRoot = new Float64Array(WAYS << SETS_LG2);
  readonly fsRoot = new Float64Array(WAYS << SETS_LG2);
  /** Host permission table: 4 KiB frame of its root, and HPTDID with HPTSZ above it. */
  readonly hptRoot = new Float64Array(WAYS << SETS_LG2);
  readonly hptTag = new Int32Array(WAYS << SETS_LG2);

  #set(rid: number, pasid: number): number {
    const mixed = Math.imul(rid + Math.imul(pasid, 0x2545_f491), 0x9e37_79b1);
    return (mixed >>> (32 - SETS_LG2)) * WAYS;
  }

  /** @hot Place of an entry, or -1. */
  find(rid: number, pasid: number): number {
    const key = pasid * 0x1_0000 + rid;
    const keys = this.#key;
    const set = this.#set(rid, pasid);
    if (keys[set] === key) return set;
    if (keys[set + 1] === key) return set + 1;
    if (keys[set + 2] === key) return set + 2;
    return keys[set + 3] === key ? set + 3 : -1;
  }

  /** Place for a new entry; the oldest of its set goes. {@link keep} makes it one. */
  placeFor(rid: number, pasid: number): number {
    this.generation++;
    const known = this.find(rid, pasid);
    if (known >= 0) return known;
    const set = this.#set(rid, pasid);
    const way = this.#nextWay[set / WAYS] as number;
    this.#nextWay[set / WAYS] = (way + 1) % WAYS;
    this.#key[set + way] = pasid * 0x1_0000 + rid;
    return set + way;
  }

  /** Fill a place. @param info never 0 */
  keep(place: number, info: number, did: number, ssRoot: number, fsRoot: number): void {
    if (this.info[place] !== 0) this.#unchain(place);
    this.info[place] = info;
    this.did[place] = did;
    this.ssRoot[place] = ssRoot;
    this.fsRoot[place] = fsRoot;
    this.#chain(place);
  }

  #chain(place: number): void {
    const did = this.did[place] as number;
    const follower = this.#head[did] as number;
    this.#next[place] = follower;
    this.#previous[place] = -1;
    if (follower >= 0) this.#previous[follower] = place;
    this.#head[did] = place;
  }

  #unchain(place: number): void {
    const before = this.#previous[place] as number;
    const after = this.#next[place] as number;
    if (before >= 0) this.#next[before] = after;
    else this.#head[this.did[place] as number] = after;
    if (after >= 0) this.#previous[after] = before;
  }

  /** PASID of the entry at a place. */
  pasidAt(place: number): number {
    return Math.floor((this.#key[place] as number) / 0x1_0000);
  }

  /** Drop everything. */
  invalidateAll(): number {
    let dropped = 0;
    this.generation++;
    for (let place = 0; place < this.info.length; place++)
      if (this.info[place] !== 0) dropped += this.#drop(place);
    return dropped;
  }

  /** Domain-selective. */
  invalidateDomain(did: number): number {
    return this.#dropDomain(did, -1);
  }

  /** PASID-selective within a domain. */
  invalidatePasid(did: number, pasid: number): number {
    return this.#dropDomain(did, pasid);
  }

  /** @param pasid -1 = every PASID */
  #dropDomain(did: number, pasid: number): number {
    let dropped = 0;
    this.generation++;
    for (let place = this.#head[did] as number; place >= 0; ) {
      const following = this.#next[place] as number;
      if (pasid === -1 || this.pasidAt(place) === pasid) dropped += this.#drop(place);
      place = following;
    }
    return dropped;
  }

  #drop(place: number): 1 {
    this.#unchain(place);
    this.#key[place] = Number.NaN;
    this.info[place] = 0;
    return 1;
  }

  /** Live entries as requester and PASID, for inspection. */
  entries(): { rid: number; pasid: number; place: number }[] {
    const found: { rid: number; pasid: number; place: number }[] = [];
    for (let place = 0; place < this.info.length; place++)
      if (this.info[place] !== 0)
        found.push({
          rid: (this.#key[place] as number) % 0x1_0000,
          pasid: this.pasidAt(place),
          place,
        });
    return found;
  }

  /** Copies of the state. */
  snapshot(): PasidCacheSnapshot {
    return {
      key: this.#key.slice(),
      nextWay: this.#nextWay.slice(),
      info: this.info.slice(),
      did: this.did.slice(),
      ssRoot: this.ssRoot.slice(),
      fsRoot: this.fsRoot.slice(),
      hptRoot: this.hptRoot.slice(),
      hptTag: this.hptTag.slice(),
    };
  }

  /** Put a state back. */
  restore(state: PasidCacheSnapshot): void {
    this.invalidateAll();
    this.#key.set(state.key);
    this.#nextWay.set(state.nextWay);
    this.info.set(state.info);
    this.did.set(state.did);
    this.ssRoot.set(state.ssRoot);
    this.fsRoot.set(state.fsRoot);
    this.hptRoot.set(state.hptRoot);
    this.hptTag.set(state.hptTag);
    for (let place = 0; place < this.info.length; place++)
      if (this.info[place] !== 0) this.#chain(place);
  }
}

/** State of the PASID cache. */
export interface PasidCacheSnapshot {
  readonly key: Float64Array;
  readonly nextWay: Uint8Array;
  readonly info: Int32Array;
  readonly did: Int32Array;
  readonly ssRoot: Float64Array;
  readonly fsRoot: Float64Array;
  readonly hptRoot: Float64Array;
  readonly hptTag: Int32Array;
}
