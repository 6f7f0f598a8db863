/**
 * A program that calls anything with anything. Ids, descriptors and addresses that came up before
 * are used again, so that calls get far; every result goes into a trace.
 */
import {
  ERRNO,
  filesOf,
  forkProcess,
  installFile,
  MAP_FLAG,
  memoryFileOperations,
  OpenFile,
  openVfioCdev,
  openVfioGroup,
  PAGE_BYTES,
  type Process,
  type StructSpec,
  sysIoctl,
  sysMmap,
  sysPoll,
  sysRead,
  sysSeek,
  sysWrite,
} from '@iommukit/core';
import { Computer } from './computer.ts';
import {
  type CallFiller,
  DATA_AT,
  IOCTLS,
  IOVAS,
  MEMORY,
  MEMORY_PAGES,
  STRUCT_AT,
  STRUCT_BYTES,
  TEST_COMMANDS,
  VFIO_CALLS,
} from './fields.ts';
import type { Random } from './random.ts';

const RESULT_MASK = 0x3fff_ffff;
const MAX_PROCESSES = 3;
const KNOWN_ERRNOS = new Set<number>(Object.values(ERRNO));

/** What a program did. */
export interface Trace {
  /** One number per call: its result, mixed with the bytes it left in its struct. */
  readonly results: readonly number[];
  /** How often each call succeeded. */
  readonly succeeded: ReadonlyMap<string, number>;
}

/** Calls anything with anything. */
class Program {
  readonly results: number[] = [];
  readonly succeeded = new Map<string, number>();
  readonly #computer: Computer;
  readonly #random: Random;
  readonly #fill: CallFiller;

  constructor(computer: Computer) {
    this.#computer = computer;
    this.#random = computer.random;
    this.#fill = computer.fill;
  }

  /** Make so many calls. */
  run(calls: number): void {
    for (let i = 0; i < calls; i++) this.#step();
  }

  #step(): void {
    const process = this.#random.pick(this.#computer.processes);
    const kind = this.#random.below(100);
    if (kind < 50) this.#iommufdCall(process);
    else if (kind < 68) this.#testCommand(process);
    else if (kind < 80) this.#vfioCall(process);
    else if (kind < 86) this.#fileCall(process);
    else if (kind < 89) this.#dma();
    else if (kind < 92) this.#memoryCall(process);
    else this.#lifeOfProcesses(process);
  }

  /** Count a result; anything but a success or one of Linux's errnos is a failure of the test. */
  #note(name: string, result: number, extra = 0): void {
    if (!Number.isInteger(result) || (result < 0 && !KNOWN_ERRNOS.has(-result))) {
      throw new Error(`${name} answered ${result}`);
    }
    if (result >= 0) this.succeeded.set(name, (this.succeeded.get(name) ?? 0) + 1);
    this.results.push(result ^ extra);
  }

  #iommufdCall(process: Process): void {
    const [name, spec] = this.#random.pick(IOCTLS);
    const fd = this.#fill.fdFor(process, name);
    const bytes = this.#fill.randomBytes();
    const view = new DataView(bytes.buffer);
    for (const [field, fieldSpec] of Object.entries(spec.fields)) {
      this.#fill.setField(process, view, field, fieldSpec);
    }
    this.#callWith(process, fd, name, spec, bytes);
  }

  #testCommand(process: Process): void {
    const [name, struct] = this.#random.pick(TEST_COMMANDS);
    const fd = this.#fill.fdFor(process, name);
    const bytes = this.#fill.fromGolden(process, struct);
    new DataView(bytes.buffer).setUint32(4, struct.op ?? 0, true);
    if (this.#random.oneIn(40))
      new DataView(bytes.buffer).setUint32(4, this.#random.below(40), true);
    this.#callWith(process, fd, name, struct, bytes);
  }

  #vfioCall(process: Process): void {
    const [name, struct] = this.#random.pick(VFIO_CALLS);
    if (struct.size > 0) {
      const fd = this.#fill.fdFor(process, name);
      this.#callWith(process, fd, name, struct, this.#fill.fromGolden(process, struct));
      return;
    }
    const plain = [BigInt(this.#random.below(12)), this.#fill.edge(), BigInt(STRUCT_AT)];
    const wanted =
      name === 'VFIO_GROUP_SET_CONTAINER' ? this.#fill.fdFor(process, 'the container') : 0;
    process.poke(STRUCT_AT, new Uint8Array(Int32Array.of(wanted).buffer));
    if (name === 'VFIO_GROUP_GET_DEVICE_FD') {
      const device = this.#random.pick(this.#computer.endpoints).name;
      process.poke(STRUCT_AT, new TextEncoder().encode(`${device}\0`));
    }
    const takesPointer = name.startsWith('VFIO_GROUP_');
    const argument =
      takesPointer && !this.#random.oneIn(8) ? BigInt(STRUCT_AT) : this.#random.pick(plain);
    this.#note(name, sysIoctl(process, this.#fill.fdFor(process, name), struct.ioctl, argument));
  }

  /** Put a struct somewhere, mostly where it can be, and call. */
  #callWith(
    process: Process,
    fd: number,
    name: string,
    { ioctl, size, min }: Pick<StructSpec, 'ioctl' | 'size' | 'min'>,
    bytes: Uint8Array,
  ): void {
    const random = this.#random;
    const wrong = random.oneIn(20);
    const sizes = [size, min, min - 1, size + 8, 0, STRUCT_BYTES, 4097, random.u32()];
    new DataView(bytes.buffer).setUint32(0, wrong ? random.pick(sizes) : size, true);
    if (!random.oneIn(12)) bytes.fill(0, size);
    const argument = random.oneIn(25) ? this.#fill.anyPointer() : BigInt(STRUCT_AT);
    process.poke(argument, bytes);
    const code = random.oneIn(60) ? ioctl ^ (1 << random.below(32)) : ioctl;
    const result = sysIoctl(process, fd, code >>> 0, argument);
    this.#note(name, result, this.#digest(process, argument, size));
  }

  #digest(process: Process, argument: bigint, size: number): number {
    let digest = 0;
    for (const byte of process.peek(argument, size) ?? [])
      digest = (Math.imul(digest, 31) + byte) | 0;
    return digest & RESULT_MASK;
  }

  #fileCall(process: Process): void {
    const random = this.#random;
    const fd = this.#fill.fd(process);
    const length = random.pick([0, 7, 8, 12, 16, 40, 80, 120, 4096]);
    const pointer = this.#fill.pointer();
    const prot = random.pick([1, 3, 7]);
    const flags = random.pick([MAP_FLAG.SHARED, MAP_FLAG.PRIVATE]);
    const offset = random.below(4) * PAGE_BYTES;
    const calls: readonly (readonly [string, () => number])[] = [
      ['read', () => sysRead(process, fd, pointer, length)],
      ['write', () => sysWrite(process, fd, pointer, length)],
      ['poll', () => sysPoll(process, fd, random.below(128))],
      ['lseek', () => sysSeek(process, fd)],
      [
        'mmap',
        () => sysMmap(process, fd, { length: random.pick([4096, 8192]), prot, flags, offset }),
      ],
      ['close', () => (random.oneIn(3) ? filesOf(process).close(fd) : 0)],
    ];
    const [name, call] = random.pick(calls);
    this.#note(name, call());
  }

  /** Devices act by themselves. */
  #dma(): void {
    const random = this.#random;
    const endpoint = random.pick(this.#computer.machine.endpoints);
    const iova = random.oneIn(4) ? this.#fill.edge() : random.pick(IOVAS);
    const data = new Uint8Array(random.pick([1, 8, 4096, 5000]));
    const pasid = endpoint.pasidBits > 0 ? random.pick([undefined, 1, 3]) : undefined;
    const options = pasid === undefined ? {} : { pasid };
    const done = random.oneIn(2)
      ? endpoint.dmaWrite(iova, data, options)
      : endpoint.dmaRead(iova, data, options);
    this.#note('dma', done);
  }

  #memoryCall(process: Process): void {
    const random = this.#random;
    const addr = MEMORY + random.below(MEMORY_PAGES) * PAGE_BYTES;
    const length = random.pick([1, 2, 4]) * PAGE_BYTES;
    const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
    const kind = random.below(4);
    if (kind === 0) this.#note('munmap', process.munmap(addr, length));
    else if (kind === 1) this.#note('mprotect', process.mprotect(addr, length, random.below(4)));
    else if (kind === 2)
      this.#note('mmap', process.mmap({ addr, length, prot: 3, flags }) > 0 ? 1 : 0);
    else {
      const bytes = new Uint8Array(64);
      for (let i = 0; i < bytes.length; i += 4) bytes[i] = random.below(8);
      process.poke(DATA_AT + random.below(8) * 64, bytes);
    }
  }

  #lifeOfProcesses(process: Process): void {
    const random = this.#random;
    const kind = random.below(8);
    if (kind === 0) this.#computer.open();
    else if (kind === 1)
      this.#note('open cdev', openVfioCdev(process, random.pick(this.#computer.devices)));
    else if (kind === 2)
      this.#note('open group', openVfioGroup(process, random.pick(this.#computer.groups)));
    else if (kind === 3) this.#memfd(process);
    else if (kind === 4 && this.#computer.processes.length < MAX_PROCESSES) {
      this.#computer.processes.push(forkProcess(process));
    } else if (kind === 5 && this.#computer.processes.length > 1) {
      this.#computer.end(process);
    } else if (kind === 6) process.rlimitMemlockBytes = random.pick([0, 0x4000, 2 ** 23]);
    else if (kind === 7 && random.oneIn(4)) process.setuid(random.pick([0, 1000]));
  }

  #memfd(process: Process): void {
    const file = process.createFile({ size: this.#random.pick([0x1000, 0x4000, 0x8000]) });
    const fd = installFile(process, 'memfd', () => new OpenFile(memoryFileOperations(file)));
    this.#note('memfd', fd);
  }
}

/**
 * Run a program.
 *
 * @param seed decides everything about it
 * @throws {Error} when something is left after all processes have ended
 */
export const runProgram = (seed: number, calls: number): Trace => {
  const computer = new Computer(seed);
  const program = new Program(computer);
  program.run(calls);
  const left = computer.close();
  if (left.length > 0) throw new Error(`seed ${seed} leaves ${left.join('; ')}`);
  return program;
};
