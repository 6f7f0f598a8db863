/**
 * A device under a VFIO driver: who has it open, and what its descriptor answers.
 *
 * @linux drivers/vfio/vfio_main.c, iommufd.c
 * @module
 */
import type { IommuGroup } from '../bus/group.ts';
import { refuse } from '../errors.ts';
import {
  type BusDevice,
  bindDevice,
  changePageTable,
  detachDevice,
  type IommufdContext,
  type IommufdDevice,
  unbindDevice,
} from '../iommufd/index.ts';
import type { Process } from '../memory/index.ts';
import { VFIO_IOCTL } from '../uapi/constants.ts';
import {
  flagsOf,
  getDeviceInfo,
  getIrqInfo,
  getRegionInfo,
  VFIO_DEVICE_FLAG,
  type VfioDeviceInfo,
} from './device-info.ts';
import { VfioCall } from './vfio-call.ts';

const RID_PASID = 0;
const ENOTTY = -25;

/** How a device is put under VFIO. */
export interface VfioDeviceOptions extends VfioDeviceInfo {
  /** Serves device ioctls other than GET_INFO; undefined = core's answer, ENOTTY where it has none. */
  ioctl?(process: Process, request: number, argument: number | bigint): number | undefined;
  /** The device was reset: put the program's own state of it back to the start. */
  onReset?(): void;
}

/** A device under VFIO. At most one context has it at a time. */
export class VfioDevice {
  readonly device: BusDevice;
  readonly #options: VfioDeviceOptions;
  /** Descriptors that have it open: one cdev, or any number from its group. */
  #opens = 0;
  #bound: IommufdDevice | undefined;
  /** PASIDs that are attached; attaching again replaces. */
  readonly #pasids = new Set<number>();

  constructor(device: BusDevice, options: VfioDeviceOptions = {}) {
    this.device = device;
    this.#options = options;
  }

  /** The IOMMU group. */
  get group(): IommuGroup {
    return this.device.group;
  }

  /** Bound through its own character device: its group cannot be opened then. */
  isCdevBound = false;

  /** Whether some descriptor is bound to an iommufd. */
  get isOpen(): boolean {
    return this.#opens > 0;
  }

  /** The binding, while some descriptor has the device open. */
  get bound(): IommufdDevice | undefined {
    return this.#bound;
  }

  /** Open files and PASIDs, for a snapshot. */
  save(): { readonly opens: number; readonly pasids: readonly number[] } {
    return { opens: this.#opens, pasids: [...this.#pasids] };
  }

  /** Put a state back. */
  load(opens: number, bound: IommufdDevice | undefined, pasids: readonly number[]): void {
    this.#opens = opens;
    this.#bound = bound;
    this.#pasids.clear();
    for (const pasid of pasids) this.#pasids.add(pasid);
  }

  /**
   * Open it for a context; the first one binds. Every open needs one {@link VfioDevice.close}.
   *
   * @returns the device's object id
   * @throws {IommuError} what binding says: ENODEV, EINVAL, EPERM
   */
  open(op: string, context: IommufdContext): IommufdDevice {
    this.#bound ??= bindDevice(context, op, this.device);
    if (this.#opens === 0) context.file.retain();
    this.#opens++;
    return this.#bound;
  }

  /** Close; the last one detaches and unbinds. */
  close(): void {
    const bound = this.#bound;
    if (--this.#opens > 0 || !bound) return;
    this.#bound = undefined;
    this.isCdevBound = false;
    this.#pasids.clear();
    unbindDevice(bound);
    bound.context.file.put();
  }

  /**
   * Attach, or replace what is attached.
   *
   * @param pasid 0 = without PASID
   * @returns id of the HWPT
   */
  attach(op: string, ptId: number, pasid: number = RID_PASID): number {
    const bound = this.#bound as IommufdDevice;
    const attached =
      pasid === RID_PASID
        ? (bound.group.attachments.get(RID_PASID)?.devices.has(bound.id) ?? false)
        : this.#pasids.has(pasid);
    const hwptId = changePageTable(op, bound, pasid, ptId, attached ? 'replace' : 'attach');
    if (pasid !== RID_PASID) this.#pasids.add(pasid);
    return hwptId;
  }

  /** Detach; nothing happens when it is not attached. */
  detach(pasid: number = RID_PASID): void {
    if (pasid !== RID_PASID && !this.#pasids.delete(pasid)) return;
    if (this.#bound) detachDevice(this.#bound, pasid);
  }

  /**
   * Reset the device: what it has cached and asked for is gone, its attachments stay.
   *
   * @throws {IommuError} EINVAL when its flags do not say that it can be reset
   */
  reset(op = 'VFIO_DEVICE_RESET'): void {
    const flags = flagsOf(this.#options);
    if ((flags & VFIO_DEVICE_FLAG.RESET) === 0) {
      throw refuse('EINVAL', op, 'vfio-reset', `${this.device.name} cannot be reset`, {
        value: flags,
        accepted: 'a device whose flags have VFIO_DEVICE_FLAGS_RESET',
      });
    }
    const { rid } = this.device;
    this.#bound?.faults.forget();
    this.#bound?.context.machine.endpoint(rid)?.reset();
    this.#options.onReset?.();
  }

  /** ioctls of an open device that do not concern its IOMMU. */
  ioctl(process: Process, request: number, argument: number | bigint): number {
    const serve = (name: string, run: (call: VfioCall) => void) =>
      new VfioCall(process, name).run((call) => {
        run(call);
        return 0;
      });
    const info = this.#options;
    if (request === VFIO_IOCTL.DEVICE_GET_INFO) {
      return serve('VFIO_DEVICE_GET_INFO', (call) => getDeviceInfo(call, argument, info));
    }
    const own = info.ioctl?.(process, request, argument);
    if (own !== undefined) return own;
    switch (request) {
      case VFIO_IOCTL.DEVICE_GET_REGION_INFO:
        return serve('VFIO_DEVICE_GET_REGION_INFO', (call) => getRegionInfo(call, argument, info));
      case VFIO_IOCTL.DEVICE_GET_IRQ_INFO:
        return serve('VFIO_DEVICE_GET_IRQ_INFO', (call) => getIrqInfo(call, argument, info));
      case VFIO_IOCTL.DEVICE_RESET:
        return serve('VFIO_DEVICE_RESET', (call) => this.reset(call.op));
      default:
        return ENOTTY;
    }
  }
}
