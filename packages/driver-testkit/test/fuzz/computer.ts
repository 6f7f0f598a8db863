/** The computer of a program that calls anything: machine, processes, what they may use, what is left of it. */
import {
  addToVfioGroup,
  createMachine,
  createProcess,
  type Endpoint,
  exitProcess,
  HWPT_ALLOC,
  type IommufdContext,
  isIommuError,
  MAP_FLAG,
  type Machine,
  type ObjectKind,
  openIommufd,
  openVfioCdev,
  PAGE_BYTES,
  type Process,
  sysIoctl,
  VFIO_DEVICE_FLAG,
  VFIO_IOCTL,
  VfioDevice,
  type VfioDeviceOptions,
  type VfioGroup,
  VM_PROT,
} from '@iommukit/core';
import { iommuTest, MOCK_TYPE, mockDriver } from '@iommukit/driver-testkit';
import {
  CallFiller,
  IOVAS,
  MEMORY,
  MEMORY_PAGES,
  READ_ONLY,
  SCRATCH,
  STRUCT_AT,
  STRUCT_BYTES,
} from './fields.ts';
import { Random } from './random.ts';

const RAM_BYTES = 2 ** 21;
const TEST_CMD = 0x3ba0;
const PASID_DEVICE = 4;

/** What every device has: a PCI device that can be reset, one BAR, INTx and MSI-X. */
const DEVICE: VfioDeviceOptions = {
  flags: VFIO_DEVICE_FLAG.PCI | VFIO_DEVICE_FLAG.RESET,
  regions: [{ index: 0, sizeBytes: 0x4000 }],
  irqs: [
    { index: 0, count: 1 },
    { index: 2, count: 8 },
  ],
};

/** A computer with mock devices, and the processes that use it. */
export class Computer {
  readonly random: Random;
  readonly machine: Machine;
  readonly #freeFrames: number;
  readonly contexts: IommufdContext[] = [];
  readonly processes: Process[] = [];
  readonly endpoints: Endpoint[];
  readonly devices: VfioDevice[];
  readonly groups: VfioGroup[];
  readonly fill: CallFiller;
  readonly #noiommu: boolean;
  readonly #ended: Process[] = [];

  constructor(seed: number) {
    this.random = new Random(seed);
    this.fill = new CallFiller(this.random, this.contexts);
    this.#noiommu = seed % 16 === 15;
    this.machine = createMachine({ ramBytes: RAM_BYTES });
    this.#freeFrames = this.machine.memory.freePageCount;
    this.endpoints = [
      ['00:05.0', 'a'],
      ['00:06.0', 'b'],
      ['00:06.1', 'b'],
    ].map(([rid = '', group = '']) =>
      this.machine.addEndpoint({
        rid,
        group,
        name: `dev ${rid}`,
        pasidBits: 20,
        ats: true,
        pri: true,
      }),
    );
    if (!this.#noiommu) this.machine.addUnit(mockDriver());
    this.devices = this.endpoints.map((endpoint) => new VfioDevice(endpoint, DEVICE));
    this.groups = [...new Set(this.devices.map((device) => addToVfioGroup(device)))];
    this.processes.push(this.#newProcess());
    this.open();
    if (!this.random.oneIn(4)) this.#populate();
  }

  /**
   * Give later calls something to name: a mapped IOAS, a bound cdev, a mock device with a nest parent,
   * a vIOMMU, a vDEVICE, a nested HWPT, queues. What is refused is not there.
   */
  #populate(): void {
    const context = this.contexts[0] as IommufdContext;
    const process = this.processes[0] as Process;
    const ioasId = context.ioasAlloc().outIoasId;
    const map = { ioasId, flags: 7, userVa: MEMORY, length: 0x4000 };
    const data = new Uint8Array(8);
    const steps: readonly (() => unknown)[] = [
      () => context.ioasMap({ ...map, iova: IOVAS[0] as bigint }),
      () => {
        const fd = openVfioCdev(process, this.devices[0] as VfioDevice);
        this.#ioctl(process, fd, VFIO_IOCTL.DEVICE_BIND_IOMMUFD, 16, 0, context.fd, 0);
        this.#ioctl(process, fd, VFIO_IOCTL.DEVICE_ATTACH_IOMMUFD_PT, 12, 0, ioasId);
      },
      () => this.#ioctl(process, context.fd, TEST_CMD, 72, 12, ioasId, 0, 0, 0, 0, PASID_DEVICE),
      () => {
        const devId = this.#idOf('DEVICE');
        const flags = HWPT_ALLOC.NEST_PARENT | HWPT_ALLOC.DIRTY_TRACKING | HWPT_ALLOC.PASID;
        const { outHwptId: hwptId } = context.hwptAlloc({ devId, ptId: ioasId, flags });
        const type = MOCK_TYPE.VIOMMU;
        const { outViommuId: viommuId } = context.viommuAlloc({ type, devId, hwptId });
        context.vdeviceAlloc({ viommuId, devId, virtId: 1 });
        context.hwptAlloc({ devId, ptId: viommuId, dataType: MOCK_TYPE.HWPT_DATA, data });
        context.veventqAlloc({ viommuId, type: MOCK_TYPE.VEVENTQ, veventqDepth: 2 });
      },
      () => context.faultQueueAlloc(),
      () => this.#ioctl(process, context.fd, TEST_CMD, 72, 5, ioasId, 0, 0, 1),
    ];
    for (const step of steps) {
      try {
        step();
      } catch (error) {
        if (!isIommuError(error)) throw error;
      }
    }
  }

  /** The newest object of a kind in the first context. */
  #idOf(kind: ObjectKind): number {
    const all = this.contexts[0]?.objects.all() ?? [];
    return all.filter((object) => object.kind === kind).at(-1)?.id ?? 0;
  }

  #ioctl(process: Process, fd: number, request: number, ...words: readonly number[]): number {
    const bytes = new Uint8Array(STRUCT_BYTES);
    bytes.set(new Uint8Array(Uint32Array.from(words).buffer));
    process.poke(STRUCT_AT, bytes);
    return sysIoctl(process, fd, request, STRUCT_AT);
  }

  /** One process exits. */
  end(process: Process): void {
    this.processes.splice(this.processes.indexOf(process), 1);
    exitProcess(process);
    this.#ended.push(process);
  }

  /** End all processes, in any order: nothing may be left. @returns what is left, for people */
  close(): string[] {
    while (this.processes.length > 0) {
      this.end(this.random.pick(this.processes));
    }
    const { memory } = this.machine;
    const left: string[] = [];
    for (const context of this.contexts) {
      const objects = context.objects.all().map(({ kind, id }) => `${kind} ${id}`);
      if (objects.length > 0) left.push(`objects ${objects.join(', ')}`);
      if (context.groups.size > 0) left.push('groups');
    }
    let pinned = 0;
    for (const { pinnedPages, lockedPages, user } of this.#ended) {
      if (lockedPages !== 0 || user.lockedPages !== 0) left.push('locked pages');
      pinned += pinnedPages;
    }
    // Pages charged to nobody move to the process of CHANGE_PROCESS when they are unpinned: only
    // the sum over all processes is zero, as in Linux.
    if (pinned !== 0) left.push(`${pinned} pinned pages`);
    for (const endpoint of this.machine.endpoints) {
      if (!this.endpoints.includes(endpoint)) left.push(`device ${endpoint.name}`);
    }
    const frames = this.#freeFrames - memory.freePageCount;
    if (frames !== 0) left.push(`${frames} frames`);
    return left;
  }

  #newProcess(): Process {
    const process = createProcess(this.machine, {
      uid: this.random.pick([0, 0, 0, 1000]),
      rlimitMemlockBytes: this.random.pick([0, 0x8000, 2 ** 23, 2 ** 23]),
    });
    const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
    const map = (addr: number, pages: number, prot: number): void => {
      process.mmap({ addr, length: pages * PAGE_BYTES, prot, flags });
    };
    map(MEMORY, MEMORY_PAGES, VM_PROT.READ | VM_PROT.WRITE);
    map(SCRATCH, 4, VM_PROT.READ | VM_PROT.WRITE);
    map(READ_ONLY, 2, VM_PROT.READ);
    return process;
  }

  /** Somebody opens an iommufd. */
  open(): void {
    const process = this.random.pick(this.processes);
    const asVfioContainer = this.random.oneIn(4);
    const options = { extensions: [iommuTest()], noiommu: this.#noiommu, asVfioContainer };
    this.contexts.push(openIommufd(process, this.machine, options));
  }
}
