/**
 * Virtual IOMMUs: a slice of a unit that a guest drives.
 *
 * @linux drivers/iommu/iommufd/viommu.c
 * @module
 */
import type { IommuUnit } from '../driver/contract.ts';
import type { VeventSink, ViommuBackend } from '../driver/viommu-backend.ts';
import type { IommuCommand } from '../uapi/structs.ts';
import type { Call } from './call.ts';
import type { HwQueue } from './hw-queue.ts';
import type { DriverRequest, HwptPaging } from './hwpt.ts';
import type { IommufdObject } from './objects.ts';
import { RememberedBlob, userBlob } from './user-data.ts';
import type { Vdevice } from './vdevice.ts';
import type { Veventq } from './veventq.ts';

/** A vIOMMU object. It keeps its parent HWPT alive. */
export class Viommu implements IommufdObject {
  readonly kind = 'VIOMMU';
  readonly id: number;
  users = 0;
  readonly type: number;
  readonly unit: IommuUnit;
  readonly hwpt: HwptPaging;
  /** The driver's half. */
  readonly origin: DriverRequest;
  readonly backend: ViommuBackend;
  /** vDEVICEs by their virtual ids. */
  readonly vdevices = new Map<bigint, Vdevice>();
  /** Event queues by type. */
  readonly veventqs = new Map<number, Veventq>();
  /** Hardware queues in use. */
  readonly hwQueues = new Set<HwQueue>();

  constructor(
    id: number,
    type: number,
    unit: IommuUnit,
    hwpt: HwptPaging,
    origin: DriverRequest,
    init: (viommu: Viommu) => ViommuBackend,
  ) {
    this.id = id;
    this.type = type;
    this.unit = unit;
    this.hwpt = hwpt;
    this.origin = origin;
    this.backend = init(this);
    hwpt.users++;
  }

  destroy(): void {
    this.backend.destroy();
    this.hwpt.ioas.context.mmapRegions.removeOwner(this);
    this.hwpt.users--;
  }
}

/** `IOMMU_VIOMMU_ALLOC`. */
export const viommuAlloc = (call: Call, command: IommuCommand<'IOMMU_VIOMMU_ALLOC'>): void => {
  call.checkFlags(command.flags, 0);
  const { context } = call;
  const { type } = command;
  if (type === 0) throw unsupportedType(call, type, 'no driver');
  const { unit, device } = context.find(call.op, command.devId, 'DEVICE');
  const { viommu: ops } = unit;
  if (!ops?.supports(device, type)) throw unsupportedType(call, type, unit.name);
  const hwpt = context.find(call.op, command.hwptId, 'HWPT_PAGING');
  if (!hwpt.nestParent) {
    throw call.refuse('EINVAL', 'nest-parent', `HWPT ${hwpt.id} is no nest parent`, {
      value: hwpt.id,
      accepted: 'a HWPT allocated with IOMMU_HWPT_ALLOC_NEST_PARENT',
    });
  }
  const userData =
    command.dataLen === 0
      ? undefined
      : new RememberedBlob(userBlob(call, command.dataUptr, type, command.dataLen));
  const viommu = context.objects.reserveFor(call.op, (id) => {
    const made = new Viommu(id, type, unit, hwpt, { device, flags: 0, userData }, (self) =>
      ops.init(device, type, hwpt.domain, userData, eventSink(self)),
    );
    try {
      publish(call, made, userData);
    } catch (error) {
      made.destroy();
      throw error;
    }
    return made;
  });
  context.objects.install(viommu);
  command.outViommuId = viommu.id;
  call.undo = () => context.destroyObject(viommu);
};

/** Offer what the driver lets its process map, and tell the process what the driver says. */
const publish = (call: Call, viommu: Viommu, userData: RememberedBlob | undefined): void => {
  const { backend } = viommu;
  if (backend.mmapRegion) {
    call.checkAllocation('the region to map');
    call.checkAllocation('the offset of the region');
    backend.setMmapOffset?.(call.context.mmapRegions.add(viommu, backend.mmapRegion));
  }
  if (userData && backend.outData) userData.copyOut(0, backend.outData);
};
/** Where the driver's events of a vIOMMU go. */
export const eventSink = (viommu: Viommu): VeventSink => ({
  report: (type, data) => report(viommu, type, data),
});

const report = (viommu: Viommu, type: number, data: Uint8Array): boolean => {
  const queue = viommu.veventqs.get(type);
  queue?.report(data);
  return queue !== undefined;
};

const unsupportedType = (call: Call, type: number, owner: string) =>
  call.refuse('EOPNOTSUPP', 'viommu-type', `${owner} offers no vIOMMU of this type`, {
    value: type,
    owner,
    accepted: 'a type that the unit of the device supports, not 0',
  });
