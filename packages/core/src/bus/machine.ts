import type { IommuDriver, IommuUnit, UnitDevice } from '../driver/contract.ts';
import type { PageFault, UnrecoverableFault } from '../driver/faults.ts';
import { type HostMemory, hostMemoriesOf } from '../driver/host-memory.ts';
import { refuse } from '../errors.ts';
import { PhysicalMemory } from '../memory/physical-memory.ts';
import type { BusState } from '../snapshot/scenario-state.ts';
import { formatRid, parseRid } from './bdf.ts';
import { Endpoint } from './endpoint.ts';
import type { EndpointOptions } from './endpoint-options.ts';
import { IommuGroups } from './group.ts';
import {
  type BusPort,
  INVALIDATION_ANSWER,
  type InvalidationAnswer,
  type PageGroupResponse,
} from './request.ts';

/** What a machine is made of. */
export interface MachineOptions {
  /** Bytes of RAM, a multiple of 4096; default 64 MiB. Beyond 4 GiB it becomes several regions. */
  readonly ramBytes?: number;
  /** Physical address of the first byte; default 4 GiB, above the interrupt address window. */
  readonly ramBase?: number;
}

/** Takes page faults of one device; false = not taken. */
export type PageFaultHandler = (fault: PageFault) => boolean;

/** The interrupt address window FEEx_xxxxh of x86. */
const FIRST_MESSAGE_ADDRESS = 0xfee0_0000;
const LAST_MESSAGE_ADDRESS = 0xfeef_ffff;

const GIB = 2 ** 30;
const MAX_REGION_BYTES = 2 * GIB;
const DEFAULT_RAM_BASE = 4 * GIB;
const DEFAULT_RAM_BYTES = 64 * 2 ** 20;

/**
 * A computer: physical memory, devices, IOMMU units, interrupt messages. The only thing that
 * knows which unit is in charge of which device.
 */
export class Machine implements BusPort {
  readonly memory = new PhysicalMemory();
  readonly units: IommuUnit[] = [];
  readonly #endpoints = new Map<number, Endpoint>();
  readonly #unitOf = new Map<number, IommuUnit>();
  readonly #hostMemories = new Map<IommuUnit, readonly HostMemory[]>();
  readonly #groups = new IommuGroups();
  readonly #messageHandlers = new Map<number, (data: number) => void>();
  readonly #pageFaultHandlers = new Map<number, PageFaultHandler>();
  readonly #faultListeners = new Set<(fault: UnrecoverableFault) => void>();
  #nextMessageAddress = FIRST_MESSAGE_ADDRESS;

  /**
   * @throws {RangeError} when the RAM size or base is no positive multiple of 4096
   */
  constructor(options: MachineOptions = {}) {
    const bytes = options.ramBytes ?? DEFAULT_RAM_BYTES;
    const base = options.ramBase ?? DEFAULT_RAM_BASE;
    if (!(bytes > 0) || bytes % 4096 !== 0 || !(base >= 0) || base % 4096 !== 0) {
      throw new RangeError(
        `RAM of ${bytes} bytes at ${base}: size and base must be multiples of 4096, size above 0`,
      );
    }
    for (let at = 0; at < bytes; at += MAX_REGION_BYTES) {
      const size = Math.min(MAX_REGION_BYTES, bytes - at);
      this.memory.addRegion({ name: `ram${at / MAX_REGION_BYTES}`, base: base + at, size });
    }
  }

  /** Devices in the order they were added. */
  get endpoints(): readonly Endpoint[] {
    return [...this.#endpoints.values()];
  }

  /**
   * Put a device on the bus.
   *
   * @throws {RangeError} when the RID is taken or malformed, or PRI is asked without ATS
   */
  addEndpoint(options: EndpointOptions): Endpoint {
    const rid = typeof options.rid === 'string' ? parseRid(options.rid) : options.rid;
    if (!(rid >= 0 && rid <= 0xffff)) throw new RangeError(`RID ${rid} does not have 16 bits`);
    const taken = this.#endpoints.get(rid);
    if (taken) throw new RangeError(`RID ${formatRid(rid)} belongs to '${taken.name}' already`);
    const pasidBits = options.pasidBits ?? 0;
    if (!(pasidBits >= 0 && pasidBits <= 20)) {
      throw new RangeError(`a PASID has at most 20 bits, not ${pasidBits}`);
    }
    if (options.pri && !options.ats) {
      throw new RangeError('a device with PRI needs ATS too (PCIe 10.4): add ats: true');
    }
    const group = this.#groups.join(options.group ?? `rid ${rid}`, rid);
    const endpoint = new Endpoint(this, rid, group, options);
    this.#endpoints.set(rid, endpoint);
    return endpoint;
  }

  /**
   * Bring up an IOMMU and put devices under it.
   *
   * @param devices devices it is in charge of; default every device that has no unit yet
   * @throws {IommuError} what the driver throws; EBUSY when a device has a unit already
   */
  addUnit(driver: IommuDriver, devices?: readonly Endpoint[]): IommuUnit {
    const scope = devices ?? this.endpoints.filter((endpoint) => !this.#unitOf.has(endpoint.rid));
    for (const endpoint of scope) {
      const other = this.#unitOf.get(endpoint.rid);
      if (other) {
        throw refuse(
          'EBUSY',
          'addUnit',
          'device-scope',
          `${endpoint.name} is under ${other.name} already`,
          {
            owner: other.name,
          },
        );
      }
    }
    const hostMemories = hostMemoriesOf(this.memory);
    const before = hostMemories.length;
    const unit = driver.create({
      machine: this,
      reportPageFault: (device, fault) => this.#pageFaultHandlers.get(device.rid)?.(fault) ?? false,
      reportFault: (fault) => {
        for (const listener of this.#faultListeners) listener(fault);
      },
    });
    this.units.push(unit);
    this.#hostMemories.set(unit, hostMemories.slice(before));
    for (const endpoint of scope) {
      unit.probeDevice(endpoint);
      this.#unitOf.set(endpoint.rid, unit);
      endpoint.agent = unit.agent;
    }
    return unit;
  }

  /**
   * Take a device off the bus: its unit releases it, its RID is free again.
   *
   * @throws {RangeError} when the device is not on this bus
   */
  removeEndpoint(endpoint: Endpoint): void {
    const { rid, group } = endpoint;
    if (this.#endpoints.get(rid) !== endpoint) {
      throw new RangeError(`${endpoint.name} is not on this bus`);
    }
    this.#unitOf.get(rid)?.releaseDevice(endpoint);
    this.#unitOf.delete(rid);
    this.#pageFaultHandlers.delete(rid);
    this.#endpoints.delete(rid);
    endpoint.cancelStalled();
    this.#groups.leave(group, rid);
    endpoint.agent = undefined;
  }

  /**
   * Put one more device under a unit that is up already.
   *
   * @throws {IommuError} EBUSY when the device has a unit; ENODEV when it is not in scope
   */
  attachToUnit(unit: IommuUnit, endpoint: Endpoint): void {
    const other = this.#unitOf.get(endpoint.rid);
    if (other) {
      throw refuse('EBUSY', 'attachToUnit', 'device-scope', `${endpoint.name} has a unit`, {
        owner: other.name,
        accepted: 'a device without unit',
      });
    }
    unit.probeDevice(endpoint);
    this.#unitOf.set(endpoint.rid, unit);
    endpoint.agent = unit.agent;
  }

  /** The device with a RID. */
  endpoint(rid: number): Endpoint | undefined {
    return this.#endpoints.get(rid);
  }

  /** The unit in charge of a device. */
  unitOf(device: UnitDevice): IommuUnit | undefined {
    return this.#unitOf.get(device.rid);
  }

  /** Route page faults of a device to `handler`; undefined = nobody takes them. */
  setPageFaultHandler(device: UnitDevice, handler: PageFaultHandler | undefined): void {
    if (handler) this.#pageFaultHandlers.set(device.rid, handler);
    else this.#pageFaultHandlers.delete(device.rid);
  }

  /**
   * Hear of every unrecoverable fault that a unit's host half decoded.
   *
   * @returns call it to stop listening
   */
  onFault(listener: (fault: UnrecoverableFault) => void): () => void {
    this.#faultListeners.add(listener);
    return () => this.#faultListeners.delete(listener);
  }

  /**
   * Reserve an interrupt message address (in the FEEx_xxxx window) and call `handler` for every
   * message sent to it.
   *
   * @returns the address to program into a device or unit
   * @throws {RangeError} when all 256 addresses are taken
   */
  allocMessageAddress(handler: (data: number) => void): number {
    const address = this.#nextMessageAddress;
    if (address > LAST_MESSAGE_ADDRESS) {
      throw new RangeError('all 256 interrupt message addresses of the machine are taken');
    }
    this.#nextMessageAddress += 0x1000;
    this.#messageHandlers.set(address, handler);
    return address;
  }

  /** Frames that the host half of a unit keeps structures in. */
  hostPagesOf(unit: IommuUnit): { readonly base: number; readonly count: number }[] {
    return (this.#hostMemories.get(unit) ?? []).flatMap(({ pages }) => pages);
  }

  /** Groups, ids and interrupt addresses, for a snapshot. */
  saveBus(): Pick<BusState, 'groups' | 'nextGroupId' | 'nextMessageAddress'> {
    return {
      groups: this.#groups.save().map(({ key, group: { id, rids } }) => ({ id, key, rids })),
      nextGroupId: this.#groups.nextId,
      nextMessageAddress: this.#nextMessageAddress,
    };
  }

  /** Give groups and devices, which are all there, the numbers and order of a snapshot. */
  loadBus(state: Pick<BusState, 'groups' | 'nextGroupId'>, endpoints: readonly Endpoint[]): void {
    this.#groups.load(state.groups, state.nextGroupId);
    for (const endpoint of endpoints) {
      this.#endpoints.delete(endpoint.rid);
      this.#endpoints.set(endpoint.rid, endpoint);
    }
  }

  deliverPageResponse(response: PageGroupResponse): void {
    this.#endpoints.get(response.rid)?.receivePageResponse(response.prgi, response.code);
  }

  invalidateDeviceTlb(
    rid: number,
    pasid: number,
    addressPfn: number,
    sizeLg2: number,
    global: boolean,
  ): InvalidationAnswer {
    const endpoint = this.#endpoints.get(rid);
    return endpoint
      ? endpoint.receiveInvalidation(pasid, addressPfn, sizeLg2, global)
      : INVALIDATION_ANSWER.NONE;
  }

  /** @returns false when nothing answers at the address: the write aborted */
  raiseMessage(address: number, data: number): boolean {
    const handler = this.#messageHandlers.get(address);
    if (handler) handler(data);
    else if (address < FIRST_MESSAGE_ADDRESS || address > LAST_MESSAGE_ADDRESS)
      return this.memory.write32(address, data);
    return true;
  }

  requestResumed(rid: number, ticket: number, frame: number): void {
    this.#endpoints.get(rid)?.receiveResumed(ticket, frame);
  }
}

/** Make a machine; see {@link MachineOptions}. */
export const createMachine = (options?: MachineOptions): Machine => new Machine(options);
