/**
 * Which function serves which ioctl: the one table that the raw and the typed path share.
 *
 * @linux drivers/iommu/iommufd/main.c iommufd_ioctl_ops
 * @module
 */
import { VFIO_IOAS_OP } from '../uapi/constants.ts';
import type { IommuCommand, IommuCommandName } from '../uapi/structs.ts';
import type { Call } from './call.ts';
import { ioasChangeProcess } from './change-process.ts';
import { getHwInfo } from './device.ts';
import { faultQueueAlloc } from './fault-queue.ts';
import { hwQueueAlloc } from './hw-queue.ts';
import { hwptAlloc } from './hwpt-alloc.ts';
import { hwptGetDirtyBitmap, hwptSetDirtyTracking } from './hwpt-dirty.ts';
import { hwptInvalidate } from './hwpt-invalidate.ts';
import { ioasAlloc, ioasAllowIovas, ioasIovaRanges } from './ioas.ts';
import { ioasCopy, ioasMap, ioasMapFile, ioasUnmap } from './ioas-map.ts';
import { ioasNoiommuGetPa } from './noiommu.ts';
import { option } from './options.ts';
import { vdeviceAlloc } from './vdevice.ts';
import { veventqAlloc } from './veventq.ts';
import { viommuAlloc } from './viommu.ts';

/** Serves one call: reads the command, writes its answer into it, throws a refusal. */
export type Handler<Command> = (call: Call, command: Command) => void;

/** `IOMMU_DESTROY`. */
const destroy: Handler<IommuCommand<'IOMMU_DESTROY'>> = (call, { id }) => {
  const { context } = call;
  call.answers = false;
  const object = context.objects.get(id);
  if (!object) throw context.objects.missing(call.op, id, []);
  if (object.users > 0) {
    throw call.refuse('EBUSY', 'object-users', `the ${object.kind} ${id} is in use`, {
      value: id,
      owner: `${object.users} users`,
      accepted: 'destroy or detach its users first',
    });
  }
  context.destroyObject(object);
};

/** `IOMMU_VFIO_IOAS`: which IOAS the VFIO container calls mean. */
const vfioIoas: Handler<IommuCommand<'IOMMU_VFIO_IOAS'>> = (call, command) => {
  const { context } = call;
  call.checkReserved(command.reserved);
  call.answers = command.op === VFIO_IOAS_OP.GET;
  if (command.op === VFIO_IOAS_OP.GET) command.ioasId = context.compatIoas(call.op).id;
  else if (command.op === VFIO_IOAS_OP.SET) {
    context.vfioIoas = context.find(call.op, command.ioasId, 'IOAS');
  } else if (command.op === VFIO_IOAS_OP.CLEAR) context.vfioIoas = undefined;
  else {
    throw call.refuse('EOPNOTSUPP', 'vfio-ioas-op', `no operation ${command.op}`, {
      value: command.op,
      accepted: 'GET 0, SET 1, CLEAR 2',
    });
  }
};

/** Every public ioctl. */
export const HANDLERS: { readonly [Name in IommuCommandName]: Handler<IommuCommand<Name>> } = {
  IOMMU_DESTROY: destroy,
  IOMMU_IOAS_ALLOC: ioasAlloc,
  IOMMU_IOAS_ALLOW_IOVAS: ioasAllowIovas,
  IOMMU_IOAS_COPY: ioasCopy,
  IOMMU_IOAS_IOVA_RANGES: ioasIovaRanges,
  IOMMU_IOAS_MAP: ioasMap,
  IOMMU_IOAS_UNMAP: ioasUnmap,
  IOMMU_OPTION: option,
  IOMMU_VFIO_IOAS: vfioIoas,
  IOMMU_HWPT_ALLOC: hwptAlloc,
  IOMMU_GET_HW_INFO: getHwInfo,
  IOMMU_HWPT_SET_DIRTY_TRACKING: hwptSetDirtyTracking,
  IOMMU_HWPT_GET_DIRTY_BITMAP: hwptGetDirtyBitmap,
  IOMMU_HWPT_INVALIDATE: hwptInvalidate,
  IOMMU_FAULT_QUEUE_ALLOC: faultQueueAlloc,
  IOMMU_IOAS_MAP_FILE: ioasMapFile,
  IOMMU_VIOMMU_ALLOC: viommuAlloc,
  IOMMU_VDEVICE_ALLOC: vdeviceAlloc,
  IOMMU_IOAS_CHANGE_PROCESS: ioasChangeProcess,
  IOMMU_VEVENTQ_ALLOC: veventqAlloc,
  IOMMU_HW_QUEUE_ALLOC: hwQueueAlloc,
  IOMMU_IOAS_NOIOMMU_GET_PA: ioasNoiommuGetPa,
};
