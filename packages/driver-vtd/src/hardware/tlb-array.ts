/**
 * One array of the IOTLB: the entries of one page size, set-associative, in typed arrays.
 *
 * @spec VT-d 6.2.4 (IOTLB), 6.5.2 (what each command removes)
 */

import { type DomainChains, isFirstStage } from './tlb-domains.ts';

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

/** What an invalidation removes: every given value must match. */
export interface Victims {
  readonly did: number;
  /** {@link ANY} = whatever PASID. */
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
  /** Place of slot 0 in {@link DomainChains}. */
  readonly #base: number;
  readonly #chains: DomainChains;

  /**
   * @param entriesLg2 lg2 of the entries
   * @param base place of slot 0 in `chains`
   */
  constructor(entriesLg2: number, pageLg2: number, chains: DomainChains, base: number) {
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
    this.#chains = chains;
    this.#base = base;
  }

  /** Sets of four entries. */
  get sets(): number {
    return this.#nextWay.length;
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
    else this.#chain(slot, false);
    this.page[slot] = page;
    this.source[slot] = source;
    this.target[slot] = target;
    this.meta[slot] = meta;
    this.did[slot] = did;
    this.pasid[slot] = pasid;
    this.#chain(slot, true);
  }

  /** Put a slot into the chain of its domain, or take it out. */
  #chain(slot: number, come: boolean): void {
    const did = this.did[slot] as number;
    const meta = this.meta[slot] as number;
    if (come) this.#chains.add(did, meta, this.#base + slot);
    else this.#chains.remove(did, meta, this.#base + slot);
  }

  #free(slot: number): void {
    this.#chain(slot, false);
    this.did[slot] = -1;
    this.source[slot] = Number.NaN;
    this.live--;
  }

  #matches(slot: number, victims: Victims): boolean {
    if (this.did[slot] !== victims.did) return false;
    if (victims.pasid !== ANY && this.pasid[slot] !== victims.pasid) return false;
    const stage = isFirstStage(this.meta[slot] as number) ? STAGE.FIRST : STAGE.SECOND;
    if ((victims.stages & stage) === 0) return false;
    if ((victims.ranged & stage) === 0) return true;
    const scale = 2 ** (this.pageLg2 - 12);
    const page = this.page[slot] as number;
    return page * scale <= victims.lastPfn && (page + 1) * scale > victims.firstPfn;
  }

  /** Remove one slot if it matches; returns how many went. */
  dropSlot(slot: number, victims: Victims): number {
    if (!this.#matches(slot, victims)) return 0;
    this.#free(slot);
    return 1;
  }

  /** Slots that {@link dropRange} looks at. */
  slotsOfRange({ firstPfn, lastPfn }: Victims): number {
    if (this.live === 0) return 0;
    const scale = 2 ** (this.pageLg2 - 12);
    const pages = Math.floor(lastPfn / scale) - Math.floor(firstPfn / scale) + 1;
    return pages * SOURCE_SPREAD * WAYS;
  }

  /** Remove the matches of a range that is given for every stage. */
  dropRange(victims: Victims): number {
    if (this.live === 0) return 0;
    const scale = 2 ** (this.pageLg2 - 12);
    const last = Math.floor(victims.lastPfn / scale);
    let dropped = 0;
    for (let page = Math.floor(victims.firstPfn / scale); page <= last; page++)
      for (let spread = 0; spread < SOURCE_SPREAD; spread++) {
        const set = this.#set(page, spread);
        for (let slot = set; slot < set + WAYS; slot++) dropped += this.dropSlot(slot, victims);
      }
    return dropped;
  }

  /** Drop everything, of every domain. */
  clear(): number {
    const dropped = this.live;
    if (dropped === 0) return 0;
    for (const did of this.did) if (did !== -1) this.#chains.forget(did);
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
    for (let slot = 0; slot < did.length; slot++) if (did[slot] !== -1) this.#chain(slot, true);
  }
}

/** State of one array. */
export interface TlbArraySnapshot {
  readonly numbers: readonly Float64Array[];
  readonly words: readonly Int32Array[];
  readonly nextWay: Uint8Array;
  readonly live: number;
}
