/**
 * The objects of a context, one function per kind, as a snapshot holds them.
 * @module
 */

import type { IommuUnit } from '../driver/contract.ts';
import type { PageFault } from '../driver/faults.ts';
import type { Access } from '../iommufd/access.ts';
import { COHERENCY_POLICIES } from '../iommufd/coherency.ts';
import type { IommufdDevice } from '../iommufd/device.ts';
import type { FaultGroup, FaultQueue } from '../iommufd/fault-queue.ts';
import type { HwQueue } from '../iommufd/hw-queue.ts';
import type { DriverRequest, HwptNested, HwptPaging } from '../iommufd/hwpt.ts';
import type { Ioas } from '../iommufd/ioas.ts';
import { NOIOMMU_UNIT } from '../iommufd/noiommu-unit.ts';
import type { IommufdObject } from '../iommufd/objects.ts';
import type { Vdevice } from '../iommufd/vdevice.ts';
import type { Veventq } from '../iommufd/veventq.ts';
import type { Viommu } from '../iommufd/viommu.ts';
import type { IoptPages } from '../iopt/index.ts';
import { ShadowIoas } from '../nesting/software-nesting.ts';
import type { Numbering } from './numbering.ts';
import type {
  FaultGroupState,
  ObjectState,
  OriginState,
  PageFaultState,
  StateOf,
} from './object-state.ts';
import { cannotSave, type SaveGraph } from './save-graph.ts';
import { saveIopt } from './save-iopt.ts';

/** What one object's state needs to know of the rest. */
export interface ObjectScope {
  readonly graph: SaveGraph;
  /** Pages of the context. */
  readonly pages: Numbering<IoptPages>;
}

const unitIndex = ({ graph }: ObjectScope, unit: IommuUnit): number =>
  unit === NOIOMMU_UNIT ? -1 : graph.machine.units.indexOf(unit);

const saveOrigin = ({ device, flags, userData }: DriverRequest): OriginState => {
  const { name, rid, pasidBits, ats, pri } = device;
  return {
    device: { name, rid, pasidBits, ats, pri },
    flags,
    data: userData && { type: userData.type, length: userData.length, bytes: userData.bytes },
  };
};

const saveFault = ({
  pasid,
  grpid,
  perm,
  addressPfn,
  address,
  last,
}: PageFault): PageFaultState => ({
  pasid,
  grpid,
  perm,
  addressPfn,
  address,
  last,
});

const saveGroup = ({ device, pasid, grpid, handle, faults }: FaultGroup): FaultGroupState => ({
  device: device.id,
  pasid,
  grpid,
  handlePasid: handle.pasid,
  faults: faults.map(saveFault),
});

const saveIoas = (ioas: Ioas, { pages }: ObjectScope): StateOf<'IOAS'> => ({
  kind: 'IOAS',
  id: ioas.id,
  users: ioas.users,
  coherency: COHERENCY_POLICIES.indexOf(ioas.coherency),
  iopt: saveIopt(ioas, pages),
  hwpts: ioas.hwpts.map(({ id }) => id),
  shadow:
    ioas instanceof ShadowIoas
      ? { parent: ioas.parent.id, children: [...ioas.children] }
      : undefined,
});

const savePaging = (hwpt: HwptPaging, scope: ObjectScope): StateOf<'HWPT_PAGING'> => ({
  kind: 'HWPT_PAGING',
  id: hwpt.id,
  users: hwpt.users,
  ioas: hwpt.ioas.id,
  unit: unitIndex(scope, hwpt.domain.unit),
  nestParent: hwpt.nestParent,
  pasidCompat: hwpt.pasidCompat,
  autoDomain: hwpt.autoDomain,
  enforceCacheCoherency: hwpt.enforceCacheCoherency,
  dirtyTracking: hwpt.domain.dirty?.enabled ?? false,
  fault: hwpt.fault?.id,
  origin: saveOrigin(hwpt.origin),
});

const saveNested = (hwpt: HwptNested, scope: ObjectScope): StateOf<'HWPT_NESTED'> => ({
  kind: 'HWPT_NESTED',
  id: hwpt.id,
  users: hwpt.users,
  parent: hwpt.parent.id,
  viommu: hwpt.viommu?.id,
  unit: unitIndex(scope, hwpt.domain.unit),
  pasidCompat: hwpt.pasidCompat,
  fault: hwpt.fault?.id,
  origin: saveOrigin(hwpt.origin),
});

const saveDevice = (bound: IommufdDevice, { graph }: ObjectScope): StateOf<'DEVICE'> => {
  const { id, device } = bound;
  if (graph.machine.endpoint(device.rid) !== (device as object)) {
    throw cannotSave('device-gone', `${device.name} is not on the bus`, 'devices on the bus');
  }
  const { users, partial } = bound.faults.save();
  return {
    kind: 'DEVICE',
    id,
    users: bound.users,
    rid: device.rid,
    faultUsers: users,
    partial: partial.map((faults) => ({
      pasid: faults[0]?.pasid ?? -1,
      grpid: faults[0]?.grpid ?? 0,
      faults: faults.map(saveFault),
    })),
  };
};

const saveAccess = (access: Access): StateOf<'ACCESS'> => ({
  kind: 'ACCESS',
  id: access.id,
  users: access.users,
  needsPin: access.needsPin,
  internal: access.handle.internal ?? false,
  ioas: access.ioas?.id,
  unpinFrom: access.unpinFrom?.id,
});

const saveFaultQueue = (queue: FaultQueue): StateOf<'FAULT'> => {
  const { waiting, delivered } = queue.save();
  return {
    kind: 'FAULT',
    id: queue.id,
    users: queue.users,
    waiting: waiting.map(saveGroup),
    delivered: delivered.map((group) => group && saveGroup(group)),
  };
};

const saveViommu = (viommu: Viommu, scope: ObjectScope): StateOf<'VIOMMU'> => ({
  kind: 'VIOMMU',
  id: viommu.id,
  users: viommu.users,
  type: viommu.type,
  unit: unitIndex(scope, viommu.unit),
  hwpt: viommu.hwpt.id,
  origin: saveOrigin(viommu.origin),
});

const saveVdevice = ({ id, users, viommu, device, virtId }: Vdevice): StateOf<'VDEVICE'> => ({
  kind: 'VDEVICE',
  id,
  users,
  viommu: viommu.id,
  device: device.id,
  virtId,
});

const saveVeventq = (queue: Veventq): StateOf<'VEVENTQ'> => {
  const { sequence, events } = queue.save();
  return {
    kind: 'VEVENTQ',
    id: queue.id,
    users: queue.users,
    viommu: queue.viommu.id,
    type: queue.type,
    depth: queue.depth,
    sequence,
    events: events.map(({ flags, sequence: number, data }) => ({ flags, sequence: number, data })),
  };
};

const saveHwQueue = ({ id, users, viommu, access, place }: HwQueue): StateOf<'HW_QUEUE'> => ({
  kind: 'HW_QUEUE',
  id,
  users,
  viommu: viommu.id,
  index: place.index,
  access: access.id,
  type: place.type,
  iova: BigInt(place.iova),
  lengthBytes: place.lengthBytes,
  baseHpa: place.baseHpa,
  start: place.start,
  pinnedBytes: place.pinnedBytes,
});

/** Any object. */
export const saveObject = (object: IommufdObject, scope: ObjectScope): ObjectState => {
  switch (object.kind) {
    case 'IOAS':
      return saveIoas(object as Ioas, scope);
    case 'HWPT_PAGING':
      return savePaging(object as HwptPaging, scope);
    case 'HWPT_NESTED':
      return saveNested(object as HwptNested, scope);
    case 'DEVICE':
      return saveDevice(object as IommufdDevice, scope);
    case 'ACCESS':
      return saveAccess(object as Access);
    case 'FAULT':
      return saveFaultQueue(object as FaultQueue);
    case 'VIOMMU':
      return saveViommu(object as Viommu, scope);
    case 'VDEVICE':
      return saveVdevice(object as Vdevice);
    case 'VEVENTQ':
      return saveVeventq(object as Veventq);
    case 'HW_QUEUE':
      return saveHwQueue(object as HwQueue);
    default: {
      const index = scope.graph.foreignIndex(object, `the ${object.kind} object ${object.id}`);
      return { kind: 'FOREIGN', id: object.id, users: object.users, index };
    }
  }
};
