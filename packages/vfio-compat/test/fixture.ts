/** A small computer with a container on it, and a program's memory. */
import {
  createMachine,
  createProcess,
  type Endpoint,
  isIommuError,
  MAP_FLAG,
  type Machine,
  type Process,
  type ProcessOptions,
  VFIO_EXTENSION,
  VM_PROT,
} from '@iommukit/core';
import { vtd } from '@iommukit/driver-vtd';
import {
  openVfioContainer,
  openVfioGroup,
  type Type1Options,
  type1,
  type VfioContainer,
  type VfioGroupFile,
} from '../src/index.ts';

/** First byte of 64 pages of user memory. */
export const MEMORY = 0x1_0000_0000;
/** 16 pages that can only be read. */
export const READ_ONLY = 0x1_1000_0000;
/** Nothing is mapped here. */
export const HOLE = 0x1_4000_0000;
/** 16 pages for structs. */
export const SCRATCH = 0x2_0000_0000;
/** Bytes of a page. */
export const PAGE = 4096;

const MAPPED = [
  { addr: MEMORY, pages: 64, prot: VM_PROT.READ | VM_PROT.WRITE },
  { addr: READ_ONLY, pages: 16, prot: VM_PROT.READ },
  { addr: SCRATCH, pages: 16, prot: VM_PROT.READ | VM_PROT.WRITE },
];

/** A program with the memory above. */
export const createProgram = (machine: Machine, options?: ProcessOptions): Process => {
  const process = createProcess(machine, options);
  for (const { addr, pages, prot } of MAPPED) {
    const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
    process.mmap({ addr, length: pages * PAGE, prot, flags });
  }
  return process;
};

/** Three devices, two of them in one group, under a legacy VT-d unit. */
export const createComputer = (): {
  readonly machine: Machine;
  readonly nic: Endpoint;
  readonly disk: Endpoint;
  readonly twin: Endpoint;
} => {
  const machine = createMachine({ ramBytes: 16 * 2 ** 20 });
  const nic = machine.addEndpoint({ rid: '00:05.0', name: '0000:00:05.0' });
  const disk = machine.addEndpoint({ rid: '02:01.0', name: '0000:02:01.0', group: 'bridge' });
  const twin = machine.addEndpoint({ rid: '02:02.0', name: '0000:02:02.0', group: 'bridge' });
  machine.addUnit(vtd({ scalable: false }));
  return { machine, nic, disk, twin };
};

/** What a test of one container needs. */
export interface Fixture {
  readonly machine: Machine;
  readonly nic: Endpoint;
  readonly disk: Endpoint;
  readonly twin: Endpoint;
  readonly process: Process;
  readonly container: VfioContainer;
  /** The group of `nic`, in the container. */
  readonly group: VfioGroupFile;
}

/** A container with `nic`'s group in it and its IOMMU set. */
export const openFixture = (
  type: number = VFIO_EXTENSION.TYPE1v2_IOMMU,
  options: Type1Options & ProcessOptions = {},
): Fixture => {
  const computer = createComputer();
  const { machine, nic } = computer;
  const process = createProgram(machine, options);
  const container = openVfioContainer(process, machine, { drivers: [type1(options)] });
  const group = openVfioGroup(process, machine, nic.group);
  group.setContainer(container);
  container.setIommu(type);
  return { ...computer, process, container, group };
};

/** `'EINVAL iova-reserved'` of a refused call, `'ok'` of any other. */
export const refusalOf = (call: () => unknown): string => {
  try {
    call();
    return 'ok';
  } catch (error) {
    if (!isIommuError(error)) throw error;
    return `${error.code} ${error.reason.rule}`;
  }
};
