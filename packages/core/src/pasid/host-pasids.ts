/**
 * The PASIDs of one host: a space per RID, and numbers that are free in the spaces of all parents
 * of mediated devices at once, for work that the CPU tags (ENQCMD).
 * @module
 */
import { formatRid } from '../bus/bdf.ts';
import { refuse } from '../errors.ts';
import type { HostPasidsState } from '../snapshot/held-state.ts';
import { PasidAllocator } from './allocator.ts';

/** How a host's PASIDs are laid out. */
export interface HostPasidsOptions {
  /** Width of a PASID, 1 to 20; default 20. */
  readonly pasidBits?: number;
  /** First PASID that the host picks itself; default 4097, or half of a narrower space. */
  readonly firstPasid?: number;
}

/** Who picks PASIDs of a RID: its guest (whole device), or the host (parent of mediated ones). */
type Use = 'guest' | 'host';

interface RidPasids {
  readonly space: PasidAllocator;
  use: Use;
  devices: number;
}

/** See the module. Freed PASIDs wait for {@link HostPasids.flushed}. */
export class HostPasids {
  readonly pasidBits: number;
  readonly firstPasid: number;
  readonly #rids = new Map<number, RidPasids>();
  #global: PasidAllocator;

  constructor({ pasidBits = 20, firstPasid }: HostPasidsOptions = {}) {
    this.pasidBits = pasidBits;
    this.firstPasid = firstPasid ?? Math.min(4097, 2 ** (pasidBits - 1));
    this.#global = this.#makeSpace('every parent device');
  }

  /** State for a snapshot. */
  save(): HostPasidsState {
    const { pasidBits, firstPasid } = this;
    const rids = [...this.#rids].map(([rid, { space, use, devices }]) => ({
      rid,
      guest: use === 'guest',
      devices,
      space: space.save(),
    }));
    return { pasidBits, firstPasid, global: this.#global.save(), rids };
  }

  /** @throws {IommuError} EINVAL for impossible options */
  static load({ pasidBits, firstPasid, global, rids }: HostPasidsState): HostPasids {
    const host = new HostPasids({ pasidBits, firstPasid });
    host.#global = PasidAllocator.load(global);
    for (const { rid, guest, devices, space } of rids) {
      const use: Use = guest ? 'guest' : 'host';
      host.#rids.set(rid, { space: PasidAllocator.load(space), use, devices });
    }
    return host;
  }

  /**
   * A device comes under a RID.
   *
   * @throws {IommuError} EBUSY when the RID is a whole device's already, or a parent's
   */
  addDevice(op: string, rid: number, mediated: boolean): void {
    const use: Use = mediated ? 'host' : 'guest';
    const found = this.#rids.get(rid);
    if (found && found.devices > 0 && (found.use !== use || use === 'guest')) {
      const who = found.use === 'guest' ? 'a whole device' : 'the parent of mediated devices';
      throw refuse('EBUSY', op, 'rid-in-use', `${formatRid(rid)} is ${who}`, {
        value: rid,
        accepted: 'one whole device per RID, or mediated devices alone',
      });
    }
    const entry = found ?? { space: this.#makeSpace(`RID ${formatRid(rid)}`), use, devices: 0 };
    entry.use = use;
    entry.devices++;
    this.#rids.set(rid, entry);
  }

  /** It goes; its PASIDs are freed. The space goes with its last PASID flushed. */
  removeDevice(rid: number): void {
    const entry = this.#rids.get(rid);
    if (!entry) return;
    entry.devices--;
    this.#forget(rid, entry);
  }

  /** A PASID of one RID that is neither a global one nor `except`. ENOSPC. */
  allocate(op: string, rid: number, except = -1): number {
    return this.#space(rid).allocate(op, (p) => p !== except && this.#global.isFree(p));
  }

  /** A PASID free behind every parent, and not `except`. ENOSPC. */
  allocateGlobal(op: string, except = -1): number {
    const parents = [...this.#rids.values()].filter(({ use }) => use === 'host');
    return this.#global.allocate(
      op,
      (p) => p !== except && parents.every(({ space }) => space.isFree(p)),
    );
  }

  /** A PASID of a RID that the guest names. EINVAL, EBUSY. */
  reserve(op: string, rid: number, pasid: number): void {
    this.#space(rid).reserve(op, pasid);
  }

  /** Free a PASID of a RID. */
  free(op: string, rid: number, pasid: number): void {
    this.#space(rid).free(op, pasid);
  }

  freeGlobal(op: string, pasid: number): void {
    this.#global.free(op, pasid);
  }

  /**
   * The IOMMU's and device's caches of a RID hold nothing of its freed PASIDs any more.
   *
   * @param rid absent = every cache is empty of freed PASIDs, global ones included
   */
  flushed(rid?: number): void {
    if (rid === undefined) this.#global.flushed();
    for (const [each, entry] of [...this.#rids]) {
      if (rid !== undefined && rid !== each) continue;
      entry.space.flushed();
      this.#forget(each, entry);
    }
  }

  /** A space stays while a device, a PASID or a stale cache entry needs it. */
  #forget(rid: number, { devices, space }: RidPasids): void {
    if (devices === 0 && space.usedCount + space.parkedCount === 0) this.#rids.delete(rid);
  }

  #space(rid: number): PasidAllocator {
    return (this.#rids.get(rid) as RidPasids).space;
  }

  #makeSpace(label: string): PasidAllocator {
    const { pasidBits, firstPasid } = this;
    return new PasidAllocator({ pasidBits, firstPasid, parkFreed: true, label });
  }
}
