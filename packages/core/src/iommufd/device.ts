/**
 * Devices bound to a context.
 *
 * @linux drivers/iommu/iommufd/device.c
 * @module
 */
import type { IommuGroup } from '../bus/group.ts';
import type { IommuUnit, UnitDevice } from '../driver/contract.ts';
import { refuse } from '../errors.ts';
import { checkAllocation } from '../memory/index.ts';
import { HW_CAP, HW_INFO_FLAG } from '../uapi/constants.ts';
import type { IommuCommand } from '../uapi/structs.ts';
import { copyToUser } from '../uapi/user-access.ts';
import { detachDevice } from './attach.ts';
import type { Call } from './call.ts';
import type { IommufdContext } from './context.ts';
import { FaultRouter } from './fault-router.ts';
import { claimGroup, IommufdGroup, releaseGroup } from './group.ts';
import { NOIOMMU_UNIT } from './noiommu-unit.ts';
import type { IommufdObject } from './objects.ts';
import type { Vdevice } from './vdevice.ts';

/** A device on a bus: what a unit knows of it, and its group. */
export type BusDevice = UnitDevice & { readonly group: IommuGroup };

/** A bound device. Whoever bound it holds it: IOMMU_DESTROY answers EBUSY. */
export class IommufdDevice implements IommufdObject {
  readonly kind = 'DEVICE';
  readonly id: number;
  users = 1;
  readonly context: IommufdContext;
  readonly device: BusDevice;
  readonly unit: IommuUnit;
  readonly group: IommufdGroup;
  /** Collects page requests and routes them. */
  readonly faults: FaultRouter;
  vdevice: Vdevice | undefined;

  constructor(
    context: IommufdContext,
    id: number,
    device: BusDevice,
    unit: IommuUnit,
    group: IommufdGroup,
  ) {
    this.context = context;
    this.id = id;
    this.device = device;
    this.unit = unit;
    this.group = group;
    this.faults = new FaultRouter(this);
  }

  /** First PASID number that the device cannot use; 0 = no PASIDs at all. */
  get maxPasids(): number {
    const bits = Math.min(this.device.pasidBits, this.unit.caps.pasidBits);
    return bits === 0 ? 0 : 2 ** bits;
  }

  destroy(): void {
    this.faults.close();
    this.group.members.delete(this);
    leaveGroup(this.context, this.group);
  }
}

/** A context's view of a group, made for its first device. @throws {IommuError} EPERM, ENOMEM */
const joinGroup = (context: IommufdContext, op: string, group: IommuGroup): IommufdGroup => {
  const known = context.groups.get(group);
  if (known) return known;
  checkAllocation(context.machine.memory, op, 'a group');
  claimGroup(op, group, context);
  const made = new IommufdGroup(group);
  context.groups.set(group, made);
  return made;
};

/** Give a group up that has no devices left. */
const leaveGroup = (context: IommufdContext, { group, members }: IommufdGroup): void => {
  if (members.size > 0) return;
  context.groups.delete(group);
  releaseGroup(group);
};

/**
 * Bind a device to a context: from now on nobody else may use its group.
 *
 * @throws {IommuError} ENODEV without an IOMMU; EINVAL when its DMA is not cache coherent; EPERM
 *   when another context owns the group; ENOMEM
 */
export const bindDevice = (
  context: IommufdContext,
  op: string,
  device: BusDevice,
): IommufdDevice => {
  const unit = context.machine.unitOf(device) ?? (context.noiommu ? NOIOMMU_UNIT : undefined);
  if (!unit) {
    throw refuse('ENODEV', op, 'no-iommu', `${device.name} is under no IOMMU`, {
      value: device.rid,
      accepted: 'a device for which Machine.addUnit brought an IOMMU up, or { noiommu: true }',
    });
  }
  if (!unit.caps.cacheCoherent) {
    throw refuse('EINVAL', op, 'cache-coherency', `DMA of ${device.name} is not cache coherent`, {
      owner: unit.name,
      accepted: 'a unit with caps.cacheCoherent',
    });
  }
  const group = joinGroup(context, op, device.group);
  let id: number;
  try {
    id = context.objects.reserve(op);
  } catch (error) {
    leaveGroup(context, group);
    throw error;
  }
  const bound = new IommufdDevice(context, id, device, unit, group);
  group.members.add(bound);
  context.objects.install(bound);
  return bound;
};

/** Unbind: detach from everything; a vDEVICE of it goes too and leaves its id unusable. */
export const unbindDevice = (device: IommufdDevice): void => {
  const { context, group } = device;
  device.vdevice?.bury();
  for (const [pasid, { devices }] of group.attachments) {
    if (devices.has(device.id)) detachDevice(device, pasid);
  }
  device.users--;
  context.destroyObject(device);
};

/** `IOMMU_GET_HW_INFO`. */
export const getHwInfo = (call: Call, command: IommuCommand<'IOMMU_GET_HW_INFO'>): void => {
  call.checkFlags(command.flags, HW_INFO_FLAG.INPUT_TYPE);
  call.checkReserved(command.reserved0 | command.reserved1 | command.reserved2);
  const device = call.context.find(call.op, command.devId, 'DEVICE');
  const { unit, device: busDevice } = device;
  call.checkAllocation('the description');
  const info = unit.hwInfo(busDevice, command.flags === 0 ? 0 : command.dataType);
  const room = command.dataLen;
  const copied = info.data.subarray(0, Math.min(room, info.data.length));
  const ok =
    copyToUser(call.process, command.dataUptr, 0, copied) &&
    clearUser(call, command, copied.length, room);
  if (!ok) throw call.refuse('EFAULT', 'user-memory', 'the data buffer is not writable');
  command.dataLen = info.data.length;
  command.dataType = info.type;
  command.outMaxPasidLog2 = device.maxPasids === 0 ? 0 : Math.log2(device.maxPasids);
  const noAts = busDevice.ats && unit.caps.ats ? 0 : HW_CAP.PCI_ATS_NOT_SUPPORTED;
  command.outCapabilities = BigInt(unit.hwCapabilities(busDevice) | noAts);
};

const CHUNK_BYTES = 4096;

/** Clear the room behind the data, as far as the caller says there is room. */
const clearUser = (
  call: Call,
  command: IommuCommand<'IOMMU_GET_HW_INFO'>,
  from: number,
  to: number,
): boolean => {
  const zeros = new Uint8Array(Math.min(CHUNK_BYTES, to - from));
  for (let at = from; at < to; at += CHUNK_BYTES) {
    const part = zeros.subarray(0, Math.min(CHUNK_BYTES, to - at));
    if (!copyToUser(call.process, command.dataUptr, at, part)) return false;
  }
  return true;
};
