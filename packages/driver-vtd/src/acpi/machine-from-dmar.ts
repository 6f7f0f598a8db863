/**
 * A machine as its firmware describes it.
 *
 * @spec VT-d 8
 */
import {
  createMachine,
  type Endpoint,
  type EndpointOptions,
  formatRid,
  type Machine,
  type MachineOptions,
  parseRid,
  refuse,
} from '@iommukit/core';
import { featuresOf } from '../hardware/index.ts';
import { type VtdIommuUnit, type VtdOptions, vtd } from '../vtd.ts';
import { atsPermitted } from './ats-permission.ts';
import { checkDmar } from './check-dmar.ts';
import type { Drhd } from './drhd.ts';
import { namedDevices, type UnresolvedScope } from './named-devices.ts';
import { type PciBridge, PciTopology } from './pci-topology.ts';
import { type DmarProblem, formatDmarProblem } from './problems.ts';
import { ridsOf, toReservedMemory } from './reserved-memory.ts';
import type { DmarStructure, DmarTable } from './structures.ts';
import { UnitScopes } from './unit-scopes.ts';

/** What a table does not say about a machine. */
export interface DmarMachineOptions extends MachineOptions {
  /** Devices on the bus; default none but those the table names. */
  readonly devices?: readonly EndpointOptions[];
  /** Bridges and root ports, for scopes with longer paths or whole sub-hierarchies. */
  readonly bridges?: readonly PciBridge[];
  /** Also make a device of every endpoint and ACPI device that the table names; default true. */
  readonly namedDevices?: boolean;
  /** The PCI segment to build, of those in the table; default 0. */
  readonly segment?: number;
  /** Options of a unit, its capability registers for instance. */
  readonly unit?: (unit: Drhd, index: number) => Omit<VtdOptions, 'rmrrs' | 'hostAddressBits'>;
  /** Whether a device needs its reserved memory only until a driver takes over (USB, graphics). */
  readonly relaxable?: (rid: number) => boolean;
  /** Build also from a table with errors, without the parts that cannot be used. */
  readonly acceptErrors?: boolean;
}

/** A remapping unit of a machine. */
export interface DmarUnit {
  readonly drhd: Drhd;
  readonly unit: VtdIommuUnit;
  readonly endpoints: readonly Endpoint[];
}

/** A machine built from a table. */
export interface DmarMachine {
  readonly machine: Machine;
  /** In the order of their DRHDs. */
  readonly units: readonly DmarUnit[];
  /** Devices that no unit of the table has: their DMA is not translated. */
  readonly withoutUnit: readonly Endpoint[];
  /** Devices with ATS that firmware does not let use it: they are on the bus without. */
  readonly atsWithheld: readonly Endpoint[];
  /** Scopes whose path the bus does not have. */
  readonly unresolved: readonly UnresolvedScope[];
  /** What `checkDmar` says of the table. */
  readonly problems: readonly DmarProblem[];
}

const OP = 'machineFromDmar';

/** Interrupt messages: the machine has this many addresses, one per unit. */
const MAX_UNITS = 256;
/** Address space that each unit's tables set aside, in the upper half. */
const POOL_BYTES = 2 ** 32;
const RAM_BYTES = 64 * 2 ** 20;
const RAM_BASE = 4 * 2 ** 30;

/**
 * Build the machine that a DMAR table describes: a unit per DRHD, each with its devices and the
 * memory reserved for them; the one with INCLUDE_PCI_ALL takes the devices that no other names.
 *
 * @throws {IommuError} EINVAL for a table with errors (unless `acceptErrors`), without unit in the
 *   segment, or whose address width does not reach RAM and tables; what `vtd` throws
 */
export const machineFromDmar = (
  table: DmarTable,
  options: DmarMachineOptions = {},
): DmarMachine => {
  const problems = checkDmar(table);
  if (!options.acceptErrors) refuseErrors(problems);
  const plan = planMachine(table, options);
  const machine = createMachine(options);
  const atsWithheld = addDevices(machine, plan);
  const units = addUnits(machine, plan, options.relaxable);
  const withoutUnit = machine.endpoints.filter((endpoint) => !machine.unitOf(endpoint));
  return { machine, units, withoutUnit, atsWithheld, unresolved: plan.unresolved, problems };
};

/** Everything decided before the first device is made. */
interface Plan extends WantedDevices {
  readonly structures: readonly DmarStructure[];
  readonly topology: PciTopology;
  readonly scopes: UnitScopes;
  /** Units with what {@link vtd} takes, but for reserved memory. */
  readonly units: ReadonlyMap<Drhd, VtdOptions>;
}

const planMachine = (table: DmarTable, options: DmarMachineOptions): Plan => {
  const structures = ofSegment(table.structures, options.segment ?? 0);
  const drhds = structures.filter((one): one is Drhd => one.kind === 'DRHD');
  checkRoom(table, drhds.length, options);
  const topology = new PciTopology(options.bridges ?? []);
  const hostAddressBits = table.hostAddressWidthBits;
  const units = drhds.map((drhd, index): [Drhd, VtdOptions] => [
    drhd,
    { ...options.unit?.(drhd, index), hostAddressBits },
  ]);
  return {
    structures,
    topology,
    scopes: new UnitScopes(drhds, topology),
    units: new Map(units),
    ...wantedDevices(structures, topology, options),
  };
};

/** @returns devices that had to give up ATS, and PRI with it */
const addDevices = (machine: Machine, plan: Plan): Endpoint[] => {
  const { structures, topology, scopes, units } = plan;
  const withheld: Endpoint[] = [];
  for (const [rid, device] of plan.devices) {
    const owner = scopes.unitOf(rid);
    const scalable = owner !== undefined && isScalable(units.get(owner) ?? {});
    const permitted = !device.ats || atsPermitted(structures, topology, rid, scalable);
    const without = { ...device, ats: false, pri: false };
    const endpoint = machine.addEndpoint(permitted ? device : without);
    if (!permitted) withheld.push(endpoint);
  }
  return withheld;
};

const addUnits = (
  machine: Machine,
  { structures, topology, scopes, units }: Plan,
  relaxable: DmarMachineOptions['relaxable'],
): DmarUnit[] => {
  const rmrrs = structures.flatMap((one) =>
    one.kind === 'RMRR'
      ? toReservedMemory(one, ridsOf(one.scopes, topology, machine.endpoints), relaxable)
      : [],
  );
  return [...units].map(([drhd, options]) => {
    const endpoints = machine.endpoints.filter(({ rid }) => scopes.unitOf(rid) === drhd);
    const unit = machine.addUnit(vtd({ ...options, rmrrs }), endpoints) as VtdIommuUnit;
    return { drhd, unit, endpoints };
  });
};

const refuseErrors = (problems: readonly DmarProblem[]): void => {
  const errors = problems.filter(({ severity }) => severity === 'error');
  const [first] = errors;
  if (!first) return;
  const more = errors.length > 1 ? `, and ${errors.length - 1} more` : '';
  throw refuse('EINVAL', OP, first.rule, `${formatDmarProblem(first)}${more}`, {
    value: first.value,
    accepted: 'a table without errors, or acceptErrors: true',
  });
};

/** Structures of a segment, and those that belong to none. */
const ofSegment = (structures: readonly DmarStructure[], segment: number): DmarStructure[] =>
  structures.filter((one) => !('segment' in one) || one.segment === segment);

const checkRoom = (table: DmarTable, units: number, options: DmarMachineOptions): void => {
  const limit = 2 ** table.hostAddressWidthBits;
  const ramEnd = (options.ramBase ?? RAM_BASE) + (options.ramBytes ?? RAM_BYTES);
  const most = Math.min(MAX_UNITS, Math.floor(limit / 2 / POOL_BYTES));
  if (units === 0 || units > most) {
    throw refuse('EINVAL', OP, 'units', `segment ${options.segment ?? 0} has ${units} units`, {
      value: units,
      accepted: `1 to ${most} with addresses of ${table.hostAddressWidthBits} bits`,
    });
  }
  if (ramEnd <= limit) return;
  throw refuse('EINVAL', OP, 'ram-range', 'RAM ends above the host address width', {
    value: ramEnd,
    accepted: `ramBase + ramBytes up to 2^${table.hostAddressWidthBits}`,
  });
};

interface WantedDevices {
  readonly devices: ReadonlyMap<number, EndpointOptions>;
  readonly unresolved: readonly UnresolvedScope[];
}

/** The caller's devices, then those of the table that the caller did not list. */
const wantedDevices = (
  structures: readonly DmarStructure[],
  topology: PciTopology,
  options: DmarMachineOptions,
): WantedDevices => {
  const devices = new Map<number, EndpointOptions>();
  for (const device of options.devices ?? []) {
    const rid = typeof device.rid === 'string' ? parseRid(device.rid) : device.rid;
    if (devices.has(rid)) {
      throw refuse('EINVAL', OP, 'device-twice', `the device ${formatRid(rid)} is listed twice`);
    }
    devices.set(rid, device);
  }
  const named = namedDevices(structures, topology);
  if (options.namedDevices ?? true) {
    for (const [rid, device] of named.devices) {
      const listed = devices.get(rid);
      if (!listed) devices.set(rid, device);
      else if (device.name && !listed.name) devices.set(rid, { ...listed, name: device.name });
    }
  }
  return { devices, unresolved: named.unresolved };
};

const isScalable = ({ scalable, capabilities }: VtdOptions): boolean =>
  (scalable ?? true) && featuresOf(capabilities).scalable;
