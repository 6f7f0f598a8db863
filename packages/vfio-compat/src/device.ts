/**
 * VFIO devices opened through a group.
 *
 * @linux drivers/vfio/vfio_main.c, drivers/vfio/iommufd.c
 * @module
 */
import {
  bindDevice,
  changePageTable,
  type Endpoint,
  filesOf,
  type IommuError,
  type IommufdContext,
  OpenFile,
  type Process,
  type UserPointer,
  unbindDevice,
  VFIO_IOCTL,
} from '@iommukit/core';
import { toRawResult, VfioCall } from './call.ts';
import { VFIO_DEVICE_FLAG, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS } from './uapi/constants.ts';
import { encode } from './uapi/struct.ts';
import { VFIO_STRUCTS } from './uapi/structs.ts';

/** `IOMMU_NO_PASID`: the attachment of requests without PASID. */
const RID_PASID = 0;

/** A device while at least one descriptor of it is open. */
export class OpenedDevice {
  readonly endpoint: Endpoint;
  readonly #close: () => void;
  #descriptors = 0;

  /**
   * @param iommufd where the group is in an iommufd, its context: the device is bound and attached
   *   to the compatibility IOAS; in a container the group was attached as a whole
   * @param closed called when the last descriptor is gone
   * @throws {IommuError} what binding or attaching says
   */
  constructor(
    call: VfioCall,
    endpoint: Endpoint,
    iommufd: IommufdContext | undefined,
    closed: () => void,
  ) {
    this.endpoint = endpoint;
    const undo = iommufd ? bindToIommufd(call, endpoint, iommufd) : () => {};
    this.#close = () => {
      undo();
      closed();
    };
  }

  /** One descriptor more. */
  retain(): void {
    this.#descriptors++;
  }

  /** One descriptor less. */
  put(): void {
    if (--this.#descriptors === 0) this.#close();
  }
}

const bindToIommufd = (
  call: VfioCall,
  endpoint: Endpoint,
  context: IommufdContext,
): (() => void) => {
  const device = bindDevice(context, call.op, endpoint);
  try {
    const ioas = context.compatIoas(call.op);
    changePageTable(call.op, device, RID_PASID, ioas.id, 'attach');
  } catch (error) {
    unbindDevice(device);
    throw error;
  }
  return () => unbindDevice(device);
};

/** One descriptor of a device. */
export class VfioDevice {
  readonly process: Process;
  readonly fd: number;
  readonly file: OpenFile;
  /** Why the last raw call was refused. */
  lastRefusal: IommuError | undefined;
  readonly #opened: OpenedDevice;

  constructor(process: Process, opened: OpenedDevice) {
    this.process = process;
    this.#opened = opened;
    opened.retain();
    this.file = new OpenFile({
      name: 'VFIO device',
      ioctl: (caller, request, argument) => this.ioctl(request, argument, caller),
      release: () => opened.put(),
    });
    this.fd = filesOf(process).install(this.file);
  }

  /** The device on its bus, which does the DMA. */
  get endpoint(): Endpoint {
    return this.#opened.endpoint;
  }

  /**
   * A raw ioctl.
   *
   * @returns 0 or more, or a negative errno (`lastRefusal` says why)
   */
  ioctl(request: number, argument: number | bigint, process: Process = this.process): number {
    const { result, refusal } = toRawResult(() => serve(process, request >>> 0, argument));
    this.lastRefusal = refusal;
    return result;
  }

  /** `VFIO_DEVICE_GET_INFO`: a PCI device that cannot be reset. */
  getInfo(): { readonly flags: number; readonly numRegions: number; readonly numIrqs: number } {
    return INFO;
  }

  /** Close the descriptor. */
  close(): void {
    filesOf(this.process).close(this.fd);
  }
}

const INFO = {
  flags: VFIO_DEVICE_FLAG.PCI,
  numRegions: VFIO_PCI_NUM_REGIONS,
  numIrqs: VFIO_PCI_NUM_IRQS,
} as const;

const serve = (process: Process, request: number, argument: UserPointer): number => {
  if (request === VFIO_IOCTL.DEVICE_GET_INFO) {
    return rawInfo(new VfioCall(process, 'VFIO_DEVICE_GET_INFO'), argument);
  }
  throw new VfioCall(process, 'VFIO device ioctl').refuse(
    'ENOTTY',
    'ioctl-number',
    'this device model has no such call',
    { value: request, accepted: 'VFIO_DEVICE_GET_INFO' },
  );
};

const rawInfo = (call: VfioCall, argument: UserPointer): number => {
  const spec = VFIO_STRUCTS.device_info;
  const { argsz } = call.readStruct(spec, argument);
  const bytes = encode(spec, { argsz, ...INFO });
  call.copyOut(argument, 0, bytes.subarray(0, Math.min(argsz, spec.size)));
  return 0;
};
