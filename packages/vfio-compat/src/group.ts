/**
 * A VFIO group: one open `/dev/vfio/N`, through which a whole IOMMU group is put into a container
 * (or an iommufd) and its devices are opened.
 *
 * @linux drivers/vfio/group.c
 * @module
 */
import {
  compatIoasFor,
  filesOf,
  type IommuError,
  type IommufdContext,
  type IommuGroup,
  type Machine,
  OpenFile,
  type Process,
  type VfioDevice,
  type VfioGroup,
} from '@iommukit/core';
import type { AttachedGroup } from './backend.ts';
import { toRawResult, VfioCall } from './call.ts';
import type { VfioContainer } from './container.ts';
import { OpenedDevice, VfioDeviceFile } from './device.ts';
import { serveGroup } from './group-ioctls.ts';
import { isOwnedByOthers } from './ownership.ts';
import { VFIO_GROUP_FLAG } from './uapi/constants.ts';
import { type GroupTarget, groupTargetOf } from './vfio-files.ts';
import { vfioGroupOf } from './vfio-groups.ts';

/** See the module. Unlike core's group descriptor it takes classic containers too. */
export class VfioGroupFile {
  readonly machine: Machine;
  readonly process: Process;
  readonly vfioGroup: VfioGroup;
  /** The descriptor `process` got. */
  readonly fd: number;
  /** Held by the descriptor, and by every opened device. */
  readonly file: OpenFile;
  /** Why the last raw call was refused. */
  lastRefusal: IommuError | undefined;
  readonly #opened = new Map<VfioDevice, OpenedDevice>();
  #container: { readonly container: VfioContainer; readonly attached: AttachedGroup } | undefined;
  #iommufd: IommufdContext | undefined;

  /** @throws {IommuError} EBUSY when the group, or a device of it by its cdev, is open already */
  constructor(process: Process, machine: Machine, vfioGroup: VfioGroup) {
    const { id } = vfioGroup.group;
    if (vfioGroup.isOpen || vfioGroup.devices.some(({ isOpen }) => isOpen)) {
      throw new VfioCall(process, 'open').refuse(
        'EBUSY',
        'group-open',
        `VFIO group ${id}, or a device of it, is open already`,
        { value: id, accepted: 'one open file per group; close it and its devices first' },
      );
    }
    this.process = process;
    this.machine = machine;
    this.vfioGroup = vfioGroup;
    this.file = new OpenFile({
      name: 'VFIO group',
      ioctl: (caller, request, argument) => this.ioctl(request, argument, caller),
      release: () => this.#release(),
    });
    vfioGroup.isOpen = true;
    this.fd = filesOf(process).install(this.file);
  }

  /** The iommufd that stands in for a container. */
  get iommufd(): IommufdContext | undefined {
    return this.#iommufd;
  }

  /**
   * A raw ioctl.
   *
   * @returns 0 or more, or a negative errno (`lastRefusal` says why)
   */
  ioctl(request: number, argument: number | bigint, process: Process = this.process): number {
    const { result, refusal } = toRawResult(() =>
      serveGroup(this, process, request >>> 0, argument),
    );
    this.lastRefusal = refusal;
    return result;
  }

  /**
   * `VFIO_GROUP_GET_STATUS`.
   *
   * @returns flags: `VIABLE` unless somebody else owns the group's DMA, `CONTAINER_SET`
   */
  getStatus(): { readonly flags: number } {
    if (this.#hasIommu) return { flags: VFIO_GROUP_FLAG.VIABLE | VFIO_GROUP_FLAG.CONTAINER_SET };
    const others = isOwnedByOthers(this.machine, this.vfioGroup);
    return { flags: others ? 0 : VFIO_GROUP_FLAG.VIABLE };
  }

  /**
   * `VFIO_GROUP_SET_CONTAINER`: put the group into a container, or let an iommufd stand in for one.
   *
   * @param target the container or iommufd, or its descriptor
   * @throws {IommuError} EINVAL when the group is in one already, or for a negative descriptor; EBADF
   *   for one that is not open, EBADFD for one that is neither; EPERM when somebody else owns the
   *   group's DMA; ENODEV without an IOMMU; what the container's backend says
   */
  setContainer(target: GroupTarget | number, process: Process = this.process): void {
    const call = new VfioCall(process, 'VFIO_GROUP_SET_CONTAINER');
    const file = typeof target === 'number' ? openFile(call, target) : undefined;
    if (this.#hasIommu) {
      throw call.refuse('EINVAL', 'container-set', 'the group is in a container already', {
        accepted: 'VFIO_GROUP_UNSET_CONTAINER first',
      });
    }
    const object = file ? targetOf(call, file) : (target as GroupTarget);
    if (isContainer(object)) {
      const attached = object.attachGroup(call, (context) => this.#bind(context));
      this.#container = { container: object, attached };
    } else this.#iommufd = joinIommufd(call.op, object);
  }

  /**
   * `VFIO_GROUP_UNSET_CONTAINER`.
   *
   * @throws {IommuError} EINVAL when it is in none; EBUSY while a device is open (not for iommufd)
   */
  unsetContainer(process: Process = this.process): void {
    const call = new VfioCall(process, 'VFIO_GROUP_UNSET_CONTAINER');
    if (!this.#hasIommu) throw this.#notInContainer(call);
    if (this.#container && this.#opened.size > 0) {
      throw call.refuse('EBUSY', 'devices-open', `${this.#opened.size} devices are open`, {
        value: this.#opened.size,
        accepted: 'close the device descriptors first',
      });
    }
    this.#leave();
  }

  /**
   * `VFIO_GROUP_GET_DEVICE_FD`: open a device of the group.
   *
   * @param name as it is on its bus, `'0000:00:05.0'`
   * @throws {IommuError} ENODEV when the group has no such device; EINVAL before the group is in a
   *   container whose IOMMU is set; with an iommufd what binding and attaching say
   */
  getDeviceFd(name: string, process: Process = this.process): VfioDeviceFile {
    const call = new VfioCall(process, 'VFIO_GROUP_GET_DEVICE_FD');
    const { devices, group } = this.vfioGroup;
    const device = devices.find((candidate) => candidate.device.name === name);
    if (!device) {
      throw call.refuse('ENODEV', 'device-name', `group ${group.id} has no device '${name}'`, {
        value: name,
        accepted: devices.map((candidate) => candidate.device.name).join(', '),
      });
    }
    return new VfioDeviceFile(process, this.#opened.get(device) ?? this.#open(call, device));
  }

  /** Close the descriptor. The group stays open while a device of it is. */
  close(): void {
    filesOf(this.process).close(this.fd);
  }

  get #hasIommu(): boolean {
    return this.#container !== undefined || this.#iommufd !== undefined;
  }

  #notInContainer(call: VfioCall): IommuError {
    return call.refuse('EINVAL', 'container-unset', 'the group is in no container', {
      accepted: 'VFIO_GROUP_SET_CONTAINER first',
    });
  }

  /** Bind every device of the IOMMU group: from now on nobody else may use it. All or none. */
  #bind(context: IommufdContext): AttachedGroup {
    const { group } = this.vfioGroup;
    const devIds: number[] = [];
    try {
      for (const rid of group.rids) {
        const endpoint = this.machine.endpoint(rid);
        if (endpoint) devIds.push(context.bindDevice(endpoint));
      }
    } catch (error) {
      for (const devId of devIds) context.unbindDevice(devId);
      throw error;
    }
    return { group, devIds };
  }

  /** First open: in a container the group was attached as a whole, an iommufd takes it now. */
  #open(call: VfioCall, device: VfioDevice): OpenedDevice {
    if (!this.#hasIommu) throw this.#notInContainer(call);
    if (this.#container && !this.#container.container.iommu) {
      throw call.refuse('EINVAL', 'no-iommu', 'the container has no IOMMU yet', {
        accepted: 'VFIO_SET_IOMMU first',
      });
    }
    const undo = this.#iommufd ? openInIommufd(call, device, this.#iommufd) : () => {};
    const opened = new OpenedDevice(device, () => {
      undo();
      this.#opened.delete(device);
      this.file.put();
    });
    this.file.retain();
    this.#opened.set(device, opened);
    return opened;
  }

  #leave(): void {
    this.#container?.container.detachGroup(this.#container.attached);
    this.#container = undefined;
    this.#iommufd?.file.put();
    this.#iommufd = undefined;
  }

  #release(): void {
    this.#leave();
    this.vfioGroup.isOpen = false;
  }
}

const isContainer = (target: GroupTarget): target is VfioContainer => 'attachGroup' in target;

/** @throws {IommuError} EINVAL for a negative descriptor, EBADF */
const openFile = (call: VfioCall, fd: number): OpenFile => {
  const file = fd < 0 ? undefined : filesOf(call.process).get(fd);
  if (file) return file;
  throw call.refuse(fd < 0 ? 'EINVAL' : 'EBADF', 'descriptor', `descriptor ${fd} is not open`, {
    value: fd,
    accepted: 'the descriptor of a container or iommufd',
  });
};

/** @throws {IommuError} EBADFD */
const targetOf = (call: VfioCall, file: OpenFile): GroupTarget => {
  const target = groupTargetOf(file);
  if (target) return target;
  throw call.refuse('EBADFD', 'descriptor', `the descriptor is a ${file.operations.name}`, {
    accepted: 'the descriptor of a container or iommufd',
  });
};

/** Make sure that the iommufd has an IOAS for container calls, and keep it open. */
const joinIommufd = (op: string, context: IommufdContext): IommufdContext => {
  compatIoasFor(context, op);
  context.file.retain();
  return context;
};

const openInIommufd = (
  call: VfioCall,
  device: VfioDevice,
  context: IommufdContext,
): (() => void) => {
  device.open(call.op, context);
  try {
    device.attach(call.op, context.compatIoas(call.op).id);
  } catch (error) {
    device.close();
    throw error;
  }
  return () => device.close();
};

/**
 * Open `/dev/vfio/N`.
 *
 * @param group a VFIO group, or an IOMMU group (`endpoint.group`), whose devices then come under VFIO
 * @throws {IommuError} EBUSY when it, or a device of it by its cdev, is open already
 */
export const openVfioGroup = (
  process: Process,
  machine: Machine,
  group: VfioGroup | IommuGroup,
): VfioGroupFile =>
  new VfioGroupFile(process, machine, 'rids' in group ? vfioGroupOf(machine, group) : group);
