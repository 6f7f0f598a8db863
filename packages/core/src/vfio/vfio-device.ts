/**
 * A device under a VFIO driver: who has it open, and what its descriptor answers.
 *
 * @linux drivers/vfio/vfio_main.c, iommufd.c
 * @module
 */
import type { IommuGroup } from '../bus/group.ts';
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
import { copyFromUser, copyToUser } from '../uapi/user-access.ts';
import { VfioCall } from './vfio-call.ts';

const INFO_BYTES = 24;
const INFO_MIN_BYTES = 16;
const FLAG_PCI = 2;
const PCI_REGIONS = 9;
const PCI_IRQS = 5;
const RID_PASID = 0;

/** What VFIO_DEVICE_GET_INFO says. */
export interface VfioDeviceInfo {
  /** `VFIO_DEVICE_FLAGS_*`; default PCI 2. */
  readonly flags?: number;
  readonly numRegions?: number;
  readonly numIrqs?: number;
}

/** How a device is put under VFIO. */
export interface VfioDeviceOptions extends VfioDeviceInfo {
  /** Serves device ioctls beyond those of core; undefined = ENOTTY. */
  ioctl?(process: Process, request: number, argument: number | bigint): number | undefined;
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

  /** ioctls of an open device that do not concern its IOMMU. */
  ioctl(process: Process, request: number, argument: number | bigint): number {
    if (request === VFIO_IOCTL.DEVICE_GET_INFO) {
      return new VfioCall(process, 'VFIO_DEVICE_GET_INFO').run((call) => {
        this.#getInfo(call, argument);
        return 0;
      });
    }
    return this.#options.ioctl?.(process, request, argument) ?? -25;
  }

  #getInfo(call: VfioCall, argument: number | bigint): void {
    const info = new Uint8Array(INFO_BYTES);
    const head = info.subarray(0, INFO_MIN_BYTES);
    if (!copyFromUser(call.process, argument, 0, head)) throw call.fault();
    const view = new DataView(info.buffer);
    const argsz = view.getUint32(0, true);
    call.checkSize(argsz, INFO_MIN_BYTES);
    const { flags = FLAG_PCI, numRegions = PCI_REGIONS, numIrqs = PCI_IRQS } = this.#options;
    view.setUint32(4, flags, true);
    view.setUint32(8, numRegions, true);
    view.setUint32(12, numIrqs, true);
    const answer = info.subarray(0, Math.min(argsz, INFO_BYTES));
    if (!copyToUser(call.process, argument, 0, answer)) throw call.fault();
  }
}
