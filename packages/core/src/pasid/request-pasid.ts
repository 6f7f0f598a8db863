/**
 * "Give me a PASID": core picks one for an address space of a device, without vendor data. Linux
 * lets the user pick; attach with a PASID goes on to work beside it.
 * @module
 */
import { refuse } from '../errors.ts';
import { changePageTable, detachDevice } from '../iommufd/attach.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import type { IommufdDevice } from '../iommufd/device.ts';
import type { AllocatorState } from '../snapshot/held-state.ts';
import { PasidAllocator } from './allocator.ts';

/** The PASIDs that core picked for one device. */
export class DevicePasids {
  readonly #device: IommufdDevice;
  #allocator: PasidAllocator;

  /**
   * @param devId object id of a bound device
   * @throws {IommuError} ENOENT; EOPNOTSUPP when the device or its IOMMU has no PASIDs
   */
  constructor(context: IommufdContext, devId: number) {
    const op = 'DevicePasids';
    this.#device = context.find(op, devId, 'DEVICE');
    const { maxPasids } = this.#device;
    if (maxPasids < 2) {
      throw refuse('EOPNOTSUPP', op, 'no-pasids', `device ${devId} or its IOMMU has no PASIDs`, {
        value: devId,
        accepted: 'a device and an IOMMU with a PASID width above 0',
      });
    }
    const label = `device ${devId}`;
    this.#allocator = new PasidAllocator({ pasidBits: Math.log2(maxPasids), label });
  }

  /** The device whose PASIDs these are. */
  get device(): IommufdDevice {
    return this.#device;
  }

  /** PASIDs given out, for a snapshot. */
  save(): AllocatorState {
    return this.#allocator.save();
  }

  /** @throws {IommuError} ENOENT or EOPNOTSUPP as the constructor; EINVAL for a bad state */
  static load(context: IommufdContext, devId: number, state: AllocatorState): DevicePasids {
    const pasids = new DevicePasids(context, devId);
    pasids.#allocator = PasidAllocator.load(state);
    return pasids;
  }

  /**
   * Pick a PASID and attach it.
   *
   * @param ptId an IOAS or HWPT, as for attach; hardware may ask for IOMMU_HWPT_ALLOC_PASID
   * @returns the PASID to program into the device
   * @throws {IommuError} ENOSPC, or what attach says; no PASID is taken then
   */
  request(ptId: number): number {
    const op = 'DevicePasids.request';
    const device = this.#device;
    const { attachments } = device.group;
    const pasid = this.#allocator.allocate(op, (free) => !attachments.has(free));
    try {
      changePageTable(op, device, pasid, ptId, 'attach');
    } catch (error) {
      this.#allocator.freePasid(pasid);
      throw error;
    }
    return pasid;
  }

  /** Detach, which flushes, then give the PASID back. ENOENT when it was not requested here. */
  release(pasid: number): void {
    const op = 'DevicePasids.release';
    if (this.#allocator.isUsed(pasid)) detachDevice(this.#device, pasid);
    this.#allocator.free(op, pasid);
  }
}
