import { encode } from '@iommukit/bits';
import type { IdentityDomain, IommuUnit } from '@iommukit/core';
import { DTE } from '../spec/device-table-entry.ts';
import { IDENTITY_DOMAIN_ID } from './domain-id-allocator.ts';
import type { DeviceState, UnitContext } from './unit-context.ts';

interface IdUse {
  readonly domainId: number;
  readonly devices: Set<DeviceState>;
}

/** Any domain that lets DMA through: what attaching needs of it. */
export abstract class TranslatingDomain {
  readonly unit: IommuUnit;
  /** The unit that made it. */
  readonly context: UnitContext;
  /** DomainID and devices, by the unit where it is in use. */
  protected readonly uses = new Map<UnitContext, IdUse>();

  constructor(unit: IommuUnit, context: UnitContext) {
    this.unit = unit;
    this.context = context;
  }

  /** @throws {IommuError} EINVAL when the unit cannot walk this domain's tables */
  abstract checkFits(unit: UnitContext): void;

  /** Device table entry, eight words. */
  abstract deviceEntry(domainId: number): Uint32Array;

  /** DomainID for a unit. */
  protected abstract takeId(unit: UnitContext): number;
  protected abstract releaseId(unit: UnitContext, domainId: number): void;

  /**
   * Take a device in; the DomainID on its unit is taken with the first.
   *
   * @throws {IommuError} ENOSPC
   */
  addDevice(unit: UnitContext, device: DeviceState): number {
    const use = this.uses.get(unit) ?? { domainId: this.takeId(unit), devices: new Set() };
    this.uses.set(unit, use);
    use.devices.add(device);
    return use.domainId;
  }

  /** DomainID that only this device still uses on the unit, or -1. */
  lastIdOf(unit: UnitContext): number {
    const use = this.uses.get(unit);
    return use?.devices.size === 1 ? use.domainId : -1;
  }

  /** Let a device go whose entry is out of all caches, and with the last one the DomainID. */
  removeDevice(unit: UnitContext, device: DeviceState): void {
    const use = this.uses.get(unit);
    use?.devices.delete(device);
    if (!use || use.devices.size > 0) return;
    this.uses.delete(unit);
    this.releaseId(unit, use.domainId);
  }
}

/** IOVA = host physical address; one per unit. Mode 0 still checks IR and IW. */
export class AmdviIdentityDomain extends TranslatingDomain implements IdentityDomain {
  readonly kind = 'identity';

  free(): void {}
  checkFits(): void {}

  deviceEntry(domainId: number): Uint32Array {
    return encode(DTE, { V: 1, TV: 1, IR: 1, IW: 1, DOMAIN_ID: domainId });
  }

  protected takeId(): number {
    return IDENTITY_DOMAIN_ID;
  }

  protected releaseId(): void {}
}
