import {
  createMachine,
  createProcess,
  type Endpoint,
  MAP_FLAG,
  type Machine,
  type Process,
} from '@iommukit/core';
import { vtd } from '@iommukit/driver-vtd';

/** Where guest RAM is in the VMM, and its bytes. */
export const GUEST = { HVA: 0x4000_0000, BYTES: 2 ** 24 } as const;
/** A page of the VMM for structs. */
const SCRATCH = 0x7000_0000;

/** A host with a nesting VT-d unit and one device, and a VMM with a guest in it. */
export class Platform {
  readonly machine: Machine = createMachine();
  readonly device: Endpoint;
  readonly vmm: Process;
  #fault = '';

  constructor() {
    this.device = this.machine.addEndpoint({ rid: '00:05.0', pasidBits: 20 });
    this.machine.addUnit(vtd());
    this.machine.onFault(({ name }) => {
      this.#fault = name;
    });
    this.vmm = createProcess(this.machine);
    const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
    this.vmm.mmap({ addr: GUEST.HVA, length: GUEST.BYTES, flags });
    this.vmm.mmap({ addr: SCRATCH, length: 4096, flags });
  }

  /** Put a struct where an ioctl can find it. */
  passed(bytes: Uint8Array): number {
    this.vmm.write(SCRATCH, bytes);
    return SCRATCH;
  }

  /** What an ioctl left there. */
  answered(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.vmm.read(SCRATCH, bytes);
    return bytes;
  }

  /** The guest writes text into its memory. */
  writeText(gpa: number, text: string): void {
    this.vmm.write(GUEST.HVA + gpa, new TextEncoder().encode(text));
  }

  /** The guest writes an entry of a page table: present, writable, user, accessed, dirty. */
  writeEntry(gpa: number, target: number): void {
    const entry = new DataView(new ArrayBuffer(8));
    entry.setBigUint64(0, BigInt(target) | 0x67n, true);
    this.vmm.write(GUEST.HVA + gpa, new Uint8Array(entry.buffer));
  }

  /** The device reads six bytes; the text, or why it was blocked. */
  deviceReads(address: number, pasid?: number): string {
    const bytes = new Uint8Array(6);
    const read = this.device.dmaRead(address, bytes, pasid === undefined ? {} : { pasid });
    return read === 6 ? new TextDecoder().decode(bytes) : `blocked, ${this.#fault}`;
  }
}
