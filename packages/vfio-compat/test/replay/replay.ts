/** Replays a recording through raw ioctls and collects every answer that is not the recorded one. */
import {
  createProcess,
  errnoName,
  exitProcess,
  filesOf,
  IommufdContext,
  isIommuError,
  MAP_FLAG,
  type Machine,
  OpenFile,
  openVfioCdev,
  type Process,
  sysIoctl,
  type VfioDevice,
  type VfioGroup,
  VM_PROT,
} from '@iommukit/core';
import { openVfioContainer, openVfioGroup } from '../../src/index.ts';
import type { Recorded } from './platform.ts';
import { RECORDED_STRUCTS, type Sequence, type Step, type Value } from './sequence.ts';

/** Who provides `/dev/vfio/vfio`. */
export type ContainerKind = 'type1' | 'iommufd';

const BUFFER_END = 0x7e00_0001_0000;
const BUFFER_BYTES = 0x1_0000;
const NAME_ADDRESS = 0x2_0000_0100;
const SET_CONTAINER = 0x3b68;
const GET_DEVICE_FD = 0x3b6a;
const COMPARED = ['ret', 'err', 'out', 'out_hex', 'mem_out', 'vmlck', 'vmpin'] as const;

type Answer = Readonly<Record<string, unknown>>;

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const store = (bytes: Uint8Array, at: number, width: number, value: bigint): void => {
  for (let i = 0; i < width; i++) bytes[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
};

const load = (bytes: Uint8Array, at: number, width: number): bigint => {
  let value = 0n;
  for (let i = width - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i] ?? 0);
  return value;
};

const text = (value: unknown): string =>
  value && typeof value === 'object' && !Array.isArray(value)
    ? JSON.stringify(Object.fromEntries(Object.entries(value).sort()))
    : JSON.stringify(value);

class Replay {
  readonly process: Process;
  readonly variables = new Map<string, bigint>();
  readonly recorded: Recorded;
  readonly kind: ContainerKind;
  readonly machine: Machine;

  constructor(recorded: Recorded, kind: ContainerKind) {
    this.recorded = recorded;
    this.kind = kind;
    this.machine = recorded.machine;
    this.process = createProcess(this.machine);
    this.process.mmap({
      addr: BUFFER_END - BUFFER_BYTES,
      length: BUFFER_BYTES,
      prot: VM_PROT.READ | VM_PROT.WRITE,
      flags: MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED,
    });
  }

  resolve(value: Value | undefined): bigint {
    if (typeof value === 'string' && value.startsWith('$')) {
      return this.variables.get(value.slice(1)) ?? 0n;
    }
    return BigInt(value ?? 0);
  }

  descriptor(fd: Value | undefined): number {
    return typeof fd === 'number' ? fd : Number(this.variables.get(String(fd)) ?? 0xffff);
  }

  /** Put bytes right in front of an inaccessible page. */
  place(bytes: Uint8Array): number {
    this.process.poke(BUFFER_END - bytes.length, bytes);
    return BUFFER_END - bytes.length;
  }

  ioctl(step: Step, request: number, argument: number | bigint): number {
    return sysIoctl(this.process, this.descriptor(step.fd), request, argument);
  }

  step(step: Step): Answer {
    const run = STEPS[step.op];
    if (!run) throw new TypeError(`no step '${step.op}' is known`);
    const answer = { ...run(this, step) } as { ret: number | string; err?: string };
    if (typeof answer.ret === 'number' && answer.ret < 0) {
      answer.err = errnoName(answer.ret);
      answer.ret = -1;
    }
    if (!step.mem) return answer;
    const memory = step.mem.map(([addr, length]) => {
      const bytes = this.process.peek(BigInt(addr), length);
      return bytes ? toHex(bytes) : null;
    });
    return { ...answer, mem_out: memory };
  }
}

const open = (replay: Replay, { fd, path = '' }: Step): Answer => {
  const { process, machine, recorded, kind } = replay;
  const save = (number: number) => replay.variables.set(String(fd), BigInt(number));
  const group = /^\/dev\/t\/group_(.*)$/.exec(path)?.[1];
  try {
    const cdev = /^\/dev\/t\/cdev_(.*)$/.exec(path)?.[1];
    if (group) save(openVfioGroup(process, machine, recorded.groups[group] as VfioGroup).fd);
    else if (cdev) save(openVfioCdev(process, recorded.devices[cdev] as VfioDevice));
    else if (path === '/dev/vfio/vfio' && kind === 'type1') {
      save(openVfioContainer(process, machine).fd);
    } else if (path === '/dev/iommu' || path === '/dev/vfio/vfio') {
      const asVfioContainer = path === '/dev/vfio/vfio';
      const context = new IommufdContext(process, machine, { asVfioContainer });
      save(context.fd);
    } else save(filesOf(process).install(new OpenFile({ name: path })));
    return { ret: 0 };
  } catch (error) {
    if (!isIommuError(error)) throw error;
    return { ret: -error.errno };
  }
};

const structIoctl = (replay: Replay, step: Step): Answer => {
  const spec = RECORDED_STRUCTS[step.cmd ?? ''];
  if (!spec) throw new TypeError(`no struct '${step.cmd}' is known`);
  const size = step.size ?? spec.size;
  const before = new Uint8Array(step.buflen ?? Math.max(size, 4));
  store(before, 0, 4, BigInt(size));
  for (const [name, value] of Object.entries(step.in ?? {})) {
    const [at, width, kind] = spec.fields[name] as readonly [number, number, string];
    const number = kind === 'fd' ? BigInt(replay.descriptor(value)) : replay.resolve(value);
    const recorded = step.resolved?.[name];
    if (recorded !== undefined && BigInt(recorded) !== number) return { ret: `${name}=${number}` };
    store(before, at, width, number);
  }
  const address = replay.place(before);
  const ret = replay.ioctl(step, Number(spec.ioctl), address);
  const after = replay.process.peek(address, before.length) as Uint8Array;
  const out: Record<string, Value> = {};
  for (const [name, [at, width, kind]] of Object.entries(spec.fields)) {
    const value = load(after, at, width);
    if (value === load(before, at, width)) continue;
    const number = width === 8 ? `0x${value.toString(16)}` : Number(value);
    out[name] = kind === 'out_fd' ? 'fd' : number;
  }
  if (ret >= 0 && typeof step.save === 'object') {
    for (const [name, variable] of Object.entries(step.save)) {
      const [at, width] = spec.fields[name] as readonly [number, number, string];
      replay.variables.set(variable, load(after, at, width));
    }
  }
  return Object.keys(out).length > 0 ? { ret, out } : { ret };
};

const requestOf = (cmd = ''): number => Number(RECORDED_STRUCTS[cmd]?.ioctl ?? cmd);

const rawIoctl = (replay: Replay, step: Step): Answer => {
  const before = new Uint8Array(step.buflen ?? 0);
  for (const [at, width, value] of step.fields ?? step.words ?? []) {
    store(before, at, width, replay.resolve(value));
  }
  const address = replay.place(before);
  const ret = replay.ioctl(step, requestOf(step.cmd), address);
  const after = toHex(replay.process.peek(address, before.length) as Uint8Array);
  return after === toHex(before) ? { ret } : { ret, out_hex: after };
};

const poke = (replay: Replay, step: Step, bytes: Uint8Array): Answer => {
  const ret = replay.process.poke(BigInt(step.addr ?? 0), bytes);
  return { ret };
};

const STEPS: Readonly<Record<string, (replay: Replay, step: Step) => Answer>> = {
  open,
  close: (replay, { fd }) => {
    const ret = filesOf(replay.process).close(replay.descriptor(fd));
    replay.variables.delete(String(fd));
    return { ret };
  },
  ioctl: structIoctl,
  ioctl_raw: rawIoctl,
  ioctl_value: (replay, step) => ({
    ret: replay.ioctl(step, requestOf(step.cmd), replay.resolve(step.value)),
  }),
  ioctl_at: (replay, step) => ({
    ret: replay.ioctl(step, requestOf(step.cmd), BigInt(step.at ?? 0)),
  }),
  group_set_container: (replay, step) => {
    const bytes = new Uint8Array(4);
    store(bytes, 0, 4, BigInt(replay.descriptor(step.container)));
    return { ret: replay.ioctl(step, SET_CONTAINER, replay.place(bytes)) };
  },
  group_get_device_fd: (replay, step) => {
    const ret = replay.ioctl(step, GET_DEVICE_FD, NAME_ADDRESS);
    if (ret < 0) return { ret };
    replay.variables.set(String(step.save), BigInt(ret));
    return { ret: 'fd' };
  },
  mmap: ({ process }, step) => {
    const at = process.mmap({
      addr: BigInt(step.addr ?? 0),
      length: Number(step.len),
      prot: step.prot ?? 0,
      flags: Number(step.flags),
    });
    return { ret: Math.min(at, 0) };
  },
  ramp: (replay, step) => {
    const bytes = new Uint8Array(Number(step.len));
    for (let i = 0; i < bytes.length / 8; i++)
      store(bytes, 8 * i, 8, BigInt((step.first ?? 0) + i));
    return poke(replay, step, bytes);
  },
  fill: (replay, step) => poke(replay, step, new Uint8Array(Number(step.len)).fill(step.byte ?? 0)),
  poke: (replay, step) => poke(replay, step, Buffer.from(step.hex ?? '', 'hex')),
  put: (replay, step) => {
    const bytes = new Uint8Array(step.width ?? 0);
    store(bytes, 0, bytes.length, replay.resolve(step.value));
    return poke(replay, step, bytes);
  },
  setuid: ({ process }, { uid }) => {
    process.setuid(uid ?? 0);
    return { ret: 0 };
  },
  rlimit_memlock: ({ process }, { soft }) => {
    process.rlimitMemlockBytes = soft ?? 0;
    return { ret: 0 };
  },
  vm: ({ process }) => ({ ret: 0, vmlck: process.vmLckKiB, vmpin: process.vmPinKiB }),
};

/** Replay a recording on a machine of its own; returns one line per different answer. */
export const replay = (sequence: Sequence, recorded: Recorded, kind: ContainerKind): string[] => {
  const run = new Replay(recorded, kind);
  const differences: string[] = [];
  sequence.steps.forEach((step, index) => {
    const answer = run.step(step);
    const wanted = step as unknown as Answer;
    const wrong = COMPARED.filter((name) => text(wanted[name]) !== text(answer[name]));
    if (wrong.length === 0) return;
    const show = (from: Answer) => wrong.map((name) => `${name} ${text(from[name])}`).join(', ');
    const call = `${step.op} ${step.cmd ?? ''} ${text(step.in ?? step.value ?? step.path ?? '')}`;
    differences.push(`${index}: ${call}: recorded ${show(wanted)}, got ${show(answer)}`);
  });
  exitProcess(run.process);
  return differences;
};
