/**
 * Hands out PASIDs: the lowest free one, a named one, or any but one. A freed PASID may be kept out
 * of use until its translations are flushed, so that no stale TLB entry meets its next owner.
 * @module
 */
import { refuse } from '../errors.ts';
import type { AllocatorState } from '../snapshot/held-state.ts';

/** Widest PASID there is. @spec PCIe 6.2 6.20 */
const MAX_PASID_BITS = 20;

/** How an allocator is made. */
export interface PasidAllocatorOptions {
  /** Width of a PASID, 1 to 20. */
  readonly pasidBits: number;
  /** First PASID given out without being named; default 1. Lower ones can only be reserved. */
  readonly firstPasid?: number;
  /** PASIDs that may be in use at once; default all. */
  readonly quota?: number;
  /** Freed PASIDs wait for {@link PasidAllocator.flushed}; default false. */
  readonly parkFreed?: boolean;
  /** Name for refusals, `'RID 0000:00:04.0'`. */
  readonly label?: string;
}

/**
 * One space of PASIDs. PASID 0 stands for requests without PASID and is never given out. Fits the
 * place of the allocator behind virtual command registers ({@link PasidAllocator.allocatePasid},
 * {@link PasidAllocator.freePasid}), which report failure instead of throwing.
 */
export class PasidAllocator {
  readonly pasidBits: number;
  readonly firstPasid: number;
  readonly quota: number;
  readonly label: string;
  readonly #parks: boolean;
  readonly #used = new Set<number>();
  readonly #parked = new Set<number>();
  /** No PASID from `firstPasid` up to here is free. */
  #lowest: number;

  /** @throws {IommuError} EINVAL for a width outside 1 to 20, or a first PASID outside the width */
  constructor(options: PasidAllocatorOptions) {
    const { pasidBits, firstPasid = 1 } = options;
    checkInteger('pasid-bits', 'the width of a PASID', pasidBits, 1, MAX_PASID_BITS);
    const last = 2 ** pasidBits - 1;
    checkInteger('first-pasid', 'the first PASID', firstPasid, 1, last);
    const quota = options.quota ?? last;
    checkInteger('pasid-quota', 'the quota of PASIDs', quota, 0, last);
    this.pasidBits = pasidBits;
    this.firstPasid = firstPasid;
    this.quota = quota;
    this.label = options.label ?? 'this allocator';
    this.#parks = options.parkFreed ?? false;
    this.#lowest = firstPasid;
  }

  /** PASIDs in use; parked ones are not. */
  get usedCount(): number {
    return this.#used.size;
  }

  /** PASIDs that wait for a flush. */
  get parkedCount(): number {
    return this.#parked.size;
  }

  /** Largest PASID. */
  get lastPasid(): number {
    return 2 ** this.pasidBits - 1;
  }

  isUsed(pasid: number): boolean {
    return this.#used.has(pasid);
  }

  /** Neither in use nor parked. */
  isFree(pasid: number): boolean {
    return !this.#used.has(pasid) && !this.#parked.has(pasid);
  }

  /** The lowest free PASID, or -1 when there is none or the quota is used up. */
  allocatePasid(): number {
    return this.#take(() => true);
  }

  /** Free one; false when it is not in use. */
  freePasid(pasid: number): boolean {
    if (!this.#used.delete(pasid)) return false;
    if (this.#parks) this.#parked.add(pasid);
    else this.#lowest = Math.min(this.#lowest, Math.max(pasid, this.firstPasid));
    return true;
  }

  /**
   * The lowest free PASID that `accepts` takes.
   *
   * @throws {IommuError} ENOSPC
   */
  allocate(op: string, accepts: (pasid: number) => boolean = () => true): number {
    const pasid = this.#take(accepts);
    if (pasid >= 0) return pasid;
    const { quota, label } = this;
    const full = this.#used.size >= quota;
    const message = full
      ? `all ${quota} PASIDs that ${label} may have are in use`
      : `no PASID from ${this.firstPasid} to ${this.lastPasid} of ${label} is free`;
    throw refuse('ENOSPC', op, full ? 'pasid-quota' : 'pasid-exhausted', message, {
      value: this.#used.size,
      owner: label,
      accepted: this.#parked.size > 0 ? `flush: ${this.#parked.size} wait for it` : 'free one',
    });
  }

  /**
   * Take a PASID that the caller names.
   *
   * @throws {IommuError} EINVAL outside 1 to 2^pasidBits - 1; EBUSY in use or not flushed yet;
   * ENOSPC over the quota
   */
  reserve(op: string, pasid: number): void {
    checkInteger('pasid-range', 'PASID', pasid, 1, this.lastPasid, op);
    const { label } = this;
    if (!this.isFree(pasid)) {
      const parked = this.#parked.has(pasid);
      const what = parked ? 'is not flushed yet' : 'is in use';
      throw refuse('EBUSY', op, parked ? 'pasid-parked' : 'pasid-used', `PASID ${pasid} ${what}`, {
        value: pasid,
        owner: label,
        accepted: parked ? 'the same after a flush, or another PASID' : 'another PASID',
      });
    }
    if (this.#used.size >= this.quota) {
      throw refuse('ENOSPC', op, 'pasid-quota', `${label} may have ${this.quota} PASIDs at once`, {
        value: pasid,
        accepted: 'free one first',
      });
    }
    this.#used.add(pasid);
  }

  /**
   * Free one.
   *
   * @throws {IommuError} ENOENT when it is not in use
   */
  free(op: string, pasid: number): void {
    if (this.freePasid(pasid)) return;
    throw refuse('ENOENT', op, 'pasid-unused', `PASID ${pasid} is not in use`, {
      value: pasid,
      owner: this.label,
      accepted: 'a PASID that was allocated or reserved',
    });
  }

  /** No cache holds anything of parked PASIDs any more: all, or one. */
  flushed(pasid?: number): void {
    for (const parked of pasid === undefined ? [...this.#parked] : [pasid]) {
      if (!this.#parked.delete(parked)) continue;
      this.#lowest = Math.min(this.#lowest, Math.max(parked, this.firstPasid));
    }
  }

  /** PASIDs in use, ascending. */
  used(): number[] {
    return [...this.#used].sort((a, b) => a - b);
  }

  /** State for a snapshot. */
  save(): AllocatorState {
    const { pasidBits, firstPasid, quota, label } = this;
    return {
      pasidBits,
      firstPasid,
      quota,
      label,
      parkFreed: this.#parks,
      used: this.used(),
      parked: [...this.#parked].sort((a, b) => a - b),
      lowest: this.#lowest,
    };
  }

  /** @throws {IommuError} EINVAL for impossible options */
  static load(state: AllocatorState): PasidAllocator {
    const allocator = new PasidAllocator(state);
    for (const pasid of state.used) allocator.#used.add(pasid);
    for (const pasid of state.parked) allocator.#parked.add(pasid);
    allocator.#lowest = state.lowest;
    return allocator;
  }

  #take(accepts: (pasid: number) => boolean): number {
    if (this.#used.size >= this.quota) return -1;
    const last = this.lastPasid;
    while (this.#lowest <= last && !this.isFree(this.#lowest)) this.#lowest++;
    for (let pasid = this.#lowest; pasid <= last; pasid++) {
      if (!this.isFree(pasid) || !accepts(pasid)) continue;
      this.#used.add(pasid);
      return pasid;
    }
    return -1;
  }
}

/** EINVAL for what is no integer of a range, both ends inclusive. */
const checkInteger = (
  rule: string,
  what: string,
  value: number,
  first: number,
  last: number,
  op = 'make a PASID allocator',
): void => {
  if (Number.isInteger(value) && value >= first && value <= last) return;
  throw refuse('EINVAL', op, rule, `${what} is ${value}, out of range`, {
    value,
    accepted: `an integer from ${first} to ${last}`,
  });
};
