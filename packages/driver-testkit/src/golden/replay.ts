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
} from '@iommukit/core';
import { toHex } from './bytes.ts';
import { CALL_STEPS } from './call-steps.ts';
import { MEMORY_STEPS, type StepAnswer } from './memory-steps.ts';
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

/**
 * Let neighbouring user pages have frames that are no neighbours, as where mock devices were recorded: every
 * second frame of the lower half is taken, and runs of them are refused below 2 MiB.
 */
const scatterFrames = ({ memory }: Machine): void => {
  const base = memory.allocPages(SCATTERED_FRAMES);
  for (let frame = 0; frame < SCATTERED_FRAMES; frame += 2) {
    memory.freePages(base + frame * PAGE_BYTES, 1);
  }
  const allocPages = memory.allocPages.bind(memory);
  memory.allocPages = (count, options) =>
    options?.alignPages === 1 && count > 1 ? ENOMEM : allocPages(count, options);
};

const succeeded = ({ ret }: GoldenStep): boolean => typeof ret === 'string' || (ret ?? -1) >= 0;

/** How numbers of objects are compared. */
export interface ReplayOptions {
  /**
   * `'strict'` (default): they must be the recorded ones. `'relative'`: they are whatever this
   * implementation gives, for one that counts otherwise. Steps where a stale variable names a newer
   * object (`reused`) are left out then; where such a step did something, so is the rest of its
   * sequence. Device ids inside what is read from a queue are compared all the same.
   */
  readonly ids?: 'strict' | 'relative';
}

/** Replays one sequence on a machine of its own. */
class Replay {
  readonly #sequence: GoldenSequence;
  readonly #relative: boolean;
  readonly #bench: ReplayMachine;
  readonly differences: GoldenDifference[] = [];

  constructor(sequence: GoldenSequence, platform: GoldenPlatform, { ids }: ReplayOptions) {
    this.#sequence = sequence;
    this.#relative = ids === 'relative';
    this.#bench = createReplayMachine(platform, RAM_BYTES);
  }

  run(): GoldenDifference[] {
    const { machine, platform } = this.#bench;
    if (platform !== 'noiommu') scatterFrames(machine);
    const process = createProcess(machine);
    const files = filesOf(process);
    while (files.nextFd < FIRST_FD) files.install(new OpenFile({ name: 'recorder' }));
    const state = new ReplayProcess(process);
    state.mapBuffers();
    this.#runSteps(state, 0, this.#sequence.steps.length);
    exitProcess(process);
    return this.differences;
  }

  #runSteps(state: ReplayProcess, from: number, to: number): void {
    for (let index = from; index < to; index++) {
      const step = this.#sequence.steps[index] as GoldenStep;
      if (this.#relative && step.reused) {
        if (succeeded(step)) return;
        continue;
      }
      if (step.op !== 'child') this.#runStep(state, step, index);
      else {
        const child = state.fork();
        const end = index + 1 + (step.steps ?? 0);
        this.#runSteps(child, index + 1, end);
        exitProcess(child.process);
        index = end - 1;
      }
    }
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
