import { encode } from '@iommukit/bits';
import type { IdentityDomain, IommuUnit } from '@iommukit/core';
import { STE, STE_CONFIG } from '../spec/stream-table-entry.ts';
import type { DeviceState, UnitContext } from './unit-context.ts';

/** STE.SHCFG: shareability as it comes in. */
export const USE_INCOMING = 1;

interface VmidUse {
  readonly vmid: number;
  readonly devices: Set<DeviceState>;
}

/** Any domain that lets DMA through: what attaching needs of it. */
export abstract class TranslatingDomain {
  readonly unit: IommuUnit;
  /** The unit that made it. */
  readonly context: UnitContext;
  /** VMID and devices, by the unit where it is in use. */
  protected readonly uses = new Map<UnitContext, VmidUse>();

  constructor(unit: IommuUnit, context: UnitContext) {
    this.unit = unit;
    this.context = context;
  }

  /** @throws {IommuError} EINVAL when the unit cannot walk this domain's tables */
  abstract checkFits(unit: UnitContext): void;

  /** Stream table entry, 16 words. */
  abstract streamEntry(vmid: number): Uint32Array;

  /** VMID for a unit. */
  protected abstract takeVmid(unit: UnitContext): number;
  protected abstract releaseVmid(unit: UnitContext, vmid: number): void;

  /**
   * Take a device in; the VMID on its unit is taken with the first.
   *
   * @throws {IommuError} ENOSPC
   */
  addDevice(unit: UnitContext, device: DeviceState): number {
    const use = this.uses.get(unit) ?? { vmid: this.takeVmid(unit), devices: new Set() };
    this.uses.set(unit, use);
    use.devices.add(device);
    return use.vmid;
  }

  /** VMID that only this device still uses on the unit, or -1. */
  lastVmidOf(unit: UnitContext): number {
    const use = this.uses.get(unit);
    return use?.devices.size === 1 ? use.vmid : -1;
  }

  /** Let a device go whose entry is out of all caches, and with the last one the VMID. */
  removeDevice(unit: UnitContext, device: DeviceState): void {
    const use = this.uses.get(unit);
    use?.devices.delete(device);
    if (!use || use.devices.size > 0) return;
    this.uses.delete(unit);
    this.releaseVmid(unit, use.vmid);
  }
}

/** IOVA = host physical address; one per unit. Bypass has no tag. */
export class SmmuIdentityDomain extends TranslatingDomain implements IdentityDomain {
  readonly kind = 'identity';

  free(): void {}
  checkFits(): void {}

  streamEntry(): Uint32Array {
    return encode(STE, { V: 1, CONFIG: STE_CONFIG.BYPASS, SHCFG: USE_INCOMING });
  }

  protected takeVmid(): number {
    return 0;
  }

  protected releaseVmid(): void {}
}
