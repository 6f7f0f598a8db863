/**
 * Who owns the DMA of a group.
 * @module
 */
import {
  createProcess,
  IommufdContext,
  isIommuError,
  type Machine,
  type VfioGroup,
} from '@iommukit/core';

/**
 * Whether an iommufd (not through this group) has devices of a group bound. Found out by binding
 * one, which the owner would not let happen, and unbinding it at once.
 */
export const isOwnedByOthers = (machine: Machine, { devices }: VfioGroup): boolean => {
  const [device] = devices;
  if (!device) return false;
  const context = new IommufdContext(createProcess(machine), machine);
  try {
    context.unbindDevice(context.bindDevice(device.device));
    return false;
  } catch (error) {
    if (!isIommuError(error)) throw error;
    return error.code === 'EPERM';
  } finally {
    context.close();
  }
};
