/**
 * The machine a conformance case runs on: the unit under test, two devices, one process.
 * @module
 */
import {
  createMachine,
  createProcess,
  type Endpoint,
  exitProcess,
  IOAS_MAP,
  type IommufdContext,
  type IommuUnit,
  isIommuError,
  MAP_FLAG,
  type Machine,
  openIommufd,
  PAGE_BYTES,
  type Process,
  restoreSnapshot,
  saveSnapshot,
  VM_PROT,
} from '@iommukit/core';
import type { ConformanceTarget } from './target.ts';

const RAM_BYTES = 2 ** 26;
const PASID_BITS = 16;
const USER_MEMORY = 0x10_0000_0000;
const USER_PAGES = 1024;

/** FIXED_IOVA, READABLE and WRITEABLE. */
const FIXED_RW = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;

/** A failed expectation of a case. */
export class ConformanceFailure extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ConformanceFailure';
  }
}

/** A machine with two devices behind the unit under test. */
const hardwareOf = (target: ConformanceTarget) => {
  const machine = createMachine({ ramBytes: RAM_BYTES });
  const abilities = { pasidBits: PASID_BITS, ats: true, pri: true };
  const device = machine.addEndpoint({ rid: '00:04.0', ...abilities });
  const other = machine.addEndpoint({ rid: '00:05.0', ...abilities });
  return { machine, device, other, unit: machine.addUnit(target.createDriver()) };
};

/** What a case works with. */
export class ConformanceBench {
  readonly target: ConformanceTarget;
  machine: Machine;
  unit: IommuUnit;
  /** A device with PASIDs, ATS and PRI. */
  device: Endpoint;
  /** A second one in a group of its own. */
  other: Endpoint;
  process: Process;
  context: IommufdContext;
  /** First byte of 1024 writable pages of the process. */
  readonly userVa = USER_MEMORY;
  readonly #freePages: number;

  constructor(target: ConformanceTarget) {
    this.target = target;
    const { machine, device, other, unit } = hardwareOf(target);
    this.machine = machine;
    this.device = device;
    this.other = other;
    this.unit = unit;
    this.#freePages = this.machine.memory.freePageCount;
    this.process = createProcess(this.machine);
    this.process.mmap({
      addr: USER_MEMORY,
      length: USER_PAGES * PAGE_BYTES,
      prot: VM_PROT.READ | VM_PROT.WRITE,
      flags: MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED,
    });
    this.context = openIommufd(this.process, this.machine);
  }

  /**
   * Close everything and take the devices away; page frames that do not come back are a leak. (A
   * driver may keep tables of a device until it is released.)
   */
  close(): void {
    exitProcess(this.process);
    for (const endpoint of this.machine.endpoints) this.machine.removeEndpoint(endpoint);
    const lost = this.#freePages - this.machine.memory.freePageCount;
    this.check(lost <= 0, `${lost} page frames did not come back after closing everything`);
  }

  /**
   * Save everything and go on on hardware made anew; what a case holds of the old one is void.
   *
   * @param onPageResponse told of answers to page requests sent before
   * @returns whether saving again gives the same bytes
   */
  migrate(onPageResponse: (code: number) => void = () => {}): boolean {
    const save = () =>
      saveSnapshot({
        machine: this.machine,
        processes: [this.process],
        contexts: [this.context],
      });
    const bytes = save();
    Object.assign(this, hardwareOf(this.target));
    const { processes, contexts } = restoreSnapshot(bytes, {
      machine: this.machine,
      onPageResponse: (_endpoint, _prgi, code) => onPageResponse(code),
    });
    this.process = processes[0] as Process;
    this.context = contexts[0] as IommufdContext;
    const again = save();
    return again.length === bytes.length && again.every((byte, at) => byte === bytes[at]);
  }

  /** A new IOAS with the device (or another one) attached. */
  attached(device: Endpoint = this.device): { devId: number; ioasId: number; hwptId: number } {
    const devId = this.context.bindDevice(device);
    const { outIoasId: ioasId } = this.context.ioasAlloc();
    return { devId, ioasId, hwptId: this.context.deviceAttach(devId, ioasId) };
  }

  /** A usable IOVA, 2 MiB aligned, away from both ends of the lowest large range. */
  usableIova(ioasId: number): number {
    const { ranges } = this.context.ioasIovaRanges({ ioasId });
    const wide = ranges.find(({ start, last }) => last - start >= 0x200_0000n);
    if (!wide) throw new ConformanceFailure('no usable IOVA range of 32 MiB');
    return (Math.floor(Number(wide.start) / 0x20_0000) + 2) * 0x20_0000;
  }

  /** Map pages of the process. */
  map(ioasId: number, iova: number, pages: number, firstPage = 0, flags: number = FIXED_RW): void {
    this.context.ioasMap({
      ioasId,
      flags,
      iova,
      userVa: this.userVa + firstPage * PAGE_BYTES,
      length: pages * PAGE_BYTES,
    });
  }

  /** Bytes of the process's memory. */
  user(page: number, offset: number, length: number): Uint8Array {
    const at = this.userVa + page * PAGE_BYTES + offset;
    return this.process.peek(at, length) ?? new Uint8Array(0);
  }

  /** Fail unless `condition` holds. */
  check(condition: boolean, message: string): void {
    if (!condition) throw new ConformanceFailure(message);
  }

  /** Fail unless two values print alike. */
  equal(got: unknown, expected: unknown, what: string): void {
    const text = (value: unknown): string =>
      value instanceof Uint8Array ? `[${[...value].join(',')}]` : String(value);
    this.check(text(got) === text(expected), `${what}: ${text(got)}, expected ${text(expected)}`);
  }

  /** Fail unless a call is refused with one of these errnos. */
  refused(call: () => unknown, codes: readonly string[], what: string): void {
    try {
      call();
    } catch (error) {
      if (!isIommuError(error)) throw error;
      this.check(codes.includes(error.code), `${what}: ${error.code}, expected ${codes.join('/')}`);
      return;
    }
    throw new ConformanceFailure(`${what}: was not refused, expected ${codes.join('/')}`);
  }
}
