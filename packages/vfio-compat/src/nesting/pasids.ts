/**
 * System-wide PASIDs: one space per machine, each PASID owned by the process that asked for it.
 * What the posted series kept in the kernel's IOASID allocator and in `struct vfio_mm`.
 * @module
 */
import type { Machine, Process } from '@iommukit/core';

/** Posted default of PASIDs that one process may have. */
export const DEFAULT_PASID_QUOTA = 1000;

const ENOSPC = -28;
const SPACES = new WeakMap<Machine, PasidSpace>();

/** The PASIDs of one machine. */
export class PasidSpace {
  readonly #owners = new Map<number, Process>();
  readonly #counts = new Map<Process, number>();
  /** Containers of each process that may ask for PASIDs. */
  readonly #users = new Map<Process, number>();

  /** The space of a machine. */
  static of(machine: Machine): PasidSpace {
    const space = SPACES.get(machine) ?? new PasidSpace();
    SPACES.set(machine, space);
    return space;
  }

  /** A container of a process opens; every one needs a {@link PasidSpace.leave}. */
  join(process: Process): void {
    this.#users.set(process, (this.#users.get(process) ?? 0) + 1);
  }

  /** A container closes; with the last one all PASIDs of its process are free. */
  leave(process: Process): void {
    const users = (this.#users.get(process) ?? 1) - 1;
    this.#users.set(process, users);
    if (users > 0) return;
    this.#users.delete(process);
    for (const [pasid, owner] of this.#owners) if (owner === process) this.free(process, pasid);
  }

  /** Who owns a PASID. */
  ownerOf(pasid: number): Process | undefined {
    return this.#owners.get(pasid);
  }

  /** PASIDs of a process in `[min, max]`. */
  ownedIn(process: Process, min: number, max: number): number[] {
    const all = [...this.#owners].filter(([pasid, owner]) => {
      return owner === process && pasid >= min && pasid <= max;
    });
    return all.map(([pasid]) => pasid);
  }

  /**
   * Take the lowest free PASID in `[min, max]`; 0 is never given out.
   *
   * @returns the PASID, or -28 (ENOSPC) beyond `quota` or when the range is used up
   */
  alloc(process: Process, min: number, max: number, quota: number): number {
    const count = this.#counts.get(process) ?? 0;
    if (count >= quota) return ENOSPC;
    let pasid = Math.max(1, min);
    while (this.#owners.has(pasid)) pasid++;
    if (pasid > max) return ENOSPC;
    this.#owners.set(pasid, process);
    this.#counts.set(process, count + 1);
    return pasid;
  }

  /** Give one back; nothing happens when it is not this process's. */
  free(process: Process, pasid: number): void {
    if (this.#owners.get(pasid) !== process) return;
    this.#owners.delete(pasid);
    this.#counts.set(process, (this.#counts.get(process) ?? 1) - 1);
  }
}
