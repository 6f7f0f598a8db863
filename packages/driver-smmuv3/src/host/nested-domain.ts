/**
 * Nested domains: a guest owns the CD table and all of stage 1, the parent HWPT is stage 2.
 *
 * @spec SMMUv3 3.4.2, 5.2
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c
 */
import { type IommuUnit, type NestedDomain, refuse, type UserArray } from '@iommukit/core';
import { type DeviceState, NO_SSID } from './device-state.ts';
import type { SmmuPagingDomain } from './domain.ts';
import type { GuestTag } from './guest-tag.ts';
import { ABORT_ENTRY, type StreamTraits } from './stream-entries.ts';
import { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';
import { nestedEntry, type Vste } from './vste.ts';

/** Whose domain it is: what a guest calls its devices, and where their events go. */
export interface GuestDevices {
  /** StreamID that the guest knows the device by; undefined = it has none. */
  vsidOf(device: DeviceState): number | undefined;
  /** @returns whether the guest takes it */
  reportEvent(words: ArrayLike<number>, vsid: number): boolean;
}

/** A guest's stream table entry over a stage 2 of the host. */
export class SmmuNestedDomain extends TranslatingDomain implements NestedDomain {
  readonly kind = 'nested';
  readonly pasidCompatible = false;
  readonly ownsPasidTable = true;
  readonly usesCdTable = false;
  readonly vste: Vste;
  /** Only without vIOMMU: there the vIOMMU invalidates. */
  readonly invalidate?: (array: UserArray) => void;
  readonly #tag: GuestTag;
  readonly #guest: GuestDevices | undefined;
  /** What the guest called a device when it was attached. */
  readonly #vsids = new Map<DeviceState, number>();
  readonly #devices = new Set<DeviceState>();
  readonly #onFree: () => void;

  /**
   * @param guest the vIOMMU it was made through
   * @param direct without one: how the guest invalidates, and what goes with the domain
   */
  constructor(
    unit: IommuUnit,
    tag: GuestTag,
    vste: Vste,
    guest: GuestDevices | undefined,
    direct?: { invalidate(domain: SmmuNestedDomain, array: UserArray): void; free(): void },
  ) {
    super(unit, tag.unit);
    this.#tag = tag;
    this.vste = vste;
    this.#guest = guest;
    if (direct) this.invalidate = (array) => direct.invalidate(this, array);
    this.#onFree = direct ? () => direct.free() : () => {};
  }

  /** The stage 2 under it. */
  get parent(): SmmuPagingDomain {
    return this.#tag.parent;
  }

  /** The vIOMMU it was made through. */
  get guest(): GuestDevices | undefined {
    return this.#guest;
  }

  /** What everything cached of its guest goes by. */
  get vmid(): number {
    return this.#tag.vmid;
  }

  /** StreamIDs of the devices on it. */
  get streams(): readonly number[] {
    return Array.from(this.#devices, ({ sid }) => sid);
  }

  free(): void {
    this.#onFree();
  }

  /**
   * @throws {IommuError} EINVAL on another unit; ENOENT for stage 1 of a device that the guest has no
   *   name for: its invalidations and events could not be told from others
   */
  checkFits(unit: UnitContext, device: DeviceState): void {
    if (unit !== this.context) throw otherUnit(unit, this.context);
    if (this.vste.config !== 's1' || !this.#guest) return;
    if (this.#guest.vsidOf(device) !== undefined) return;
    throw refuse('ENOENT', 'attach', 'guest-vdevice', `${device.device.name} has no vDEVICE`, {
      accepted: 'a device with a vDEVICE of the vIOMMU of this HWPT',
    });
  }

  /**
   * A guest that does not know of ATS invalidates no device's TLB; and where stage 2 may stall, full
   * ATS is illegal.
   */
  wantsAts({ stall }: DeviceState): boolean {
    return this.vste.ats && !stall;
  }

  streamEntry(_device: DeviceState, traits: StreamTraits): Uint32Array {
    if (this.vste.config === 'abort') return ABORT_ENTRY;
    const stage2 = this.parent.stage2Entry(this.#tag.vmid, traits);
    return this.vste.config === 'bypass' ? stage2 : nestedEntry(this.vste, stage2, traits.ats);
  }

  addTags(device: DeviceState): void {
    this.#devices.add(device);
    const vsid = this.#guest?.vsidOf(device);
    if (vsid !== undefined) this.#vsids.set(device, vsid);
    if (this.#usesAts(device)) {
      this.parent.tags.addDevice(this.context, device.sid, NO_SSID, true);
    }
  }

  removeTags(device: DeviceState): void {
    if (this.#usesAts(device)) {
      this.parent.tags.removeDevice(this.context, device.sid, NO_SSID, true);
    }
    this.#vsids.delete(device);
    this.#devices.delete(device);
  }

  #usesAts(device: DeviceState): boolean {
    return device.ats && this.wantsAts(device);
  }

  /** Offer an event of an attached device to the guest. @returns whether it takes it */
  reportEvent(device: DeviceState, words: ArrayLike<number>): boolean {
    const vsid = this.#vsids.get(device);
    return vsid !== undefined && (this.#guest as GuestDevices).reportEvent(words, vsid);
  }
}

const otherUnit = (unit: UnitContext, owner: UnitContext) =>
  refuse('EINVAL', 'attach', 'nested-unit', `this domain is of a vIOMMU of ${owner.name}`, {
    owner: owner.name,
    accepted: `a nested domain allocated for a device of ${unit.name}`,
  });
