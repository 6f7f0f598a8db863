/**
 * Steps that are system calls on descriptors.
 * @module
 */
import {
  filesOf,
  IommufdContext,
  OpenFile,
  openVfioCdev,
  openVfioGroup,
  type Process,
  sysIoctl,
  sysPoll,
  sysRead,
  sysSeek,
  sysWrite,
} from '@iommukit/core';
import { iommuTest } from '../iommu-test/extension.ts';
import { loadLe, storeLe, toHex } from './bytes.ts';
import type { StepAnswer } from './memory-steps.ts';
import { OTHER_FILE } from './plain-files.ts';
import type { ReplayMachine } from './platform.ts';
import type { ReplayProcess } from './process-state.ts';
import type { GoldenStep } from './sequence.ts';
import { runStruct } from './struct-step.ts';
import { GOLDEN_STRUCTS } from './structs.ts';

type CallFunction = (state: ReplayProcess, step: GoldenStep, bench: ReplayMachine) => StepAnswer;

const open: CallFunction = ({ process, variables }, step, bench) => {
  const { machine, devices, groups } = bench;
  const variable = step.fd as string;
  const isVfio = step.path === '/dev/vfio/vfio';
  if (step.path === '/dev/iommu' || isVfio) {
    const extensions = [iommuTest()];
    const noiommu = bench.platform === 'noiommu';
    const options = { extensions, noiommu, asVfioContainer: isVfio };
    const context = new IommufdContext(process, machine, options);
    bench.contexts.push(context);
    variables.set(variable, BigInt(context.fd));
    return { ret: 0 };
  }
  const fd = openOther(process, step.path ?? '', devices, groups);
  if (fd < 0) return { ret: fd };
  variables.set(variable, BigInt(fd));
  return { ret: 0 };
};

const openOther = (
  process: Process,
  path: string,
  devices: ReplayMachine['devices'],
  groups: ReplayMachine['groups'],
): number => {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const device = devices.get(name);
  if (device) return openVfioCdev(process, device);
  const group = groups.get(name);
  if (group) return openVfioGroup(process, group);
  return filesOf(process).install(new OpenFile(OTHER_FILE));
};

const SET_CONTAINER = 0x3b68;
const GET_DEVICE_FD = 0x3b6a;

const setContainer: CallFunction = (state, step) => {
  const bytes = new Uint8Array(4);
  storeLe(bytes, 0, 4, BigInt(state.descriptor(step.container)));
  const address = state.place(bytes);
  return { ret: sysIoctl(state.process, state.descriptor(step.fd), SET_CONTAINER, address) };
};

const getDeviceFd: CallFunction = (state, step) => {
  const address = state.place(new TextEncoder().encode(`${step.name}\0`));
  const ret = sysIoctl(state.process, state.descriptor(step.fd), GET_DEVICE_FD, address);
  if (ret < 0) return { ret };
  state.variables.set(step.save as string, BigInt(ret));
  return { ret: 'fd' };
};

const requestOf = (cmd: string): number => GOLDEN_STRUCTS[cmd]?.ioctl ?? Number(cmd);

const ioctlRaw: CallFunction = (state, step) => {
  const before = new Uint8Array(step.buflen ?? 0);
  for (const [at, width, value] of step.words ?? step.fields ?? []) {
    storeLe(before, Number(at), Number(width), state.resolve(value));
  }
  const address = state.place(before);
  const request = requestOf(step.cmd ?? '');
  const ret = sysIoctl(state.process, state.descriptor(step.fd), request, address);
  const after = toHex(state.peek(address, before.length) as Uint8Array);
  return after === toHex(before) ? { ret } : { ret, out_hex: after };
};

const read: CallFunction = (state, step) => {
  const buffer = new Uint8Array(Number(step.len));
  const address = state.place(buffer);
  const ret = sysRead(state.process, state.descriptor(step.fd), address, buffer.length);
  if (ret <= 0) return { ret };
  const bytes = state.peek(address, ret) as Uint8Array;
  if (typeof step.save === 'object') {
    for (const [variable, place] of Object.entries(step.save)) {
      const [at, width] = place as readonly [number, number];
      state.variables.set(variable, loadLe(bytes, at, width));
    }
  }
  return { ret, data: toHex(bytes) };
};

const write: CallFunction = (state, step) => {
  const words = step.words ?? [];
  const bytes = new Uint8Array(words.reduce((sum, [width]) => sum + Number(width), 0));
  let at = 0;
  for (const [width, value] of words) {
    storeLe(bytes, at, Number(width), state.resolve(value));
    at += Number(width);
  }
  const address = state.place(bytes);
  return { ret: sysWrite(state.process, state.descriptor(step.fd), address, bytes.length) };
};

const poll: CallFunction = (state, step) => {
  const revents = sysPoll(state.process, state.descriptor(step.fd), step.events ?? 0);
  return { ret: revents === 0 ? 0 : 1, revents };
};

/** Steps by their `op`. */
export const CALL_STEPS: Readonly<Record<string, CallFunction>> = {
  open,
  close: (state, step) => ({ ret: state.close(step.fd) }),
  ioctl: (state, step) => {
    const { ret, out } = runStruct(state, step);
    return Object.keys(out).length > 0 ? { ret, out } : { ret };
  },
  ioctl_value: (state, step) => {
    const request = requestOf(step.cmd ?? '');
    const argument = state.resolve(step.value);
    return { ret: sysIoctl(state.process, state.descriptor(step.fd), request, argument) };
  },
  ioctl_at: (state, step) => {
    const request = requestOf(step.cmd ?? '');
    const argument = state.resolve(step.at);
    return { ret: sysIoctl(state.process, state.descriptor(step.fd), request, argument) };
  },
  ioctl_raw: ioctlRaw,
  group_set_container: setContainer,
  group_get_device_fd: getDeviceFd,
  read,
  write,
  poll,
  lseek: (state, step) => ({ ret: sysSeek(state.process, state.descriptor(step.fd)) }),
  next_fd: (state, step) => {
    state.variables.set(step.save as string, BigInt(filesOf(state.process).nextFd));
    return { ret: 0 };
  },
};
