/**
 * A guest's SMMUv3 (vSMMU): its devices by the StreamIDs it gave them, its invalidations, its events.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c (arm_vsmmu_init, arm_vsmmu_ops)
 */
import type {
  IommuUnit,
  NestedDomain,
  UnitDevice,
  UserArray,
  UserBlob,
  VeventSink,
  ViommuBackend,
} from '@iommukit/core';
import type { DeviceState } from './device-state.ts';
import type { GuestTag } from './guest-tag.ts';
import { type GuestDevices, SmmuNestedDomain } from './nested-domain.ts';
import { type GuestOptions, readUserVste } from './nesting.ts';
import { invalidateForGuest } from './user-invalidation.ts';
import { VEVENTQ_TYPE_ARM_SMMUV3, veventOf } from './vevents.ts';

const VSIDS = 0x1_0000_0000n;

/** The driver's half of a vIOMMU of type ARM_SMMUV3. */
export class SmmuViommu implements ViommuBackend, GuestDevices {
  readonly tag: GuestTag;
  readonly #unit: IommuUnit;
  readonly #options: GuestOptions;
  readonly #events: VeventSink;
  /** StreamIDs of the guest, by ours. */
  readonly #vsids = new Map<number, bigint>();
  /** Our StreamIDs, by the guest's. */
  readonly #sids = new Map<number, number>();

  constructor(unit: IommuUnit, tag: GuestTag, options: GuestOptions, events: VeventSink) {
    this.#unit = unit;
    this.tag = tag;
    this.#options = options;
    this.#events = events;
  }

  /** @throws {IommuError} EOPNOTSUPP for any flag; EINVAL, EIO; see `readUserVste` */
  allocNested(_device: UnitDevice, flags: number, userData: UserBlob): NestedDomain {
    const vste = readUserVste(this.#options.features, flags, userData);
    return new SmmuNestedDomain(this.#unit, this.tag, vste, this);
  }

  invalidate(array: UserArray): void {
    const { features, linux73Invalidation } = this.#options;
    const { unit, vmid } = this.tag;
    const owner = {
      features,
      invalidate: unit.invalidate,
      vmid,
      streamsOf: (vsid: number): readonly number[] => {
        const sid = this.#sids.get(vsid);
        return sid === undefined ? [] : [sid];
      },
    };
    invalidateForGuest(owner, array, linux73Invalidation);
  }

  /** A name that does not fit a command can be given, and never be named. */
  vdeviceInit(device: UnitDevice, virtId: bigint): void {
    this.#vsids.set(device.rid, virtId);
    if (virtId < VSIDS) this.#sids.set(Number(virtId), device.rid);
  }

  vdeviceDestroy(device: UnitDevice, virtId: bigint): void {
    this.#vsids.delete(device.rid);
    if (virtId < VSIDS) this.#sids.delete(Number(virtId));
  }

  vsidOf({ sid }: DeviceState): number | undefined {
    const vsid = this.#vsids.get(sid);
    return vsid === undefined ? undefined : Number(vsid % VSIDS);
  }

  reportEvent(words: ArrayLike<number>, vsid: number): boolean {
    const bytes = veventOf(words, vsid);
    return bytes !== undefined && this.#events.report(VEVENTQ_TYPE_ARM_SMMUV3, bytes);
  }

  destroy(): void {
    this.tag.release();
  }
}
