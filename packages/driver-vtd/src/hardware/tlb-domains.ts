/**
 * Which IOTLB entries carry a domain id: a chain per domain through all arrays, so that a command
 * for one domain touches that domain's entries alone.
 *
 * @spec VT-d 6.2.4 (tagging), 6.5.2 (domain-selective invalidation)
 */

const DOMAINS = 0x1_0000;

/** PGTT codes whose entries carry an address of the first stage (1, 3). */
export function isFirstStage(meta: number): boolean {
  return (meta & 0x10) !== 0;
}

/** Chains and counts of live entries. Places number the slots of all arrays through. */
export class DomainChains {
  /** Live second-stage entries by domain id, pass-through and legacy ones included. */
  readonly second = new Int32Array(DOMAINS);
  /** Live first-stage and nested entries. */
  readonly first = new Int32Array(DOMAINS);
  /** First place of a domain's chain, -1 = none. */
  readonly head = new Int32Array(DOMAINS).fill(-1);
  /** Next place of a chain, -1 = the last. */
  readonly next: Int32Array;
  readonly #previous: Int32Array;

  /** @param places slots of all arrays together */
  constructor(places: number) {
    this.next = new Int32Array(places);
    this.#previous = new Int32Array(places);
  }

  /** Live entries of a domain. */
  live(did: number): number {
    return (this.first[did] as number) + (this.second[did] as number);
  }

  /** An entry came. @hot */
  add(did: number, meta: number, place: number): void {
    const counts = isFirstStage(meta) ? this.first : this.second;
    counts[did] = (counts[did] as number) + 1;
    const follower = this.head[did] as number;
    this.next[place] = follower;
    this.#previous[place] = -1;
    if (follower >= 0) this.#previous[follower] = place;
    this.head[did] = place;
  }

  /** An entry goes. @hot */
  remove(did: number, meta: number, place: number): void {
    const counts = isFirstStage(meta) ? this.first : this.second;
    counts[did] = (counts[did] as number) - 1;
    const before = this.#previous[place] as number;
    const after = this.next[place] as number;
    if (before >= 0) this.next[before] = after;
    else this.head[did] = after;
    if (after >= 0) this.#previous[after] = before;
  }

  /** Every entry of a domain goes at once. */
  forget(did: number): void {
    this.head[did] = -1;
    this.first[did] = 0;
    this.second[did] = 0;
  }
}
