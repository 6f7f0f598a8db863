/**
 * Guest PASIDs (vPASID) to PASIDs on the wire (pPASID), by kind of device. Plain bookkeeping: a
 * device layer asks it which entry to write and calls the driver itself.
 * @module
 */
import { refuse } from '../errors.ts';
import type { GuestPasidsState } from '../snapshot/held-state.ts';
import { type PasidDeviceType, type PasidPolicy, pasidPolicy } from './device-types.ts';
import type { HostPasids } from './host-pasids.ts';

/** A device that a guest gets. */
export interface PasidDevice {
  /** Unique in the guest. */
  readonly name: string;
  /** Its own RID; of a mediated device the parent's. */
  readonly rid: number;
  readonly type: PasidDeviceType;
}

/** What became of a guest's PASID. */
export interface PasidMapping {
  readonly vpasid: number;
  readonly ppasid: number;
  /** The host writes the PASID table entry; false when the guest owns the table. */
  readonly hostWritesEntry: boolean;
}

/** A guest's PASIDs by device name: all that migrates. */
export type GuestPasidState = Readonly<Record<string, readonly number[]>>;

interface Bound extends PasidDevice {
  readonly policy: PasidPolicy;
  /** pPASID by vPASID. */
  readonly mappings: Map<number, number>;
  readonly defaultPasid: number | undefined;
}

interface GlobalUse {
  readonly ppasid: number;
  users: number;
}

const LAST_VPASID = 2 ** 20 - 1;

/** The PASIDs of one guest on one host. */
export class GuestPasids {
  readonly host: HostPasids;
  readonly #devices = new Map<string, Bound>();
  /** Global pPASIDs by vPASID: all ENQCMD slices of the guest share them. */
  readonly #global = new Map<number, GlobalUse>();

  constructor(host: HostPasids) {
    this.host = host;
  }

  /**
   * Give the guest a device.
   *
   * @returns its policy; `info` tells the guest's monitor which category it falls into
   * @throws {IommuError} EINVAL (no such kind), EEXIST (name), EBUSY (RID), ENOSPC (no default PASID)
   */
  addDevice({ name, rid, type }: PasidDevice, op = 'bind device'): PasidPolicy {
    const policy = pasidPolicy(type);
    if (!policy) throw noType(op, type);
    if (this.#devices.has(name)) {
      throw refuse('EEXIST', op, 'device-name', `the guest has a device ${name} already`, {
        value: name,
        accepted: 'another name',
      });
    }
    const { host } = this;
    host.addDevice(op, rid, policy.mediated);
    let defaultPasid: number | undefined;
    try {
      if (policy.pool === 'rid' && !policy.vpasid) defaultPasid = host.allocate(op, rid);
    } catch (error) {
      host.removeDevice(rid);
      throw error;
    }
    this.#devices.set(name, { name, rid, type, policy, mappings: new Map(), defaultPasid });
    return policy;
  }

  /** Take a device away, and all its PASIDs. ENOENT. */
  removeDevice(name: string, op = 'unbind device'): void {
    const device = this.#find(op, name);
    for (const vpasid of [...device.mappings.keys()]) this.detach(name, vpasid, op);
    if (device.defaultPasid !== undefined) this.host.free(op, device.rid, device.defaultPasid);
    this.#devices.delete(name);
    this.host.removeDevice(device.rid);
  }

  /** The PASID that tags requests of a slice whose guest knows of none. ENOENT. */
  defaultPasid(name: string, op = 'default PASID'): number | undefined {
    return this.#find(op, name).defaultPasid;
  }

  /**
   * The guest uses a PASID of a device: choose the one for the wire.
   *
   * @throws {IommuError} ENOENT (device); EINVAL (the guest has no PASIDs there, PASID out of range,
   * ENQCMD devices of both categories); EBUSY (attached already, or not flushed yet); ENOSPC
   */
  attach(name: string, vpasid: number, op = 'attach PASID'): PasidMapping {
    const device = this.#find(op, name);
    this.#checkAttach(op, device, vpasid);
    const ppasid = this.#choose(op, device, vpasid);
    device.mappings.set(vpasid, ppasid);
    return { vpasid, ppasid, hostWritesEntry: !device.policy.delegated };
  }

  /**
   * The guest no longer uses it. The pPASID is not given out again before the host's `flushed`.
   *
   * @returns the pPASID whose entry and cached translations must go
   * @throws {IommuError} ENOENT
   */
  detach(name: string, vpasid: number, op = 'detach PASID'): number {
    const device = this.#find(op, name);
    const ppasid = device.mappings.get(vpasid);
    if (ppasid === undefined) throw this.#unknown(op, device, vpasid);
    device.mappings.delete(vpasid);
    if (device.policy.pool !== 'global') this.host.free(op, device.rid, ppasid);
    else this.#putGlobal(op, vpasid);
    return ppasid;
  }

  /**
   * The PASID on the wire for a guest's PASID. A guest that owns the table needs no attach.
   *
   * @throws {IommuError} ENOENT when there is none
   */
  ppasidOf(name: string, vpasid: number, op = 'translate PASID'): number {
    const device = this.#find(op, name);
    const ppasid = device.mappings.get(vpasid);
    if (ppasid !== undefined) return ppasid;
    if (device.policy.delegated && isVpasid(vpasid, this.host)) return vpasid;
    throw this.#unknown(op, device, vpasid);
  }

  /** The guest's PASID behind one on the wire, for faults and page requests; -1 for none. */
  vpasidOf(name: string, ppasid: number, op = 'translate fault'): number {
    const device = this.#find(op, name);
    for (const [vpasid, mapped] of device.mappings) if (mapped === ppasid) return vpasid;
    return device.policy.delegated && isVpasid(ppasid, this.host) ? ppasid : -1;
  }

  /** What migrates: guest PASIDs alone. */
  save(): GuestPasidState {
    return Object.fromEntries(
      [...this.#devices.values()].map(({ name, mappings }) => [name, [...mappings.keys()]]),
    );
  }

  /**
   * Attach what was saved, on this host, whose pPASIDs may be others.
   *
   * @throws {IommuError} as {@link GuestPasids.attach}; nothing is attached then
   */
  restore(state: GuestPasidState, op = 'restore PASIDs'): void {
    const done: (readonly [string, number])[] = [];
    try {
      for (const [name, vpasids] of Object.entries(state)) {
        for (const vpasid of vpasids) {
          this.attach(name, vpasid, op);
          done.push([name, vpasid]);
        }
      }
    } catch (error) {
      for (const [name, vpasid] of done) this.detach(name, vpasid, op);
      throw error;
    }
  }

  /** The whole state, physical PASIDs included, for a snapshot together with the host's. */
  saveAll(): GuestPasidsState {
    const devices = [...this.#devices.values()].map(
      ({ name, rid, type, defaultPasid = 0, mappings }) => ({
        name,
        rid,
        type,
        defaultPasid,
        mappings: [...mappings].map(([vpasid, ppasid]) => ({ vpasid, ppasid })),
      }),
    );
    const global = [...this.#global].map(([vpasid, { ppasid, users }]) => ({
      vpasid,
      ppasid,
      users,
    }));
    return { devices, global };
  }

  /**
   * Put a state beside the restored PASIDs of its host.
   *
   * @throws {IommuError} EINVAL for a type of device that does not exist
   */
  static loadAll(host: HostPasids, state: GuestPasidsState): GuestPasids {
    const guest = new GuestPasids(host);
    for (const { name, rid, type, defaultPasid, mappings } of state.devices) {
      const policy = pasidPolicy(type);
      if (!policy) throw noType('restore PASIDs', type);
      guest.#devices.set(name, {
        name,
        rid,
        type: policy.type,
        policy,
        mappings: new Map(mappings.map(({ vpasid, ppasid }) => [vpasid, ppasid])),
        defaultPasid: defaultPasid === 0 ? undefined : defaultPasid,
      });
    }
    for (const { vpasid, ppasid, users } of state.global) {
      guest.#global.set(vpasid, { ppasid, users });
    }
    return guest;
  }

  #find(op: string, name: string): Bound {
    const device = this.#devices.get(name);
    if (device) return device;
    throw refuse('ENOENT', op, 'device-name', `the guest has no device ${name}`, {
      value: name,
      accepted: [...this.#devices.keys()].join(', ') || 'add a device first',
    });
  }

  #checkAttach(op: string, device: Bound, vpasid: number): void {
    const { name, policy, mappings } = device;
    if (!policy.vpasid) {
      throw refuse('EINVAL', op, 'pasid-hidden', `the guest has no PASIDs on ${name}`, {
        value: vpasid,
        owner: name,
        accepted: 'a device of type 4 to 8',
      });
    }
    if (!isVpasid(vpasid, this.host)) {
      throw refuse('EINVAL', op, 'pasid-range', `PASID ${vpasid} is out of range`, {
        value: vpasid,
        accepted: `1 to ${lastVpasid(this.host)}`,
      });
    }
    if (mappings.has(vpasid)) {
      throw refuse('EBUSY', op, 'pasid-used', `PASID ${vpasid} of ${name} is attached already`, {
        value: vpasid,
        owner: name,
        accepted: 'another PASID, or detach first',
      });
    }
    if (policy.enqcmd) this.#checkCategory(op, device);
  }

  /** The CPU either translates a guest's PASIDs or not: both kinds at once cannot work. */
  #checkCategory(op: string, { name, policy }: Bound): void {
    for (const other of this.#devices.values()) {
      if (!other.policy.enqcmd || other.policy.identity === policy.identity) continue;
      if (other.mappings.size === 0) continue;
      const needs = policy.identity ? 'must not' : 'must';
      const message = `the CPU ${needs} translate PASIDs for ${name}, unlike for ${other.name}`;
      throw refuse('EINVAL', op, 'pasid-category', message, {
        value: policy.type,
        owner: other.name,
        accepted: `ENQCMD devices of type ${other.type} only, while ${other.name} uses PASIDs`,
      });
    }
  }

  #choose(op: string, { policy, rid }: Bound, vpasid: number): number {
    if (policy.identity) {
      this.host.reserve(op, rid, vpasid);
      return vpasid;
    }
    if (policy.pool === 'rid') return this.host.allocate(op, rid, vpasid);
    const use = this.#global.get(vpasid) ?? {
      ppasid: this.host.allocateGlobal(op, vpasid),
      users: 0,
    };
    use.users++;
    this.#global.set(vpasid, use);
    return use.ppasid;
  }

  #putGlobal(op: string, vpasid: number): void {
    const use = this.#global.get(vpasid) as GlobalUse;
    use.users--;
    if (use.users > 0) return;
    this.#global.delete(vpasid);
    this.host.freeGlobal(op, use.ppasid);
  }

  #unknown(op: string, { name, mappings }: Bound, vpasid: number) {
    return refuse('ENOENT', op, 'pasid-unknown', `PASID ${vpasid} of ${name} is not attached`, {
      value: vpasid,
      owner: name,
      accepted: [...mappings.keys()].join(', ') || 'attach one first',
    });
  }
}

const noType = (op: string, type: number) =>
  refuse('EINVAL', op, 'pasid-device-type', `${type} is no kind of device`, {
    value: type,
    accepted: '1 to 8',
  });

const lastVpasid = ({ pasidBits }: HostPasids): number => Math.min(LAST_VPASID, 2 ** pasidBits - 1);

const isVpasid = (vpasid: number, host: HostPasids): boolean =>
  Number.isInteger(vpasid) && vpasid >= 1 && vpasid <= lastVpasid(host);
