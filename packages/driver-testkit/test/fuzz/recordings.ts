/** Recorded sequences with one thing changed: a byte, a field, a descriptor, the order of steps. */
import {
  type GoldenDifference,
  type GoldenPlatform,
  type GoldenSequence,
  type GoldenStep,
  replaySequence,
} from '@iommukit/driver-testkit';
import { GOLDEN_STRUCTS } from '../../src/golden/structs.ts';
import { EDGES, type Random } from './random.ts';

/** Changes one step; undefined = this step has nothing to change in that way. */
type StepMutation = (step: GoldenStep, random: Random) => GoldenStep | undefined;

const hex = (value: bigint): string => `0x${value.toString(16)}`;

const anyValue = (random: Random): string => {
  if (random.oneIn(3)) return hex(random.pick(EDGES));
  return hex(random.oneIn(2) ? BigInt(random.below(16)) : BigInt(random.u32()));
};

/** Give a field of the struct, named or not, another value. */
const changeField: StepMutation = (step, random) => {
  const names = Object.keys(GOLDEN_STRUCTS[step.cmd ?? '']?.fields ?? {});
  if (step.op !== 'ioctl' || names.length === 0) return undefined;
  return { ...step, in: { ...step.in, [random.pick(names)]: anyValue(random) } };
};

/** Change one byte of the struct. */
const changeByte: StepMutation = (step, random) => {
  if (step.op !== 'ioctl') return undefined;
  const bytes = step.buflen ?? step.size ?? GOLDEN_STRUCTS[step.cmd ?? '']?.size ?? 0;
  if (bytes === 0) return undefined;
  const change = [random.below(bytes), 1, random.below(256)] as const;
  return { ...step, extra: [...(step.extra ?? []), change] };
};

/** Say that the struct has another size, with the bytes as they are or only those. */
const changeSize: StepMutation = (step, random) => {
  if (step.op !== 'ioctl') return undefined;
  const size = random.pick([0, 4, 8, 11, 12, 24, 40, 72, 100, 4096, 4097]);
  const { extra: _gone, ...rest } = step;
  const fits = (GOLDEN_STRUCTS[step.cmd ?? '']?.size ?? 0) <= size;
  return fits ? { ...rest, size, buflen: size } : undefined;
};

/** Call something else with the same struct. */
const changeCall: StepMutation = (step, random) => {
  if (step.op !== 'ioctl_value' && step.op !== 'ioctl_at') return undefined;
  return {
    ...step,
    cmd: hex(BigInt(random.pick([0x3b63, 0x3b80, 0x3b95, 0x3b96, 0x3ba0, 0x3bff]))),
  };
};

/** Use another descriptor. */
const changeDescriptor: StepMutation = (step, random) =>
  step.fd === undefined || step.op === 'open' || step.op === 'memfd' || step.op === 'mmap'
    ? undefined
    : { ...step, fd: random.below(12) };

/** Read, write or look for another number of bytes or events. */
const changeLength: StepMutation = (step, random) => {
  if (step.op === 'read') return { ...step, len: random.pick([0, 4, 7, 8, 12, 39, 40, 80, 4096]) };
  if (step.op === 'poll') return { ...step, events: random.u32() & 0xffff };
  return undefined;
};

const STEP_MUTATIONS: readonly StepMutation[] = [
  changeField,
  changeField,
  changeByte,
  changeSize,
  changeCall,
  changeDescriptor,
  changeLength,
];

/** Steps that cannot be moved or left out: those of a child belong together. */
const isFixed = ({ op }: GoldenStep): boolean => op === 'child' || op === 'open';

const moveStep = (steps: GoldenStep[], random: Random): void => {
  const from = random.below(steps.length);
  const step = steps[from] as GoldenStep;
  if (steps.some(({ op }) => op === 'child') || isFixed(step)) return;
  const kind = random.below(3);
  if (kind !== 1) steps.splice(from, 1);
  if (kind !== 0) steps.splice(random.below(steps.length + 1), 0, step);
};

const changeStep = (steps: GoldenStep[], random: Random): void => {
  for (let tries = 0; tries < 20; tries++) {
    const at = random.below(steps.length);
    const changed = random.pick(STEP_MUTATIONS)(steps[at] as GoldenStep, random);
    if (!changed) continue;
    steps[at] = changed;
    return;
  }
};

/** A recording with one to three things changed. */
export const mutate = (sequence: GoldenSequence, random: Random): GoldenSequence => {
  const steps = [...sequence.steps];
  for (let changes = 1 + random.below(3); changes > 0; changes--) {
    if (random.oneIn(3)) moveStep(steps, random);
    else changeStep(steps, random);
  }
  return { ...sequence, steps };
};

/** What a replay did, and what was left when its processes had ended. */
export interface MutatedReplay {
  readonly differences: readonly GoldenDifference[];
  readonly left: readonly string[];
}

/** Replay, and look what is left behind. */
export const replayAndLook = (
  sequence: GoldenSequence,
  platform: GoldenPlatform,
): MutatedReplay => {
  const left: string[] = [];
  const differences = replaySequence(sequence, platform, {
    atEnd: ({ machine, contexts, processes, freeFrames, devices }) => {
      for (const { objects, groups } of contexts) {
        for (const { kind, id } of objects.all()) left.push(`${kind} ${id}`);
        if (groups.size > 0) left.push('groups');
      }
      const pinned = processes.reduce((sum, { pinnedPages }) => sum + pinnedPages, 0);
      const locked = processes.some(
        ({ lockedPages, user }) => lockedPages + user.lockedPages !== 0,
      );
      if (pinned !== 0 || locked) left.push(`pages pinned ${pinned}, locked ${locked}`);
      const frames = freeFrames - machine.memory.freePageCount;
      if (frames !== 0) left.push(`${frames} frames`);
      if (machine.endpoints.length > devices.size) left.push('mock devices');
    },
  });
  return { differences, left };
};
