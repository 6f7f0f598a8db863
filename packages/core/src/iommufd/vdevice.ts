/**
 * vDEVICEs: a bound device as the guest of a vIOMMU knows it.
 *
 * @linux drivers/iommu/iommufd/viommu.c iommufd_vdevice_alloc_ioctl
 * @module
 */
import { hex } from '@iommukit/bits';
import type { IommuCommand } from '../uapi/structs.ts';
import type { Call } from './call.ts';
import type { IommufdDevice } from './device.ts';
import type { IommufdObject } from './objects.ts';
import type { Viommu } from './viommu.ts';

/** A vDEVICE object. */
export class Vdevice implements IommufdObject {
  readonly kind = 'VDEVICE';
  readonly id: number;
  users = 0;
  readonly viommu: Viommu;
  readonly device: IommufdDevice;
  /** What the guest calls the device: a stream id, a device id. 64 bits. */
  readonly virtId: bigint;

  constructor(id: number, viommu: Viommu, device: IommufdDevice, virtId: bigint) {
    this.id = id;
    this.viommu = viommu;
    this.device = device;
    this.virtId = virtId;
    viommu.backend.vdeviceInit?.(device.device, virtId);
    viommu.users++;
    viommu.vdevices.set(virtId, this);
    device.vdevice = this;
  }

  destroy(): void {
    this.viommu.backend.vdeviceDestroy?.(this.device.device, this.virtId);
    this.viommu.vdevices.delete(this.virtId);
    this.viommu.users--;
    this.device.vdevice = undefined;
  }

  /** The device goes away: so does this, and its id is never used again in the context. */
  bury(): void {
    this.device.context.objects.bury(this.id);
    this.destroy();
  }
}

/** `IOMMU_VDEVICE_ALLOC`. */
export const vdeviceAlloc = (call: Call, command: IommuCommand<'IOMMU_VDEVICE_ALLOC'>): void => {
  const { context } = call;
  const virtId = BigInt(command.virtId);
  const viommu = context.find(call.op, command.viommuId, 'VIOMMU');
  const device = context.find(call.op, command.devId, 'DEVICE');
  if (device.unit !== viommu.unit) {
    throw call.refuse('EINVAL', 'viommu-device', `${device.device.name} is behind another IOMMU`, {
      value: device.id,
      owner: viommu.unit.name,
      accepted: `a device behind ${viommu.unit.name}`,
    });
  }
  if (device.vdevice) {
    throw call.refuse('EEXIST', 'device-vdevice', `${device.device.name} has a vDEVICE already`, {
      value: device.id,
      owner: `VDEVICE ${device.vdevice.id}`,
      accepted: 'destroy that one first',
    });
  }
  const taken = viommu.vdevices.get(virtId);
  if (taken) {
    throw call.refuse('EEXIST', 'virt-id', `virtual id ${hex(virtId)} is taken`, {
      value: virtId,
      owner: `VDEVICE ${taken.id}`,
      accepted: 'a virtual id that no vDEVICE of this vIOMMU has',
    });
  }
  const vdevice = context.objects.reserveFor(call.op, (id) => {
    call.checkAllocation('the virtual id');
    return new Vdevice(id, viommu, device, virtId);
  });
  context.objects.install(vdevice);
  command.outVdeviceId = vdevice.id;
  call.undo = () => context.destroyObject(vdevice);
};
