/**
 * Attach, replace and detach: which HWPT translates for a device, per PASID.
 *
 * @linux drivers/iommu/iommufd/device.c iommufd_hw_pagetable_attach, iommufd_device_do_replace
 * @module
 */

import type { Errno } from '../errno.ts';
import { isIommuError, type Refusal, refuse } from '../errors.ts';
import { checkAllocation } from '../memory/index.ts';
import { leaveHandle, setDomain, switchDomain } from './attach-switch.ts';
import type { IommufdDevice } from './device.ts';
import { type Attachment, RID_PASID } from './group.ts';
import { abortHwpt, type Hwpt, type HwptPaging, pagingOf, putHwpt } from './hwpt.ts';
import { allocPagingHwpt } from './hwpt-alloc.ts';
import { Ioas } from './ioas.ts';

/** Attach a HWPT where nothing is, or put one in the place of another. */
export type AttachMode = 'attach' | 'replace';

/** The refusal of an attachment. */
const no = (
  op: string,
  code: Errno,
  rule: string,
  message: string,
  details?: Omit<Refusal, 'rule' | 'message'>,
) => refuse(code, op, rule, message, details);

/**
 * Attach a device to an IOAS or HWPT.
 *
 * @param pasid {@link RID_PASID} or 1 to 2^20 - 1
 * @param ptId object id of an IOAS (an automatic HWPT is found or made) or HWPT
 * @returns object id of the HWPT
 */
export const changePageTable = (
  op: string,
  device: IommufdDevice,
  pasid: number,
  ptId: number,
  mode: AttachMode,
): number => {
  const { context } = device;
  const target = context.objects.get(ptId);
  if (target instanceof Ioas) return attachToIoas(op, device, pasid, target, mode);
  if (target?.kind === 'HWPT_PAGING' || target?.kind === 'HWPT_NESTED') {
    const old = attachHwpt(op, device, pasid, target as Hwpt, mode);
    if (old) putHwpt(old);
    return ptId;
  }
  if (!target) throw context.objects.missing(op, ptId, ['IOAS', 'HWPT_PAGING', 'HWPT_NESTED']);
  throw no(op, 'EINVAL', 'attach-target', `object ${ptId} is a ${target.kind}`, {
    value: ptId,
    accepted: 'the id of an IOAS or a HWPT',
  });
};

/** Try the automatic HWPTs of an IOAS in the order they were made, then make one. */
const attachToIoas = (
  op: string,
  device: IommufdDevice,
  pasid: number,
  ioas: Ioas,
  mode: AttachMode,
): number => {
  for (const hwpt of ioas.hwpts) {
    if (!hwpt.autoDomain) continue;
    try {
      const old = attachHwpt(op, device, pasid, hwpt, mode);
      if (old) putHwpt(old);
      return hwpt.id;
    } catch (error) {
      if (!isIommuError(error) || error.code !== 'EINVAL') throw error;
    }
  }
  const { objects } = device.context;
  let old: Hwpt | undefined;
  let hwpt: HwptPaging;
  if (mode === 'attach') {
    hwpt = allocPagingHwpt(op, device, ioas, { flags: 0 }, (made) => {
      attachHwpt(op, device, pasid, made, mode);
      return () => detachFrom(device, pasid);
    });
  } else {
    hwpt = allocPagingHwpt(op, device, ioas, { flags: 0 });
    try {
      old = attachHwpt(op, device, pasid, hwpt, mode);
    } catch (error) {
      abortHwpt(hwpt);
      throw error;
    }
  }
  hwpt.autoDomain = true;
  objects.install(hwpt);
  if (old) putHwpt(old);
  return hwpt.id;
};

/**
 * Attach a device to a HWPT that exists.
 *
 * @returns the HWPT that was replaced, still counted once
 */
const attachHwpt = (
  op: string,
  device: IommufdDevice,
  pasid: number,
  hwpt: Hwpt,
  mode: AttachMode,
): Hwpt | undefined =>
  mode === 'attach' ? attachFirst(op, device, pasid, hwpt) : replaceHwpt(op, device, pasid, hwpt);

const attachFirst = (op: string, device: IommufdDevice, pasid: number, hwpt: Hwpt): undefined => {
  const { attachments } = device.group;
  const attachment = attachments.get(pasid);
  if (attachment?.devices.has(device.id)) {
    throw no(op, 'EBUSY', 'attached', `${device.device.name} is attached already`, {
      owner: `HWPT ${attachment.handle.hwpt.id}`,
      accepted: 'detach first, or replace',
    });
  }
  if (attachment && attachment.handle.hwpt !== hwpt) {
    throw no(op, 'EINVAL', 'group-hwpt', 'another device of the group is attached elsewhere', {
      value: hwpt.id,
      accepted: `HWPT ${attachment.handle.hwpt.id}`,
    });
  }
  checkAttachment(op, device, attachment !== undefined);
  const paging = pasid === RID_PASID ? pagingOf(hwpt) : undefined;
  paging?.ioas.reserveFor(op, device);
  try {
    if (!attachment) {
      const handle = { hwpt, pasid };
      setDomain(op, device, handle, undefined);
      attachments.set(pasid, { handle, devices: new Map([[device.id, device]]) });
    } else attachment.devices.set(device.id, device);
  } catch (error) {
    paging?.ioas.unreserveFor(device);
    throw error;
  }
  hwpt.users++;
  return undefined;
};

/** Memory for a device in the list of an attachment, and for the attachment itself. */
const checkAttachment = (op: string, { context }: IommufdDevice, exists: boolean): void => {
  const { memory } = context.machine;
  if (!exists) {
    checkAllocation(memory, op, 'an attachment');
    checkAllocation(memory, op, 'the list of attachments');
  }
  checkAllocation(memory, op, 'the list of devices');
};

const replaceHwpt = (
  op: string,
  device: IommufdDevice,
  pasid: number,
  hwpt: Hwpt,
): Hwpt | undefined => {
  const attachment = device.group.attachments.get(pasid);
  if (!attachment?.devices.has(device.id)) {
    throw no(op, 'EINVAL', 'not-attached', `${device.device.name} has nothing to replace`, {
      accepted: 'attach first',
    });
  }
  const old = attachment.handle.hwpt;
  if (old === hwpt) return undefined;
  const undoReserve = pasid === RID_PASID ? reserveAll(op, attachment, hwpt, old) : () => {};
  const handle = { hwpt, pasid };
  try {
    setDomain(op, device, handle, attachment.handle);
  } catch (error) {
    undoReserve();
    throw error;
  }
  if (pasid === RID_PASID) unreserveAll(attachment, hwpt, old);
  attachment.handle = handle;
  hwpt.users += attachment.devices.size;
  old.users -= attachment.devices.size - 1;
  return old;
};

/** Reserve the regions of every attached device in the new IOAS, when it is another one. */
const reserveAll = (op: string, attachment: Attachment, hwpt: Hwpt, old: Hwpt): (() => void) => {
  const ioas = pagingOf(hwpt).ioas;
  if (pagingOf(old).ioas === ioas) return () => {};
  const done: IommufdDevice[] = [];
  const undo = () => {
    for (const device of done) ioas.unreserveFor(device);
  };
  try {
    for (const device of attachment.devices.values()) {
      ioas.reserveFor(op, device);
      done.push(device);
    }
  } catch (error) {
    undo();
    throw error;
  }
  return undo;
};

const unreserveAll = (attachment: Attachment, hwpt: Hwpt, old: Hwpt): void => {
  const ioas = pagingOf(old).ioas;
  if (pagingOf(hwpt).ioas === ioas) return;
  for (const device of attachment.devices.values()) ioas.unreserveFor(device);
};

/** Detach a device; silent when it is not attached. Automatic HWPTs go with their last device. */
export const detachDevice = (device: IommufdDevice, pasid: number): void => {
  const hwpt = detachFrom(device, pasid);
  if (hwpt) putHwpt(hwpt);
};

const detachFrom = (device: IommufdDevice, pasid: number): Hwpt | undefined => {
  const { attachments } = device.group;
  const attachment = attachments.get(pasid);
  if (!attachment?.devices.delete(device.id)) return undefined;
  const { handle } = attachment;
  if (attachment.devices.size === 0) {
    attachments.delete(pasid);
    switchDomain(device, pasid, device.unit.blocking);
    leaveHandle(device, handle);
  }
  if (pasid === RID_PASID) pagingOf(handle.hwpt).ioas.unreserveFor(device);
  return handle.hwpt;
};
