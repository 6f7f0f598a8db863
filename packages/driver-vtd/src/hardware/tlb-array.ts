/**
 * One array of the IOTLB: the entries of one page size, set-associative, in typed arrays.
 *
 * @spec VT-d 6.2.4 (IOTLB), 6.5.2 (what each command removes)
 */

/** Bits of an entry's meta word. */
export const TLB = {
  /** Reads allowed. */
  R: 1,
  /** Writes allowed. */
  W: 2,
  /** The leaf's dirty bit is set, or nobody keeps one: a write may be answered from here. */
  CLEAN_WRITE: 4,
  /** Completions carry N=1 (no-snoop must not be used). */
  SNOOP: 8,
  /** Set in every entry that translates; clear in kept faults (caching mode). */
  GOOD: 0x80,
  /** Kept faults: fault processing is disabled. */
  FPD: 0x100,
  /** Where the PGTT code stands; 0 = legacy mode. */
  PGTT_SHIFT: 4,
  PGTT_MASK: 0x70,
  /** Where the fault reason of a negative entry stands; 0 = a good entry. */
  REASON_SHIFT: 16,
} as const;

const WAYS = 4;
const WAYS_LG2 = 2;
/** Places per page among which requesters are spread. */
export const SOURCE_SPREAD = 8;
/** Any value of a tag. */
export const ANY = -1;

/** PGTT codes whose entries carry an address of the first stage (1, 3). */
function isFirstStage(meta: number): boolean {
  return (meta & 0x10) !== 0;
}

/** What an invalidation removes: every given value must match. */
export interface Victims {
  readonly did: number;
  readonly pasid: number;
  /** 4 KiB frames, inclusive. */
  readonly firstPfn: number;
  readonly lastPfn: number;
  /** Entries matched by range: 1 = second stage, 2 = first stage; others go whatever their range. */
  readonly ranged: number;
  /** Entries looked at: 1 = second stage, 2 = first stage. */
  readonly stages: number;
}

/** Stages as {@link Victims} names them. */
export const STAGE = { SECOND: 1, FIRST: 2, BOTH: 3 } as const;

/** Live entries by domain id, over all page sizes. */
export class DomainCounts {
  readonly second = new Int32Array(0x1_0000);
  readonly first = new Int32Array(0x1_0000);

  /** Count an entry in or out. */
  add(did: number, meta: number, delta: number): void {
    const counts = isFirstStage(meta) ? this.first : this.second;
    counts[did] = (counts[did] as number) + delta;
  }
}

/** Entries of one page size. */
export class TlbArray {
  /** Page number, in units of this array's page size. */
  readonly page: Float64Array;
  /** Requester, PASID and privilege in one number; NaN = free. */
  readonly source: Float64Array;
  /** 4 KiB frame of the page's first byte. */
  readonly target: Float64Array;
  readonly meta: Int32Array;
  /** Domain id tag; -1 = free. */
  readonly did: Int32Array;
  /** PASID tag. */
  readonly pasid: Int32Array;
  /** Entries in use. */
  live = 0;
  readonly pageLg2: number;
  readonly #nextWay: Uint8Array;
  readonly #shift: number;
  readonly #counts: DomainCounts;

  constructor(entriesLg2: number, pageLg2: number, counts: DomainCounts) {
    const entries = 2 ** entriesLg2;
    this.pageLg2 = pageLg2;
    this.page = new Float64Array(entries);
    this.source = new Float64Array(entries).fill(Number.NaN);
    this.target = new Float64Array(entries);
    this.meta = new Int32Array(entries);
    this.did = new Int32Array(entries).fill(-1);
    this.pasid = new Int32Array(entries);
    this.#nextWay = new Uint8Array(entries >> WAYS_LG2);
    this.#shift = 32 - (entriesLg2 - WAYS_LG2);
    this.#counts = counts;
  }

  #set(page: number, spread: number): number {
    const mixed = Math.imul((page | 0) + Math.imul(spread, 0x2545_f491), 0x9e37_79b1);
    return (mixed >>> this.#shift) << WAYS_LG2;
  }

  /** @hot Slot of an entry, or -1. */
  find(source: number, spread: number, page: number): number {
    const slot = this.#set(page, spread);
    const { source: sources, page: pages } = this;
    if (pages[slot] === page && sources[slot] === source) return slot;
    if (pages[slot + 1] === page && sources[slot + 1] === source) return slot + 1;
    if (pages[slot + 2] === page && sources[slot + 2] === source) return slot + 2;
    if (pages[slot + 3] === page && sources[slot + 3] === source) return slot + 3;
    return -1;
  }

  /** The entry's own slot, or the oldest of its set. */
  #placeFor(source: number, spread: number, page: number): number {
    const set = this.#set(page, spread);
    const { source: sources, page: pages } = this;
    for (let slot = set; slot < set + WAYS; slot++)
      if (pages[slot] === page && sources[slot] === source) return slot;
    const way = this.#nextWay[set >> WAYS_LG2] as number;
    this.#nextWay[set >> WAYS_LG2] = (way + 1) & (WAYS - 1);
    return set + way;
  }

  /** @hot Keep a translation; the oldest of its set goes. */
  insert(
    source: number,
    spread: number,
    page: number,
    target: number,
    meta: number,
    did: number,
    pasid: number,
  ): void {
    const slot = this.#placeFor(source, spread, page);
    if (this.did[slot] === -1) this.live++;
    else this.#counts.add(this.did[slot] as number, this.meta[slot] as number, -1);
    this.page[slot] = page;
    this.source[slot] = source;
    this.target[slot] = target;
    this.meta[slot] = meta;
    this.did[slot] = did;
    this.pasid[slot] = pasid;
    this.#counts.add(did, meta, 1);
  }

  #free(slot: number): void {
    this.#counts.add(this.did[slot] as number, this.meta[slot] as number, -1);
    this.did[slot] = -1;
    this.source[slot] = Number.NaN;
    this.live--;
  }

  #matches(slot: number, victims: Victims): boolean {
    const did = this.did[slot] as number;
    if (did === -1 || (victims.did !== ANY && did !== victims.did)) return false;
    if (victims.pasid !== ANY && this.pasid[slot] !== victims.pasid) return false;
    const stage = isFirstStage(this.meta[slot] as number) ? STAGE.FIRST : STAGE.SECOND;
    if ((victims.stages & stage) === 0) return false;
    if ((victims.ranged & stage) === 0) return true;
    const scale = 2 ** (this.pageLg2 - 12);
    const page = this.page[slot] as number;
    return page * scale <= victims.lastPfn && (page + 1) * scale > victims.firstPfn;
  }

  #dropSet(set: number, victims: Victims): number {
    let dropped = 0;
    for (let slot = set; slot < set + WAYS; slot++)
      if (this.#matches(slot, victims)) {
        this.#free(slot);
        dropped++;
      }
    return dropped;
  }

  /** Remove every match; looks only where the range can stand when that is cheaper. */
  drop(victims: Victims): number {
    if (this.live === 0) return 0;
    const scale = 2 ** (this.pageLg2 - 12);
    const first = Math.floor(victims.firstPfn / scale);
    const last = Math.floor(victims.lastPfn / scale);
    let dropped = 0;
    if (
      victims.ranged !== victims.stages ||
      (last - first + 1) * SOURCE_SPREAD * WAYS > this.did.length
    ) {
      for (let set = 0; set < this.did.length; set += WAYS) dropped += this.#dropSet(set, victims);
      return dropped;
    }
    for (let page = first; page <= last; page++)
      for (let spread = 0; spread < SOURCE_SPREAD; spread++)
        dropped += this.#dropSet(this.#set(page, spread), victims);
    return dropped;
  }

  /** Drop everything; the caller resets the shared counts. */
  clear(): number {
    const dropped = this.live;
    this.did.fill(-1);
    this.source.fill(Number.NaN);
    this.live = 0;
    return dropped;
  }

  /** Copies of the arrays, for a snapshot. */
  snapshot(): TlbArraySnapshot {
    const { page, source, target, meta, did, pasid, live } = this;
    return {
      numbers: [page, source, target].map((array) => array.slice()),
      words: [meta, did, pasid].map((array) => array.slice()),
      nextWay: this.#nextWay.slice(),
      live,
    };
  }

  /** Put a state back. */
  restore(state: TlbArraySnapshot): void {
    const { page, source, target, meta, did, pasid } = this;
    [page, source, target].forEach((array, i) => {
      array.set(state.numbers[i] as Float64Array);
    });
    [meta, did, pasid].forEach((array, i) => {
      array.set(state.words[i] as Int32Array);
    });
    this.#nextWay.set(state.nextWay);
    this.live = state.live;
    for (let slot = 0; slot < did.length; slot++)
      if (did[slot] !== -1) this.#counts.add(did[slot] as number, meta[slot] as number, 1);
  }
}

/** State of one array. */
export interface TlbArraySnapshot {
  readonly numbers: readonly Float64Array[];
  readonly words: readonly Int32Array[];
  readonly nextWay: Uint8Array;
  readonly live: number;
}
