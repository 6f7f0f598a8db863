/**
 * Replays recorded sequences and reports every answer that is not the recorded one.
 * @module
 */
import {
  createProcess,
  errnoName,
  exitProcess,
  filesOf,
  type Machine,
  OpenFile,
  PAGE_BYTES,
  type Process,
  restoreSnapshot,
  saveSnapshot,
} from '@iommukit/core';
import { iommuTest } from '../iommu-test/extension.ts';
import { mockDriver } from '../mock/driver.ts';
import { MockUnit } from '../mock/unit.ts';
import { toHex } from './bytes.ts';
import { CALL_STEPS } from './call-steps.ts';
import { MEMORY_STEPS, type StepAnswer } from './memory-steps.ts';
import { PLAIN_FILES, RECORDER_FILE } from './plain-files.ts';
import { createReplayMachine, type GoldenPlatform, type ReplayMachine } from './platform.ts';
import { ReplayProcess } from './process-state.ts';
import { hideNumbers } from './relative.ts';
import {
  type GoldenDifference,
  type GoldenSequence,
  type GoldenStep,
  type GoldenValue,
  parseSequence,
} from './sequence.ts';

/** The recording program had three files of its own open. */
const FIRST_FD = 6;
const RAM_BYTES = 64 * 2 ** 20;
const SCATTERED_FRAMES = 8192;
const ENOMEM = -12;
/** Members of a step that are answers of the kernel. */
const ANSWERS = ['ret', 'err', 'out', 'mem_out', 'data', 'revents', 'vmpin', 'vmlck', 'out_hex'];

const canonical = (value: unknown): string => {
  if (value === undefined) return 'nothing';
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return JSON.stringify(value);
  }
  return JSON.stringify(Object.fromEntries(Object.entries(value).sort()));
};

/** As on the recorded machines: runs of frames below 2 MiB are refused. */
const refuseRuns = ({ memory }: Machine): void => {
  const allocPages = memory.allocPages.bind(memory);
  memory.allocPages = (count, options) =>
    options?.alignPages === 1 && count > 1 ? ENOMEM : allocPages(count, options);
};

/**
 * Let neighbouring user pages have frames that are no neighbours, as where mock devices were recorded: every
 * second frame of the lower half is taken, and runs of them are refused below 2 MiB.
 */
const scatterFrames = ({ memory }: Machine): void => {
  const base = memory.allocPages(SCATTERED_FRAMES);
  for (let frame = 0; frame < SCATTERED_FRAMES; frame += 2) {
    memory.freePages(base + frame * PAGE_BYTES, 1);
  }
};

const succeeded = ({ ret }: GoldenStep): boolean => typeof ret === 'string' || (ret ?? -1) >= 0;

/** How a sequence is replayed. */
export interface ReplayOptions {
  /**
   * How numbers of objects are compared. `'strict'` (default): they must be the recorded ones. `'relative'`: they are whatever this
   * implementation gives, for one that counts otherwise. Steps where a stale variable names a newer
   * object (`reused`) are left out then; where such a step did something, so is the rest of its
   * sequence. Device ids inside what is read from a queue are compared all the same.
   */
  readonly ids?: 'strict' | 'relative';
  /**
   * Whether to save everything before a step, throw the machine away and go on on a fresh one.
   * Default never.
   */
  migratesBefore?(step: number): boolean;
  /** Called when all processes have ended and everything is closed; to look for what is left. */
  atEnd?(end: ReplayEnd): void;
}

/** A machine after a replay. */
export interface ReplayEnd extends ReplayMachine {
  /** Processes in the order they began. */
  readonly processes: readonly Process[];
  /** Free page frames before the first process. */
  readonly freeFrames: number;
}

/** Replays one sequence on a machine of its own. */
class Replay {
  readonly #sequence: GoldenSequence;
  readonly #relative: boolean;
  readonly #options: ReplayOptions;
  /** The process at work, above it those that wait for it. */
  readonly #processes: ReplayProcess[] = [];
  /** Processes that there were, those that have ended too. */
  readonly #begun: Process[] = [];
  #bench: ReplayMachine;
  readonly differences: GoldenDifference[] = [];

  constructor(sequence: GoldenSequence, platform: GoldenPlatform, options: ReplayOptions) {
    this.#sequence = sequence;
    this.#options = options;
    this.#relative = options.ids === 'relative';
    this.#bench = createReplayMachine(platform, RAM_BYTES);
  }

  run(): GoldenDifference[] {
    const { machine, platform } = this.#bench;
    if (platform !== 'noiommu') {
      scatterFrames(machine);
      refuseRuns(machine);
    }
    const freeFrames = machine.memory.freePageCount;
    const process = createProcess(machine);
    this.#begun.push(process);
    const files = filesOf(process);
    while (files.nextFd < FIRST_FD) files.install(new OpenFile(RECORDER_FILE));
    const state = new ReplayProcess(process);
    state.mapBuffers();
    this.#runProcess(state, 0, this.#sequence.steps.length);
    exitProcess(state.process);
    this.#options.atEnd?.({ ...this.#bench, processes: this.#begun, freeFrames });
    return this.differences;
  }

  #runProcess(state: ReplayProcess, from: number, to: number): void {
    this.#processes.push(state);
    this.#runSteps(state, from, to);
    this.#processes.pop();
  }

  #runSteps(state: ReplayProcess, from: number, to: number): void {
    for (let index = from; index < to; index++) {
      if (this.#options.migratesBefore?.(index)) this.#migrate(index);
      const step = this.#sequence.steps[index] as GoldenStep;
      if (this.#relative && step.reused) {
        if (succeeded(step)) return;
        continue;
      }
      if (step.op !== 'child') this.#runStep(state, step, index);
      else {
        const child = state.fork();
        this.#begun.push(child.process);
        const end = index + 1 + (step.steps ?? 0);
        this.#runProcess(child, index + 1, end);
        exitProcess(child.process);
        index = end - 1;
      }
    }
  }

  /** Save, restore on a machine that knows nothing, and save again: the bytes must be equal. */
  #migrate(index: number): void {
    const saved = this.#save();
    const { platform, machine } = this.#bench;
    const hasMock = machine.units.some((unit) => unit instanceof MockUnit);
    const fresh = createReplayMachine(platform, RAM_BYTES);
    if (hasMock) fresh.machine.addUnit(mockDriver(), []);
    const { processes } = restoreSnapshot(saved, {
      machine: fresh.machine,
      ioctlExtensions: [iommuTest()],
      extensions: [PLAIN_FILES],
      vfioDevices: [...fresh.devices.values()],
    });
    if (platform !== 'noiommu') refuseRuns(fresh.machine);
    this.#bench = fresh;
    this.#processes.forEach((state, at) => {
      state.process = processes[at] as Process;
    });
    const again = this.#save();
    const at = again.findIndex((byte, i) => byte !== saved[i]);
    if (at >= 0 || again.length !== saved.length) {
      const call = 'save after restore';
      const expected = `${saved.length} equal bytes`;
      const got = `${again.length} bytes, byte ${at} differs`;
      this.differences.push({ sequence: this.#sequence.name, step: index, call, expected, got });
    }
  }

  #save(): Uint8Array {
    return saveSnapshot({
      machine: this.#bench.machine,
      processes: this.#processes.map(({ process }) => process),
      extensions: [PLAIN_FILES],
    });
  }

  #runStep(state: ReplayProcess, step: GoldenStep, index: number): void {
    if (!this.#relative) this.#checkResolved(state, step, index);
    const run = CALL_STEPS[step.op] ?? MEMORY_STEPS[step.op];
    if (!run) throw new TypeError(`step ${index}: no operation '${step.op}' is known`);
    const answer = this.#withErrno(run(state, step, this.#bench));
    const memory = step.mem?.map(([addr, length]) => {
      const bytes = state.peek(state.resolve(addr), length);
      return bytes ? toHex(bytes) : null;
    });
    const found = memory ? { ...answer, mem_out: memory } : answer;
    const recorded = step as unknown as StepAnswer;
    if (this.#relative)
      this.#compare(step, index, hideNumbers(step, recorded), hideNumbers(step, found));
    else this.#compare(step, index, recorded, found);
  }

  /** Strict mode: captured ids must be the numbers of the recording. */
  #checkResolved(state: ReplayProcess, step: GoldenStep, index: number): void {
    for (const [name, recorded] of Object.entries(step.resolved ?? {})) {
      const value = step.in?.[name] as GoldenValue | undefined;
      if (typeof value !== 'string' || !value.startsWith('$')) continue;
      const ours = state.resolve(value);
      if (ours !== BigInt(recorded)) {
        this.#differ(step, index, `${name} = ${recorded}`, `${name} = ${ours}`);
      }
    }
  }

  #withErrno(answer: StepAnswer): StepAnswer {
    const ret = answer['ret'] as number;
    return ret < 0 ? { ...answer, ret: -1, err: errnoName(ret) } : answer;
  }

  #compare(step: GoldenStep, index: number, recorded: StepAnswer, answer: StepAnswer): void {
    const wrong = ANSWERS.filter((name) => canonical(recorded[name]) !== canonical(answer[name]));
    if (wrong.length === 0) return;
    const show = (from: StepAnswer) =>
      wrong.map((name) => `${name} ${canonical(from[name])}`).join(', ');
    this.#differ(step, index, show(recorded), show(answer));
  }

  #differ(step: GoldenStep, index: number, expected: string, got: string): void {
    const call = `${step.op} ${step.cmd ?? ''} ${canonical(step.in ?? step.addr ?? '')}`;
    this.differences.push({ sequence: this.#sequence.name, step: index, call, expected, got });
  }
}

/**
 * Replay a recorded sequence: errnos and every changed byte must be the recorded ones, and in
 * strict mode ids too.
 *
 * @param json a parsed sequence file
 * @param platform where it was recorded; the kernel's mock devices are everywhere
 * @returns every answer that differs; empty = none
 * @throws {TypeError} when it is no sequence, or one with steps or structs that nobody knows
 */
export const replaySequence = (
  json: unknown,
  platform: GoldenPlatform = 'mock',
  options: ReplayOptions = {},
): GoldenDifference[] => new Replay(parseSequence(json), platform, options).run();
