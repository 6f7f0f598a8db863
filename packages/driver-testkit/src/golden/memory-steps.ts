/**
 * Steps on memory, files and credentials.
 * @module
 */
import {
  filesOf,
  MAP_FLAG,
  MemoryFile,
  memoryFileOperations,
  OpenFile,
  sysMmap,
} from '@iommukit/core';
import { fromHex, storeLe, toHex } from './bytes.ts';
import type { ReplayProcess } from './process-state.ts';
import type { GoldenStep } from './sequence.ts';

const MFD_ALLOW_SEALING = 2;
const MFD_HUGETLB = 4;

/** What a step answered, member by member as in the recording. */
export type StepAnswer = Readonly<Record<string, unknown>>;

const EBADF = -9;
const EINVAL = -22;

type StepFunction = (state: ReplayProcess, step: GoldenStep) => StepAnswer;

/** `{ ret }` of a system call that gives no number of interest. */
const done = (result: number): StepAnswer => ({ ret: Math.min(result, 0) });

const addressOf = (state: ReplayProcess, step: GoldenStep): number =>
  Number(state.resolve(step.addr));

const mmap: StepFunction = (state, step) => {
  const mapping = {
    addr: addressOf(state, step),
    length: Number(state.resolve(step.len)),
    prot: step.prot ?? 0,
    flags: Number(state.resolve(step.flags)),
    offset: Number(state.resolve(step.off)),
  };
  if (mapping.flags & MAP_FLAG.ANONYMOUS) return done(state.process.mmap(mapping));
  return done(sysMmap(state.process, state.descriptor(step.fd), mapping));
};

const memfd: StepFunction = (state, step) => {
  const flags = Number(state.resolve(step.flags));
  const file = state.process.createFile({
    size: Number(state.resolve(step['size'] as unknown as string)),
    hugetlb: (flags & MFD_HUGETLB) !== 0,
    sealable: (flags & MFD_ALLOW_SEALING) !== 0,
  });
  const fd = filesOf(state.process).install(new OpenFile(memoryFileOperations(file)));
  state.variables.set(step.fd as string, BigInt(fd));
  return { ret: 0 };
};

const seal: StepFunction = (state, step) => {
  const file = filesOf(state.process).get(state.descriptor(step.fd));
  if (!file) return { ret: EBADF };
  const memory = file.operations.pinnable;
  return done(memory instanceof MemoryFile ? memory.addSeals(step.seals ?? 0) : EINVAL);
};

const ramp: StepFunction = (state, step) => {
  const bytes = new Uint8Array(Number(step.len));
  const view = new DataView(bytes.buffer);
  for (let at = 0, word = step.first ?? 0; at < bytes.length; at += 8, word++) {
    view.setUint32(at, word, true);
  }
  return done(state.process.poke(addressOf(state, step), bytes));
};

const fill: StepFunction = (state, step) => {
  const bytes = new Uint8Array(Number(step.len)).fill(step.byte ?? 0);
  return done(state.process.poke(addressOf(state, step), bytes));
};

const put: StepFunction = (state, step) => {
  const bytes = new Uint8Array(step.width ?? 0);
  storeLe(bytes, 0, bytes.length, state.resolve(step.value));
  return done(state.process.poke(addressOf(state, step), bytes));
};

const peek: StepFunction = (state, step) => {
  const bytes = state.peek(addressOf(state, step), Number(step.len));
  return { ret: 0, data: bytes ? toHex(bytes) : null };
};

/** Steps by their `op`. */
export const MEMORY_STEPS: Readonly<Record<string, StepFunction>> = {
  mmap,
  munmap: (state, step) =>
    done(state.process.munmap(addressOf(state, step), Number(state.resolve(step.len)))),
  mprotect: (state, step) =>
    done(
      state.process.mprotect(
        addressOf(state, step),
        Number(state.resolve(step.len)),
        step.prot ?? 0,
      ),
    ),
  memfd,
  seal,
  ramp,
  fill,
  poke: (state, step) => done(state.process.poke(addressOf(state, step), fromHex(step.hex ?? ''))),
  put,
  peek,
  setuid: (state, step) => {
    state.process.setuid(step.uid ?? 0);
    return { ret: 0 };
  },
  rlimit_memlock: (state, step) => {
    state.process.rlimitMemlockBytes = step.soft ?? 0;
    return { ret: 0 };
  },
  vm: (state) => ({ ret: 0, vmpin: state.process.vmPinKiB, vmlck: state.process.vmLckKiB }),
  set: (state, step) => {
    state.variables.set(step.var ?? '', state.resolve(step.value));
    return { ret: 0 };
  },
};
