/**
 * The device's own character device, `/dev/vfio/devices/vfioN`: bound to an iommufd by its user,
 * attached and detached by object id.
 *
 * @linux drivers/vfio/device_cdev.c, vfio_main.c vfio_device_fops_unl_ioctl
 * @module
 */
import type { IommufdContext } from '../iommufd/index.ts';
import type { Process } from '../memory/index.ts';
import { VFIO_IOCTL } from '../uapi/constants.ts';
import { type FileOperations, filesOf } from '../uapi/files.ts';
import { copyFromUser, copyToUser, isZeroedUser } from '../uapi/user-access.ts';
import { openVfioFile, VfioCall } from './vfio-call.ts';
import type { VfioDevice } from './vfio-device.ts';
import { vfioGroupOf } from './vfio-group.ts';

const EINVAL = -22;
const BIND_MIN_BYTES = 16;
const BIND_BYTES = 24;
const BIND_FLAG_TOKEN = 1;
const TOKEN_BYTES = 16;
const ATTACH_MIN_BYTES = 12;
const ATTACH_BYTES = 16;
const DETACH_MIN_BYTES = 8;
const DETACH_BYTES = 12;
const FLAG_PASID = 1;

/** An open cdev. */
export class VfioCdev implements FileOperations {
  readonly name = 'vfio cdev';
  readonly device: VfioDevice;
  #isBound: boolean;

  /** @param isBound whether it is bound already: a descriptor that a snapshot brings */
  constructor(device: VfioDevice, isBound = false) {
    this.device = device;
    this.#isBound = isBound;
  }

  /** Whether it was bound to an iommufd. */
  get isBound(): boolean {
    return this.#isBound;
  }

  ioctl(process: Process, request: number, argument: number | bigint): number {
    if (request === VFIO_IOCTL.DEVICE_BIND_IOMMUFD) {
      return new VfioCall(process, 'VFIO_DEVICE_BIND_IOMMUFD').run((call) =>
        this.#bind(call, argument),
      );
    }
    if (!this.#isBound) return EINVAL;
    if (request === VFIO_IOCTL.DEVICE_ATTACH_IOMMUFD_PT) {
      return new VfioCall(process, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT').run((call) =>
        this.#attach(call, argument),
      );
    }
    if (request === VFIO_IOCTL.DEVICE_DETACH_IOMMUFD_PT) {
      return new VfioCall(process, 'VFIO_DEVICE_DETACH_IOMMUFD_PT').run((call) =>
        this.#detach(call, argument),
      );
    }
    return this.device.ioctl(process, request, argument);
  }

  release(): void {
    if (this.#isBound) this.device.close();
  }

  #bind(call: VfioCall, argument: number | bigint): number {
    const bind = readBind(call, argument);
    const flags = bind.getUint32(4, true);
    const fd = bind.getInt32(8, true);
    call.checkFlags(flags, BIND_FLAG_TOKEN);
    if (fd < 0) throw call.refuse('EINVAL', 'iommufd', `iommufd is ${fd}`, { value: fd });
    if (vfioGroupOf(this.device.group)?.isOpen) {
      throw call.refuse('EBUSY', 'group-open', 'the group of the device is open', {
        accepted: 'close the group descriptor first',
      });
    }
    if (this.#isBound) {
      throw call.refuse('EINVAL', 'cdev-bound', 'this descriptor is bound already');
    }
    checkToken(call, flags, bind.getBigUint64(16, true));
    const context = contextOf(call, fd);
    if (this.device.isOpen) {
      throw call.refuse('EINVAL', 'device-open', 'another descriptor has the device open');
    }
    const bound = this.device.open(call.op, context);
    this.device.isCdevBound = true;
    const id = new Uint8Array(4);
    new DataView(id.buffer).setUint32(0, bound.id, true);
    if (!copyToUser(call.process, argument, 12, id)) {
      this.device.close();
      throw call.fault();
    }
    this.#isBound = true;
    return 0;
  }

  #attach(call: VfioCall, argument: number | bigint): number {
    const attach = readStruct(call, argument, ATTACH_MIN_BYTES, ATTACH_BYTES);
    const pasid = pasidOf(attach, 12);
    const hwptId = this.device.attach(call.op, attach.getUint32(8, true), pasid);
    const id = new Uint8Array(4);
    new DataView(id.buffer).setUint32(0, hwptId, true);
    if (copyToUser(call.process, argument, 8, id)) return 0;
    this.device.detach(pasid);
    throw call.fault();
  }

  #detach(call: VfioCall, argument: number | bigint): number {
    const detach = readStruct(call, argument, DETACH_MIN_BYTES, DETACH_BYTES);
    this.device.detach(pasidOf(detach, 8));
    return 0;
  }
}

/** The struct of a bind call. EFAULT, EINVAL, E2BIG. */
export const readBind = (call: VfioCall, argument: number | bigint): DataView => {
  const head = new Uint8Array(4);
  if (!copyFromUser(call.process, argument, 0, head)) throw call.fault();
  const argsz = new DataView(head.buffer).getUint32(0, true);
  call.checkSize(argsz, BIND_MIN_BYTES);
  if (argsz > BIND_BYTES) {
    const zeroed = isZeroedUser(call.process, argument, BIND_BYTES, argsz - BIND_BYTES);
    if (zeroed < 0) throw call.fault();
    if (zeroed === 0) {
      throw call.refuse('E2BIG', 'vfio-argsz', 'the struct is longer and its tail is not zero', {
        value: argsz,
        accepted: `${BIND_BYTES} bytes, or zeros behind them`,
      });
    }
  }
  const bytes = new Uint8Array(BIND_BYTES);
  const part = bytes.subarray(0, Math.min(argsz, BIND_BYTES));
  if (!copyFromUser(call.process, argument, 0, part)) throw call.fault();
  return new DataView(bytes.buffer);
};

/** A struct whose tail counts only with the PASID flag. */
const readStruct = (
  call: VfioCall,
  argument: number | bigint,
  min: number,
  size: number,
): DataView => {
  const bytes = new Uint8Array(size);
  if (!copyFromUser(call.process, argument, 0, bytes.subarray(0, min))) throw call.fault();
  const view = new DataView(bytes.buffer);
  const argsz = view.getUint32(0, true);
  const flags = view.getUint32(4, true);
  call.checkSize(argsz, min);
  call.checkFlags(flags, FLAG_PASID);
  if ((flags & FLAG_PASID) === 0) return view;
  call.checkSize(argsz, size);
  if (!copyFromUser(call.process, argument, 0, bytes)) throw call.fault();
  return view;
};

const pasidOf = (view: DataView, at: number): number =>
  view.getUint32(4, true) & FLAG_PASID ? view.getUint32(at, true) : 0;

/** No device here is an SR-IOV function that would need a token. */
const checkToken = (call: VfioCall, flags: number, pointer: bigint): void => {
  if ((flags & BIND_FLAG_TOKEN) === 0) return;
  if (!copyFromUser(call.process, pointer, 0, new Uint8Array(TOKEN_BYTES))) throw call.fault();
  throw call.refuse('EINVAL', 'vf-token', 'the device takes no token', {
    value: flags,
    accepted: 'no token flag',
  });
};

/** The context behind a descriptor. EBADF, EBADFD. */
export const contextOf = (call: VfioCall, fd: number): IommufdContext => {
  const operations = filesOf(call.process).get(fd)?.operations;
  if (!operations) {
    throw call.refuse('EBADF', 'file-descriptor', `descriptor ${fd} is not open`, { value: fd });
  }
  if (operations.iommufd) return operations.iommufd;
  throw call.refuse('EBADFD', 'iommufd', `descriptor ${fd} is no iommufd`, {
    value: fd,
    accepted: 'a descriptor of /dev/iommu or of a container that iommufd provides',
  });
};

/** Open a device's cdev; returns the descriptor, or -12 (ENOMEM). */
export const openVfioCdev = (process: Process, device: VfioDevice): number =>
  openVfioFile(process, 'open VFIO cdev', () => new VfioCdev(device));
