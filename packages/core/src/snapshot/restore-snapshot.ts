/**
 * A scenario from its bytes, on a machine of another process lifetime.
 * @module
 */
import type { Endpoint } from '../bus/endpoint.ts';
import type { Machine } from '../bus/machine.ts';
import type { IommuUnit } from '../driver/contract.ts';
import { isIommuError, refuse } from '../errors.ts';
import { IommufdContext } from '../iommufd/context.ts';
import type { IoctlExtension } from '../iommufd/index.ts';
import type { Process } from '../memory/index.ts';
import type { VfioDevice } from '../vfio/vfio-device.ts';
import { checkScenario } from './check-scenario.ts';
import { decodeState, RESTORE_OP, unwrap } from './envelope.ts';
import type { SnapshotExtension } from './extension.ts';
import { checkEndpoint, checkFits, misfit } from './fit.ts';
import { type Held, loadHeld } from './held.ts';
import { mergeMemory } from './merge-memory.ts';
import { rebuildUnits } from './rebuild.ts';
import { RestoreGraph } from './restore-graph.ts';
import { ObjectLoader } from './restore-objects.ts';
import { findVfioDevices, loadFiles, loadProcesses } from './restore-process.ts';
import { RestoredUnits } from './restore-units.ts';
import {
  type ContextState,
  type EndpointState,
  SCENARIO,
  type ScenarioState,
} from './scenario-state.ts';

/** What {@link restoreSnapshot} needs: hardware, and the functions that bytes cannot carry. */
export interface RestoreOptions {
  /**
   * A machine with the same memory regions and IOMMUs, made in the same order; nobody uses it.
   * Devices that are missing are plugged in.
   */
  readonly machine: Machine;
  /** ioctl extensions that the saved contexts had. */
  readonly ioctlExtensions?: readonly IoctlExtension[];
  /** Extensions that were given to save. */
  readonly extensions?: readonly SnapshotExtension[];
  /** Devices under VFIO, at least those that were open; groups with `addToVfioGroup`. */
  readonly vfioDevices?: readonly VfioDevice[];
  /** Told of answers to page requests that were sent before the snapshot. */
  onPageResponse?(endpoint: Endpoint, prgi: number, code: number): void;
}

/** What a scenario's program held on to. */
export interface RestoredScenario {
  /** Those given to save, in the same order, then others that were reached. */
  readonly processes: readonly Process[];
  /** Those given to save, in the same order, then others that were reached. */
  readonly contexts: readonly IommufdContext[];
  /** PASID allocators and policies by the names they were saved under. */
  readonly held: Readonly<Record<string, Held>>;
}

/**
 * Restore a scenario: it goes on as if nothing had happened, with the same ids, accounts, pins,
 * errnos and DMA. The program takes up again what is made of functions: listeners, `onUnmap` of its
 * accesses, `SoftwareNesting.of`.
 *
 * @throws {IommuError} EINVAL for bytes that are damaged or of another version, and for a machine
 *   that differs: the message names what; EBUSY for a machine in use; what a driver answers.
 *   Nothing has changed then.
 */
export const restoreSnapshot = (bytes: Uint8Array, options: RestoreOptions): RestoredScenario => {
  const state = readSnapshot(bytes);
  checkFits(state, options.machine);
  const undo: (() => void)[] = [];
  try {
    return restore(state, options, undo);
  } catch (error) {
    for (const step of undo.reverse()) step();
    if (isIommuError(error)) throw error;
    const message = `the snapshot cannot be restored: ${String(error)}`;
    throw Object.assign(refuse('EINVAL', RESTORE_OP, 'snapshot-content', message), {
      cause: error,
    });
  }
};

/** The state of bytes, checked in itself. @throws {IommuError} EINVAL */
export const readSnapshot = (bytes: Uint8Array): ScenarioState => {
  const state = decodeState(SCENARIO, unwrap(bytes), RESTORE_OP);
  checkScenario(state);
  return state;
};

const restore = (
  state: ScenarioState,
  options: RestoreOptions,
  undo: (() => void)[],
): RestoredScenario => {
  const { machine } = options;
  loadMachine(state, machine, undo);
  const extensions = new Map((options.extensions ?? []).map((each) => [each.name, each]));
  for (const { snapshot } of options.ioctlExtensions ?? []) {
    if (snapshot) extensions.set(snapshot.name, snapshot);
  }
  const graph = new RestoreGraph(state, machine, extensions, undo);
  findVfioDevices(graph, options.vfioDevices ?? []);
  const units = new RestoredUnits(graph);
  for (const context of state.contexts) graph.contexts.push(openContext(graph, context, options));
  loadContexts(graph, units);
  loadProcesses(graph);
  loadFiles(graph);
  units.link();
  const held = loadHeld(state.held, graph.contexts);
  for (const step of graph.commit) step();
  loadBus(state, options);
  return { processes: graph.processes, contexts: graph.contexts, held };
};

/** Plug in the missing devices, and put the memory in place. */
const loadMachine = (state: ScenarioState, machine: Machine, undo: (() => void)[]): void => {
  const before = machine.saveBus();
  const endpoints = [...machine.endpoints];
  undo.push(() => machine.loadBus(before, endpoints));
  for (const endpoint of state.bus.endpoints) {
    if (!machine.endpoint(endpoint.rid)) plugIn(endpoint, state, machine, undo);
  }
  const now = machine.memory.save();
  const pagesOf = (isRebuilt: boolean) =>
    machine.units
      .filter((_unit, index) => (state.units[index]?.state === undefined) === isRebuilt)
      .flatMap((unit) => machine.hostPagesOf(unit));
  const merged = mergeMemory(state.memory, now, {
    kept: pagesOf(true),
    dropped: state.units.flatMap(({ hostPages }) => hostPages),
    replaced: pagesOf(false),
  });
  undo.push(() => machine.memory.load(now, machine.memory.save()));
  machine.memory.load(merged, now);
};

/** A device of the saved machine that is not here. */
const plugIn = (
  saved: EndpointState,
  state: ScenarioState,
  machine: Machine,
  undo: (() => void)[],
): void => {
  const { rid, name, pasidBits, ats, pri, noSnoop, deviceTlbEntries, unit } = saved;
  const group = state.bus.groups[saved.group]?.key ?? '';
  const options = { rid, name, pasidBits, ats, pri, noSnoop, deviceTlbEntries, group };
  const endpoint = machine.addEndpoint(options);
  undo.push(() => machine.removeEndpoint(endpoint));
  if (unit >= 0) machine.attachToUnit(machine.units[unit] as IommuUnit, endpoint);
  checkEndpoint(endpoint, state, machine);
};

/** A context, empty, under the descriptor it had. */
const openContext = (
  graph: RestoreGraph,
  state: ContextState,
  { machine, ioctlExtensions = [] }: RestoreOptions,
): IommufdContext => {
  const extensions = state.extensions.map((name) => {
    const found = ioctlExtensions.find((extension) => extension.name === name);
    if (found) return found;
    throw misfit(`ioctl extension '${name}'`, 'not given', 'given to restore');
  });
  const process = graph.processes[state.process] as Process;
  const { noiommu, accountPerProcess, fd } = state;
  const context = new IommufdContext(process, machine, { extensions, noiommu }, fd);
  context.accountPerProcess = accountPerProcess;
  return context;
};

const loadContexts = (graph: RestoreGraph, units: RestoredUnits): void => {
  const loaders = graph.state.contexts.map(
    (state, index) => new ObjectLoader(graph, units, graph.context(index), state),
  );
  for (const loader of loaders) loader.load();
  graph.state.contexts.forEach((state, index) => {
    rebuildUnits(graph, units, graph.context(index), state);
  });
  for (const loader of loaders) loader.finish();
};

/** Numbers of groups, device TLBs, page requests on their way. */
const loadBus = (state: ScenarioState, options: RestoreOptions): void => {
  const { machine } = options;
  for (const endpoint of state.bus.endpoints) {
    const device = machine.endpoint(endpoint.rid) as Endpoint;
    device.load(endpoint, (prgi, code) => options.onPageResponse?.(device, prgi, code));
  }
  machine.loadBus(
    state.bus,
    state.bus.endpoints.map(({ rid }) => machine.endpoint(rid) as Endpoint),
  );
};
