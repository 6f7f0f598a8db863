/**
 * The IOTLB: final translations, one set-associative array per page size, in typed arrays.
 *
 * Looked up by requester and address, invalidated by domain id, PASID and address: an entry stays
 * until a command that names its tags, whatever happens to the tables.
 *
 * @spec VT-d 6.2.4 (IOTLB), 6.5.2 (what each command removes)
 */

import {
  ANY,
  SOURCE_SPREAD,
  STAGE,
  TlbArray,
  type TlbArraySnapshot,
  type Victims,
} from './tlb-array.ts';
import { DomainChains } from './tlb-domains.ts';

export { TLB } from './tlb-array.ts';

/** State of the whole IOTLB. */
export type IotlbSnapshot = readonly TlbArraySnapshot[];

/** One entry for people: what {@link Iotlb.entries} lists. */
export interface IotlbEntry {
  /** Packed requester, see {@link sourceOf}. */
  readonly source: number;
  readonly pageLg2: number;
  /** 4 KiB frames of the page's first byte: of the input and of the result. */
  readonly iovaPfn: number;
  readonly pfn: number;
  readonly meta: number;
  readonly did: number;
  readonly pasid: number;
}

/**
 * Lookup tag of a request: requester, PASID (-1 = none) and privilege in one exact number.
 * @hot
 */
export function sourceOf(rid: number, pasid: number, priv: number): number {
  return (pasid * 0x1_0000 + rid) * 2 + priv;
}

/** Which of {@link SOURCE_SPREAD} places per page a requester uses. @hot */
export function spreadOf(rid: number, pasid: number): number {
  return (rid ^ (rid >>> 3) ^ pasid) & (SOURCE_SPREAD - 1);
}

/** All page sizes together. */
export class Iotlb {
  readonly page4K: TlbArray;
  readonly page2M: TlbArray;
  readonly page1G: TlbArray;
  readonly #chains: DomainChains;
  readonly #arrays: readonly TlbArray[];
  /** First places of the second and third array. */
  readonly #bases: readonly [page2M: number, page1G: number];

  /** @param entriesLg2 lg2 of the entries for 4 KiB pages, at least 4; larger pages get fewer */
  constructor(entriesLg2: number) {
    const sizes = [entriesLg2, Math.max(entriesLg2 - 2, 3), Math.max(entriesLg2 - 4, 3)] as const;
    const base2M = 2 ** sizes[0];
    const base1G = base2M + 2 ** sizes[1];
    this.#bases = [base2M, base1G];
    this.#chains = new DomainChains(base1G + 2 ** sizes[2]);
    this.page4K = new TlbArray(sizes[0], 12, this.#chains, 0);
    this.page2M = new TlbArray(sizes[1], 21, this.#chains, base2M);
    this.page1G = new TlbArray(sizes[2], 30, this.#chains, base1G);
    this.#arrays = [this.page4K, this.page2M, this.page1G];
  }

  /** The array of a page size (12, 21 or 30). */
  arrayFor(sizeLg2: number): TlbArray {
    if (sizeLg2 === 12) return this.page4K;
    return sizeLg2 === 21 ? this.page2M : this.page1G;
  }

  /** Remove every match: by the domain's chain, or where the range can stand, if that is less. */
  #drop(victims: Victims): number {
    if (victims.ranged !== victims.stages) return this.#dropChain(victims);
    let slots = 0;
    for (const array of this.#arrays) slots += array.slotsOfRange(victims);
    if (this.#chains.live(victims.did) <= slots) return this.#dropChain(victims);
    let dropped = 0;
    for (const array of this.#arrays) dropped += array.dropRange(victims);
    return dropped;
  }

  #dropChain(victims: Victims): number {
    const { head, next } = this.#chains;
    const [base2M, base1G] = this.#bases;
    let dropped = 0;
    for (let place = head[victims.did] as number; place >= 0; ) {
      const following = next[place] as number;
      if (place < base2M) dropped += this.page4K.dropSlot(place, victims);
      else if (place < base1G) dropped += this.page2M.dropSlot(place - base2M, victims);
      else dropped += this.page1G.dropSlot(place - base1G, victims);
      place = following;
    }
    return dropped;
  }

  /** Drop everything. */
  invalidateAll(): number {
    let dropped = 0;
    for (const array of this.#arrays) dropped += array.clear();
    return dropped;
  }

  /** IOTLB domain-selective. */
  invalidateDomain(did: number): number {
    if (this.#chains.live(did) === 0) return 0;
    return this.#drop({ did, pasid: ANY, firstPfn: 0, lastPfn: 0, ranged: 0, stages: STAGE.BOTH });
  }

  /** IOTLB page-selective: second-stage entries of the range, every first-stage entry of the DID. */
  invalidatePages(did: number, pfn: number, addressMask: number): number {
    if (this.#chains.live(did) === 0) return 0;
    const { firstPfn, lastPfn } = alignedRange(pfn, addressMask);
    const stages = this.#chains.first[did] === 0 ? STAGE.SECOND : STAGE.BOTH;
    return this.#drop({ did, pasid: ANY, firstPfn, lastPfn, ranged: STAGE.SECOND, stages });
  }

  /** P_IOTLB PASID-selective. */
  invalidatePasid(did: number, pasid: number): number {
    if (this.#chains.live(did) === 0) return 0;
    return this.#drop({ did, pasid, firstPfn: 0, lastPfn: 0, ranged: 0, stages: STAGE.BOTH });
  }

  /** P_IOTLB page-selective: first-stage and nested entries of the range. */
  invalidatePasidPages(did: number, pasid: number, pfn: number, addressMask: number): number {
    if (this.#chains.first[did] === 0) return 0;
    const { firstPfn, lastPfn } = alignedRange(pfn, addressMask);
    return this.#drop({ did, pasid, firstPfn, lastPfn, ranged: STAGE.FIRST, stages: STAGE.FIRST });
  }

  /** Live entries, for inspection. */
  entries(): IotlbEntry[] {
    return this.#arrays.flatMap((array) => {
      const found: IotlbEntry[] = [];
      if (array.live === 0) return found;
      for (let slot = 0; slot < array.did.length; slot++)
        if (array.did[slot] !== -1) found.push(describeSlot(array, slot));
      return found;
    });
  }

  /** The entry that answers for a page, for inspection. @param pfn 4 KiB frame */
  entryAt(source: number, spread: number, pfn: number): IotlbEntry | undefined {
    for (const array of this.#arrays) {
      const slot = array.find(source, spread, Math.floor(pfn / 2 ** (array.pageLg2 - 12)));
      if (slot >= 0) return describeSlot(array, slot);
    }
    return undefined;
  }

  /** Copies of the state. */
  snapshot(): IotlbSnapshot {
    return this.#arrays.map((array) => array.snapshot());
  }

  /** @throws {RangeError} for the state of an IOTLB of another size */
  checkSize(state: IotlbSnapshot): void {
    const entries = state[0]?.nextWay.length;
    if (entries === this.page4K.sets) return;
    throw new RangeError(
      `snapshot has ${entries} sets of 4 KiB entries, this IOTLB ${this.page4K.sets}`,
    );
  }

  /** Put a state back. */
  restore(state: IotlbSnapshot): void {
    this.invalidateAll();
    this.#arrays.forEach((array, i) => {
      array.restore(state[i] as TlbArraySnapshot);
    });
  }
}

function alignedRange(pfn: number, addressMask: number) {
  const pages = 2 ** addressMask;
  const firstPfn = Math.floor(pfn / pages) * pages;
  return { firstPfn, lastPfn: firstPfn + pages - 1 };
}

function describeSlot(array: TlbArray, slot: number): IotlbEntry {
  const { pageLg2 } = array;
  return {
    source: array.source[slot] as number,
    pageLg2,
    iovaPfn: (array.page[slot] as number) * 2 ** (pageLg2 - 12),
    pfn: array.target[slot] as number,
    meta: array.meta[slot] as number,
    did: array.did[slot] as number,
    pasid: array.pasid[slot] as number,
  };
}
