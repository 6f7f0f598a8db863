/**
 * What a restore has made so far, by the numbers of the snapshot, and how to undo it.
 * @module
 */

import type { Endpoint } from '../bus/endpoint.ts';
import type { IommuGroup } from '../bus/group.ts';
import type { Machine } from '../bus/machine.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import { type Capability, FramePool, MemoryFile, Process } from '../memory/index.ts';
import type { OpenFile } from '../uapi/files.ts';
import type { VfioDevice } from '../vfio/vfio-device.ts';
import { inconsistent, needIndex } from './check.ts';
import type { LoadRefs, SnapshotExtension } from './extension.ts';
import { misfit } from './fit.ts';
import type { MemoryFileState } from './memory-state.ts';
import type { ProcessState, ScenarioState } from './scenario-state.ts';

/** Things by number; foreign ones are made when first asked for. */
export class RestoreGraph implements LoadRefs {
  readonly state: ScenarioState;
  readonly machine: Machine;
  readonly processes: readonly Process[];
  readonly memoryFiles: readonly MemoryFile[];
  readonly contexts: IommufdContext[] = [];
  readonly openFiles: OpenFile[] = [];
  readonly vfioDevices: VfioDevice[] = [];
  /** Steps back, to be run newest first when something fails. */
  readonly undo: (() => void)[];
  /** What cannot fail and is done when everything else was. */
  readonly commit: (() => void)[] = [];
  readonly #extensions: ReadonlyMap<string, SnapshotExtension>;
  readonly #foreign = new Map<number, object>();

  constructor(
    state: ScenarioState,
    machine: Machine,
    extensions: ReadonlyMap<string, SnapshotExtension>,
    undo: (() => void)[],
  ) {
    this.state = state;
    this.undo = undo;
    this.machine = machine;
    this.#extensions = extensions;
    const pool = new FramePool(machine.memory);
    this.processes = state.processes.map((process) => makeProcess(machine, process));
    this.memoryFiles = state.memoryFiles.map((file) => loadMemoryFile(pool, file));
  }

  context(number: number): IommufdContext {
    needIndex(number, this.contexts.length, 'context');
    return this.contexts[number] as IommufdContext;
  }

  /** A device of the bus. */
  endpoint(rid: number): Endpoint {
    return this.machine.endpoint(rid) as Endpoint;
  }

  /** A group of the bus, by its position in the snapshot. */
  group(index: number): IommuGroup {
    const rid = this.state.bus.groups[index]?.rids[0] as number;
    return this.endpoint(rid).group;
  }

  /**
   * What an extension carried.
   *
   * @throws {IommuError} EINVAL without the extension, and what it says of its bytes
   */
  foreign(index: number): object {
    const known = this.#foreign.get(index);
    if (known) return known;
    const { extension: name, bytes } = this.state.foreign[index] as {
      extension: string;
      bytes: Uint8Array;
    };
    const extension = this.#extensions.get(name);
    if (!extension) throw misfit(`snapshot extension '${name}'`, 'not given', 'given to restore');
    const thing = extension.load(bytes, this);
    if (typeof thing !== 'object' || thing === null)
      throw inconsistent(`bytes of '${name}'`, index);
    this.#foreign.set(index, thing);
    return thing;
  }
}

const makeProcess = (machine: Machine, state: ProcessState): Process =>
  new Process(machine, {
    uid: state.uid,
    capabilities: new Set(state.capabilities as Capability[]),
    rlimitMemlockBytes: state.rlimitMemlockBytes,
  });

const loadMemoryFile = (pool: FramePool, state: MemoryFileState): MemoryFile => {
  const file = new MemoryFile(pool, { size: state.size, hugetlb: state.hugetlb });
  file.load(state);
  return file;
};
