/** A guest with nested translation: its memory, its tables, its device. */
import { readFileSync } from 'node:fs';
import {
  createMachine,
  createProcess,
  type Endpoint,
  MAP_FLAG,
  type Machine,
  type Process,
  VFIO_EXTENSION,
  VM_PROT,
} from '@iommukit/core';
import { vtd } from '@iommukit/driver-vtd';
import {
  openVfioContainer,
  openVfioGroup,
  type Type1NestingOptions,
  type1Nesting,
  type VfioContainer,
  type VfioGroupFile,
} from '../../src/index.ts';

interface Vectors {
  readonly guestMemory: Readonly<Record<string, string>>;
  readonly walks: readonly {
    readonly name: string;
    readonly format: string;
    readonly root: string;
    readonly va: string;
    readonly gpa?: string;
    readonly fault?: string;
  }[];
  readonly abi: Readonly<Record<string, { readonly nr?: string; readonly bytes: string }>>;
}

/** Walks and byte strings that were computed without this package. */
export const VECTORS = JSON.parse(
  readFileSync(new URL('../data/legacy-vectors.json', import.meta.url), 'utf8'),
) as Vectors;

/** Guest RAM starts here in the program that runs the guest. */
export const GUEST = 0x4000_0000;
const GUEST_BYTES = 2 ** 20;
/** A page of that program for structs. */
export const SCRATCH = 0x7000_0000;

/** A guest, and the container of its device. */
export interface Guest {
  readonly machine: Machine;
  readonly device: Endpoint;
  readonly vmm: Process;
  readonly container: VfioContainer;
  readonly group: VfioGroupFile;
}

/** Write one table entry (or anything of 64 bits) into guest memory. */
export const writeGuest = ({ vmm }: Pick<Guest, 'vmm'>, gpa: number, value: bigint): void => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  vmm.poke(GUEST + gpa, bytes);
};

/** Guest memory says at each multiple of 16 what its address is, beside the tables. */
const fillGuest = (vmm: Process): void => {
  const bytes = new Uint8Array(0x10000);
  const view = new DataView(bytes.buffer);
  for (let gpa = 0; gpa < bytes.length; gpa += 4) view.setUint32(gpa, gpa, true);
  vmm.poke(GUEST, bytes);
  for (const [gpa, value] of Object.entries(VECTORS.guestMemory)) {
    writeGuest({ vmm }, Number(gpa), BigInt(value));
  }
};

/** A program with guest memory in it. */
export const createVmm = (machine: Machine): Process => {
  const vmm = createProcess(machine);
  const prot = VM_PROT.READ | VM_PROT.WRITE;
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  vmm.mmap({ addr: GUEST, length: GUEST_BYTES, prot, flags });
  vmm.mmap({ addr: SCRATCH, length: 4096, prot, flags });
  fillGuest(vmm);
  return vmm;
};

/** Open a container of the dialect for a device, with all guest memory mapped at GPA. */
export const openContainer = (
  machine: Machine,
  device: Endpoint,
  vmm: Process,
  options: Partial<Type1NestingOptions> = {},
): Pick<Guest, 'container' | 'group'> => {
  const drivers = [type1Nesting({ dialect: 'liu-v7', ...options })];
  const container = openVfioContainer(vmm, machine, { drivers });
  const group = openVfioGroup(vmm, machine, device.group);
  group.setContainer(container);
  container.setIommu(VFIO_EXTENSION.TYPE1_NESTING_IOMMU);
  container.iommuMapDma({ flags: 3, vaddr: GUEST, iova: 0, size: GUEST_BYTES });
  return { container, group };
};

/** A guest with one device that has 20 bits of PASID. */
export const createGuest = (options: Partial<Type1NestingOptions> = {}): Guest => {
  const machine = createMachine({ ramBytes: 16 * 2 ** 20 });
  const device = machine.addEndpoint({ rid: '00:05.0', name: '0000:00:05.0', pasidBits: 20 });
  machine.addUnit(vtd());
  const vmm = createVmm(machine);
  return { machine, device, vmm, ...openContainer(machine, device, vmm, options) };
};

/** The guest physical address that a device reads from, or 'fault'. */
export const dma = ({ device }: Pick<Guest, 'device'>, address: number, pasid?: number) => {
  const bytes = new Uint8Array(4);
  const options = pasid === undefined ? {} : { pasid };
  if (device.dmaRead(address, bytes, options) < 4) return 'fault';
  return new DataView(bytes.buffer).getUint32(0, true);
};

/** A raw call with a byte string of the vectors. */
export const raw = (
  { container, vmm }: Pick<Guest, 'container' | 'vmm'>,
  nr: number,
  hex: string,
) => {
  vmm.poke(SCRATCH, Buffer.from(hex, 'hex'));
  return container.ioctl(nr, SCRATCH);
};
