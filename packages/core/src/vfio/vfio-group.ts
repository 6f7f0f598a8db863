/**
 * The VFIO group interface over an iommufd: `/dev/vfio/N`, containers, device descriptors by name.
 *
 * @linux drivers/vfio/group.c
 * @module
 */
import type { IommuGroup } from '../bus/group.ts';
import { compatIoasFor, type IommufdContext, isClaimed } from '../iommufd/index.ts';
import type { Process } from '../memory/index.ts';
import { VFIO_IOCTL } from '../uapi/constants.ts';
import { type FileOperations, filesOf, installFile, OpenFile } from '../uapi/files.ts';
import { copyFromUser, copyToUser } from '../uapi/user-access.ts';
import { openVfioFile, VfioCall } from './vfio-call.ts';
import { contextOf, readBind } from './vfio-cdev.ts';
import type { VfioDevice } from './vfio-device.ts';

const EBUSY = -16;
const ENOTTY = -25;
const STATUS_BYTES = 8;
const STATUS_VIABLE = 1;
const STATUS_CONTAINER_SET = 2;
/** The terminating zero included. */
const MAX_NAME_BYTES = 4096;

const GET_STATUS = 0x3b67;
const SET_CONTAINER = 0x3b68;
const UNSET_CONTAINER = 0x3b69;
const GET_DEVICE_FD = 0x3b6a;

/** A VFIO group: its devices, and whether somebody has it open. */
export class VfioGroup {
  readonly group: IommuGroup;
  readonly devices: VfioDevice[] = [];
  /** A descriptor of the group is open; only one can be. */
  isOpen = false;

  constructor(group: IommuGroup) {
    this.group = group;
  }
}

const GROUPS = new WeakMap<IommuGroup, VfioGroup>();

/** The VFIO group of an IOMMU group, when some device of it is under VFIO. */
export const vfioGroupOf = (group: IommuGroup): VfioGroup | undefined => GROUPS.get(group);

/** Put devices of one IOMMU group under the group interface. */
export const addToVfioGroup = (device: VfioDevice): VfioGroup => {
  const group = GROUPS.get(device.group) ?? new VfioGroup(device.group);
  GROUPS.set(device.group, group);
  group.devices.push(device);
  return group;
};

/** An open group descriptor. */
export class VfioGroupFile implements FileOperations {
  readonly name = 'vfio group';
  readonly group: VfioGroup;
  #context: IommufdContext | undefined;

  /** @param context the container it is in: for a descriptor that a snapshot brings */
  constructor(group: VfioGroup, context?: IommufdContext) {
    this.group = group;
    this.#context = context;
    group.isOpen = true;
  }

  /** The container it is in. */
  get context(): IommufdContext | undefined {
    return this.#context;
  }

  ioctl(process: Process, request: number, argument: number | bigint): number {
    const known = CALLS[request];
    if (!known) return ENOTTY;
    return new VfioCall(process, known).run((call) => this.#serve(call, request, argument));
  }

  release(): void {
    this.group.isOpen = false;
    this.#context?.file.put();
    this.#context = undefined;
  }

  #serve(call: VfioCall, request: number, argument: number | bigint): number {
    if (request === GET_STATUS) return this.#getStatus(call, argument);
    if (request === SET_CONTAINER) return this.#setContainer(call, argument);
    if (request === UNSET_CONTAINER) return this.#unsetContainer(call);
    return this.#getDeviceFd(call, argument);
  }

  #getStatus(call: VfioCall, argument: number | bigint): number {
    const status = new Uint8Array(STATUS_BYTES);
    const view = new DataView(status.buffer);
    if (!copyFromUser(call.process, argument, 0, status)) throw call.fault();
    call.checkSize(view.getUint32(0, true), STATUS_BYTES);
    // A group whose DMA somebody else owns cannot be used.
    const viable = isClaimed(this.group.group) ? 0 : STATUS_VIABLE;
    view.setUint32(4, this.#context ? STATUS_VIABLE | STATUS_CONTAINER_SET : viable, true);
    if (!copyToUser(call.process, argument, 0, status)) throw call.fault();
    return 0;
  }

  #setContainer(call: VfioCall, argument: number | bigint): number {
    const bytes = new Uint8Array(4);
    if (!copyFromUser(call.process, argument, 0, bytes)) throw call.fault();
    const fd = new DataView(bytes.buffer).getInt32(0, true);
    if (fd < 0) throw call.refuse('EINVAL', 'container-fd', `descriptor ${fd}`, { value: fd });
    if (!filesOf(call.process).get(fd)) {
      throw call.refuse('EBADF', 'file-descriptor', `descriptor ${fd} is not open`, { value: fd });
    }
    if (this.#context) {
      throw call.refuse('EINVAL', 'container-set', 'the group has a container already', {
        accepted: 'VFIO_GROUP_UNSET_CONTAINER first',
      });
    }
    const context = contextOf(call, fd);
    compatIoasFor(context, call.op);
    context.file.retain();
    this.#context = context;
    return 0;
  }

  #unsetContainer(call: VfioCall): number {
    this.#needContext(call).file.put();
    this.#context = undefined;
    return 0;
  }

  #getDeviceFd(call: VfioCall, argument: number | bigint): number {
    const name = readName(call, argument);
    const device = this.group.devices.find((known) => known.device.name === name);
    if (!device) {
      throw call.refuse('ENODEV', 'device-name', `no device '${name}' in this group`, {
        value: name,
        accepted: this.group.devices.map((known) => known.device.name).join(', '),
      });
    }
    const context = this.#needContext(call);
    const isFirst = !device.isOpen;
    device.open(call.op, context);
    try {
      if (isFirst) device.attach(call.op, context.compatIoas(call.op).id);
      call.checkAllocation('the state of the descriptor');
      return installFile(call.process, call.op, () => new OpenFile(new VfioDeviceFile(device)));
    } catch (error) {
      device.close();
      throw error;
    }
  }

  #needContext(call: VfioCall): IommufdContext {
    if (this.#context) return this.#context;
    throw call.refuse('EINVAL', 'no-container', 'the group has no container', {
      accepted: 'VFIO_GROUP_SET_CONTAINER first',
    });
  }
}

const CALLS: Readonly<Record<number, string>> = {
  [GET_STATUS]: 'VFIO_GROUP_GET_STATUS',
  [SET_CONTAINER]: 'VFIO_GROUP_SET_CONTAINER',
  [UNSET_CONTAINER]: 'VFIO_GROUP_UNSET_CONTAINER',
  [GET_DEVICE_FD]: 'VFIO_GROUP_GET_DEVICE_FD',
};

/** A device descriptor that came from a group: attached by its container. */
export class VfioDeviceFile implements FileOperations {
  readonly name = 'vfio device';
  readonly device: VfioDevice;

  constructor(device: VfioDevice) {
    this.device = device;
  }

  ioctl(process: Process, request: number, argument: number | bigint): number {
    if (request === VFIO_IOCTL.DEVICE_BIND_IOMMUFD) return refuseBind(process, argument);
    return this.device.ioctl(process, request, argument);
  }

  release(): void {
    this.device.close();
  }
}

/** Only a cdev is bound: a descriptor from a group belongs to the group's container. */
const refuseBind = (process: Process, argument: number | bigint): number =>
  new VfioCall(process, 'VFIO_DEVICE_BIND_IOMMUFD').run((call) => {
    readBind(call, argument);
    throw call.refuse('EINVAL', 'group-device', 'the descriptor came from a group', {
      accepted: 'a descriptor of /dev/vfio/devices/vfioN',
    });
  });

/** A device name as a C string. */
const readName = (call: VfioCall, argument: number | bigint): string => {
  let name = '';
  const byte = new Uint8Array(1);
  for (let at = 0; at < MAX_NAME_BYTES; at++) {
    if (!copyFromUser(call.process, argument, at, byte)) throw call.fault();
    if (byte[0] === 0) return name;
    name += String.fromCharCode(byte[0] as number);
  }
  throw call.refuse('EINVAL', 'device-name', 'the name does not end', {
    accepted: `at most ${MAX_NAME_BYTES} bytes`,
  });
};

/**
 * Open a group.
 *
 * @returns the descriptor; -16 (EBUSY) when the group is open or a device of it is bound through
 *   its cdev (devices that an earlier descriptor of the group opened are no obstacle); -12 (ENOMEM)
 */
export const openVfioGroup = (process: Process, group: VfioGroup): number => {
  if (group.isOpen || group.devices.some((device) => device.isCdevBound)) return EBUSY;
  return openVfioFile(process, 'open VFIO group', () => new VfioGroupFile(group));
};
