/**
 * Descriptors of devices that were opened through their group.
 *
 * @linux drivers/vfio/vfio_main.c
 * @module
 */
import { filesOf, OpenFile, type Process, type VfioDevice } from '@iommukit/core';

/** How often a device is open through its group; the last close undoes what the first open did. */
export class OpenedDevice {
  readonly device: VfioDevice;
  readonly #close: () => void;
  #descriptors = 0;

  /** @param close called when the last descriptor is gone */
  constructor(device: VfioDevice, close: () => void) {
    this.device = device;
    this.#close = close;
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

/** One descriptor of a device. Its calls are those of core's `VfioDevice`. */
export class VfioDeviceFile {
  readonly process: Process;
  readonly fd: number;
  readonly file: OpenFile;
  /** The device under VFIO; `device.device` is what sits on the bus. */
  readonly device: VfioDevice;

  constructor(process: Process, opened: OpenedDevice) {
    this.process = process;
    this.device = opened.device;
    opened.retain();
    this.file = new OpenFile({
      name: 'VFIO device',
      ioctl: (caller, request, argument) => this.device.ioctl(caller, request, argument),
      release: () => opened.put(),
    });
    this.fd = filesOf(process).install(this.file);
  }

  /** A raw ioctl: 0 or more, or a negative errno. */
  ioctl(request: number, argument: number | bigint, process: Process = this.process): number {
    return this.device.ioctl(process, request >>> 0, argument);
  }

  /** Close the descriptor. */
  close(): void {
    filesOf(this.process).close(this.fd);
  }
}
