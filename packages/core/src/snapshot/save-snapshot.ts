/**
 * Everything that a running scenario consists of, as bytes.
 * @module
 */
import type { Machine } from '../bus/machine.ts';
import type { IommuUnit } from '../driver/contract.ts';
import type { DriverObject } from '../driver/migration.ts';
import { isIommuError } from '../errors.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import type { Process } from '../memory/index.ts';
import { encodeState, wrap } from './envelope.ts';
import type { SnapshotExtension } from './extension.ts';
import { type Held, saveHeld } from './held.ts';
import { saveContext } from './save-context.ts';
import { SaveGraph } from './save-graph.ts';
import { saveOperations, saveProcess, saveVfioDevice } from './save-process.ts';
import { type BusState, SCENARIO, type ScenarioState, type UnitState } from './scenario-state.ts';

/** What {@link saveSnapshot} takes: a machine, and what the program holds on to. */
export interface SnapshotParts {
  readonly machine: Machine;
  /**
   * Processes, in the order in which the restored ones are returned. What they reach (descriptors,
   * contexts, files, other processes) is found from here.
   */
  readonly processes: readonly Process[];
  /** Contexts to be returned by position; others are found through processes. */
  readonly contexts?: readonly IommufdContext[];
  /** PASID allocators and policies by name. */
  readonly held?: Readonly<Record<string, Held>>;
  /** For open files of the program's own; those of ioctl extensions are known. */
  readonly extensions?: readonly SnapshotExtension[];
}

/**
 * Save a running scenario: machine memory, bus, units, processes with mappings and descriptors,
 * contexts with every object. Nothing changes by it. Functions are not part of it: listeners of
 * faults and interrupts, hooks of memory, reasons of the last refusal.
 *
 * @returns bytes for `restoreSnapshot`; equal scenarios give equal bytes
 * @throws {IommuError} EBUSY in the middle of a call, and when something is reached that nobody can
 *   save: the message names it
 */
export const saveSnapshot = (parts: SnapshotParts): Uint8Array =>
  wrap(encodeState(SCENARIO, scenarioOf(parts)));

const scenarioOf = (parts: SnapshotParts): ScenarioState => {
  const { machine } = parts;
  const graph = new SaveGraph(machine, parts.extensions ?? []);
  for (const process of parts.processes) graph.processes.of(process);
  for (const context of parts.contexts ?? []) graph.context(context);
  const held = saveHeld(graph, parts.held ?? {});
  const reached = saveReached(graph);
  return {
    ...reached,
    bus: saveBus(machine),
    units: saveUnits(machine, graph.contexts.all),
    memory: machine.memory.save(),
    memoryFiles: graph.memoryFiles.all.map((file) => file.save()),
    held,
    foreign: graph.foreignStates,
  };
};

/** Follow everything until nothing new is met. */
const saveReached = (graph: SaveGraph) => {
  const processes: ScenarioState['processes'] = [];
  const contexts: ScenarioState['contexts'] = [];
  const openFiles: ScenarioState['openFiles'] = [];
  const vfioDevices: ScenarioState['vfioDevices'] = [];
  const next = <T extends object, S>(things: readonly T[], states: S[], save: (thing: T) => S) => {
    const thing = things[states.length];
    if (thing) states.push(save(thing));
    return thing !== undefined;
  };
  while (
    next(graph.contexts.all, contexts, (each) => saveContext(graph, each)) ||
    next(graph.processes.all, processes, (each) => saveProcess(graph, each)) ||
    next(graph.vfioDevices.all, vfioDevices, (each) => saveVfioDevice(graph, each)) ||
    next(graph.openFiles.all, openFiles, ({ references, operations }) => ({
      references,
      operations: saveOperations(graph, operations),
    }))
  );
  return { processes, contexts, openFiles, vfioDevices };
};

const saveBus = (machine: Machine): BusState => {
  const bus = machine.saveBus();
  return {
    ...bus,
    endpoints: machine.endpoints.map((endpoint) => {
      const { rid, name, pasidBits, ats, pri, noSnoop, deviceTlb, group } = endpoint;
      const unit = machine.unitOf(endpoint);
      return {
        rid,
        name,
        pasidBits,
        ats,
        pri,
        noSnoop,
        deviceTlbEntries: deviceTlb.capacity,
        unit: unit ? machine.units.indexOf(unit) : -1,
        group: bus.groups.findIndex(({ id }) => id === group.id),
        hwInfo: unit && hwInfoOf(unit, endpoint),
        ...endpoint.save(),
      };
    }),
  };
};

/** What a unit says of a device; some say nothing. */
export const hwInfoOf = (
  unit: IommuUnit,
  device: Parameters<IommuUnit['hwInfo']>[0],
): { type: number; data: Uint8Array } | undefined => {
  try {
    const { type, data } = unit.hwInfo(device, 0);
    return { type, data };
  } catch (error) {
    if (isIommuError(error)) return undefined;
    throw error;
  }
};

/** Numbers of domains and vIOMMUs: contexts in order, their objects by id. */
const numbered = (contexts: readonly IommufdContext[]): Map<DriverObject, number> => {
  const numbers = new Map<DriverObject, number>();
  for (const context of contexts) {
    for (const { id, kind } of context.objects.all()) {
      if (kind === 'HWPT_PAGING' || kind === 'HWPT_NESTED') {
        numbers.set(context.find('save', id, kind).domain, numbers.size);
      } else if (kind === 'VIOMMU') {
        numbers.set(context.find('save', id, kind).backend, numbers.size);
      }
    }
  }
  return numbers;
};

const saveUnits = (machine: Machine, contexts: readonly IommufdContext[]): UnitState[] => {
  const numbers = numbered(contexts);
  return machine.units.map((unit) => {
    const { name, driver, caps, migration } = unit;
    const { pageSizesLg2, ...rest } = caps;
    return {
      name,
      driver: driver.name,
      hwInfoType: driver.hwInfoType,
      caps: { pageSizesLg2: [...pageSizesLg2], ...rest },
      state: migration?.save(numbers),
      hostPages: migration ? [] : machine.hostPagesOf(unit),
    };
  });
};
