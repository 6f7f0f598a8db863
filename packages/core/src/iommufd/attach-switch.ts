/**
 * Switching the domain behind an attachment: rules for PASIDs, page requests, the whole group.
 *
 * @linux drivers/iommu/iommufd/device.c iommufd_hwpt_attach_device, drivers/iommu/iommu.c
 * @module
 */
import type { Domain } from '../driver/domains.ts';
import { refuse } from '../errors.ts';
import { checkAllocation } from '../memory/index.ts';
import { checkCompatible } from './coherency.ts';
import type { IommufdDevice } from './device.ts';
import { type AttachHandle, RID_PASID } from './group.ts';

/** Make `handle` the attachment in place of `old`; page requests are on before and off after. */
export const setDomain = (
  op: string,
  device: IommufdDevice,
  handle: AttachHandle,
  old: AttachHandle | undefined,
): void => {
  checkPasid(op, device, handle, old !== undefined);
  checkCompatible(op, device, handle.hwpt);
  const { hwpt, pasid } = handle;
  checkAllocation(device.context.machine.memory, op, 'an attach handle');
  if (hwpt.fault) enableFaults(op, device);
  try {
    switchDomain(device, pasid, hwpt.domain, old?.hwpt.domain);
  } catch (error) {
    if (hwpt.fault) device.faults.disable();
    throw error;
  }
  if (old) leaveHandle(device, old);
};

const enableFaults = (op: string, device: IommufdDevice): void =>
  device.faults.enable(() =>
    refuse('ENODEV', op, 'no-pri', `${device.device.name} sends no page requests`, {
      owner: device.unit.name,
      accepted: 'a HWPT without fault queue, or a device and unit with PRI',
    }),
  );

/** An attachment is gone: its faults are answered INVALID, page requests go off. */
export const leaveHandle = (device: IommufdDevice, handle: AttachHandle): void => {
  const { fault } = handle.hwpt;
  if (!fault) return;
  fault.answerAll((group) => group.handle === handle);
  device.faults.disable();
};

/**
 * Let the unit switch every device of the group (one for a PASID), all or none.
 *
 * @linux drivers/iommu/iommu.c __iommu_group_set_domain_internal
 */
export const switchDomain = (
  device: IommufdDevice,
  pasid: number,
  domain: Domain,
  old: Domain = device.unit.blocking,
): void => {
  const targets = pasid === RID_PASID ? groupDevices(device) : [device.device];
  const tag = pasid === RID_PASID ? -1 : pasid;
  targets.forEach((target, index) => {
    try {
      device.unit.attach(target, tag, domain);
    } catch (error) {
      for (const undone of targets.slice(0, index)) device.unit.attach(undone, tag, old);
      throw error;
    }
  });
};

/** Every device of the group that hangs under the same unit, bound or not. */
const groupDevices = ({ context, device, unit, group }: IommufdDevice) => {
  const { machine } = context;
  const others = group.group.rids
    .filter((rid) => rid !== device.rid)
    .map((rid) => machine.endpoint(rid))
    .filter((endpoint) => endpoint !== undefined && machine.unitOf(endpoint) === unit);
  return [device, ...(others as (typeof device)[])];
};

/**
 * PASIDs need a HWPT made for them, on the PASID and on the RID.
 *
 * @linux drivers/iommu/iommufd/device.c iommufd_hwpt_pasid_compat; drivers/iommu/iommu.c
 */
const checkPasid = (
  op: string,
  device: IommufdDevice,
  { hwpt, pasid }: AttachHandle,
  replacing: boolean,
): void => {
  const rid = device.group.hwptAt(RID_PASID);
  const needed = 'a HWPT allocated with IOMMU_HWPT_ALLOC_PASID';
  if (pasid === RID_PASID) {
    if (hwpt.pasidCompat || !device.group.hasPasids) return;
    throw refuse(
      'EINVAL',
      op,
      'pasid-hwpt',
      'PASIDs are attached, and this HWPT is not for PASIDs',
      {
        value: hwpt.id,
        accepted: needed,
      },
    );
  }
  if (!hwpt.pasidCompat || (rid && !rid.pasidCompat)) {
    throw refuse(
      'EINVAL',
      op,
      'pasid-hwpt',
      'the HWPT of the PASID or of the RID is not for PASIDs',
      {
        value: hwpt.pasidCompat ? (rid?.id ?? 0) : hwpt.id,
        accepted: needed,
      },
    );
  }
  if (pasid < device.maxPasids || replacing) return;
  throw refuse('EINVAL', op, 'pasid-width', `${device.device.name} has no PASID ${pasid}`, {
    value: pasid,
    accepted: device.maxPasids === 0 ? 'no PASID' : `1 to ${device.maxPasids - 1}`,
  });
};
