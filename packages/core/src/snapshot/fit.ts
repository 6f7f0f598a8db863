/**
 * Whether a machine is one that a scenario can go on on: the same hardware, and nobody on it.
 * @module
 */
import type { Endpoint } from '../bus/endpoint.ts';
import type { Machine } from '../bus/machine.ts';
import { refuse } from '../errors.ts';
import { groupOwner } from '../iommufd/group.ts';
import { RESTORE_OP } from './envelope.ts';
import type { RegionState } from './memory-state.ts';
import { hwInfoOf } from './save-snapshot.ts';
import type { EndpointState, ScenarioState, UnitState } from './scenario-state.ts';

/** A refusal that names what differs. */
export const misfit = (what: string, got: string, wanted: string) =>
  refuse('EINVAL', RESTORE_OP, 'machine-differs', `${what} differs: ${got} here`, {
    value: got,
    accepted: wanted,
  });

const same = (what: string, got: number | boolean | string, wanted: number | boolean | string) => {
  if (got !== wanted) throw misfit(what, String(got), String(wanted));
};

/**
 * @throws {IommuError} EINVAL naming what differs; EBUSY when the machine is in use
 */
export const checkFits = (state: ScenarioState, machine: Machine): void => {
  checkIdle(machine);
  checkRegions(state.memory.regions, machine);
  same('number of IOMMUs', machine.units.length, state.units.length);
  state.units.forEach((unit, index) => {
    checkUnit(unit, machine, index);
  });
  for (const endpoint of machine.endpoints) checkEndpoint(endpoint, state, machine);
  same(
    'first free interrupt address',
    machine.saveBus().nextMessageAddress,
    state.bus.nextMessageAddress,
  );
};

const busy = (what: string) =>
  refuse('EBUSY', RESTORE_OP, 'machine-in-use', `${what}: a scenario needs a machine of its own`, {
    owner: what,
    accepted: 'a machine with endpoints and IOMMUs only',
  });

const checkIdle = (machine: Machine): void => {
  for (const { group, name } of machine.endpoints) {
    if (groupOwner(group)) throw busy(`an iommufd has ${name}`);
  }
  for (const { owners, pins } of machine.memory.pages.save()) {
    const isFree = (pairs: Int32Array) => pairs.every((value, i) => i % 2 === 0 || value === 0);
    if (!isFree(owners) || !isFree(pins)) throw busy('a process has memory');
  }
};

const regionText = ({ name, base, size }: RegionState): string =>
  `'${name}' of ${size} bytes at 0x${base.toString(16)}`;

const checkRegions = (regions: readonly RegionState[], machine: Machine): void => {
  const here = machine.memory.carriedRegions;
  same('number of memory regions', here.length, regions.length);
  regions.forEach((region, index) => {
    const other = here[index] as (typeof here)[number];
    const got = regionText({ ...other, frames: undefined, content: [] });
    same(`memory region ${index}`, got, regionText(region));
    same(`kind of memory region ${index}`, other.isRam, region.frames !== undefined);
  });
};

const checkUnit = (state: UnitState, machine: Machine, index: number): void => {
  const unit = machine.units[index] as (typeof machine.units)[number];
  const what = `IOMMU ${index} ('${state.name}')`;
  same(`driver of ${what}`, unit.driver.name, state.driver);
  same(`name of ${what}`, unit.name, state.name);
  same(`hw_info type of ${what}`, unit.driver.hwInfoType, state.hwInfoType);
  const { pageSizesLg2, ...caps } = state.caps;
  same(`page sizes of ${what}`, unit.caps.pageSizesLg2.join(), pageSizesLg2.join());
  for (const [name, value] of Object.entries(caps)) {
    same(`${name} of ${what}`, unit.caps[name as keyof typeof caps], value);
  }
  if (state.state && !unit.migration) {
    throw misfit(`migration of ${what}`, 'none', 'a driver with the group migration');
  }
};

/** @throws {IommuError} EINVAL naming what of a device differs */
export const checkEndpoint = (
  endpoint: Endpoint,
  { bus }: ScenarioState,
  machine: Machine,
): void => {
  const state = bus.endpoints.find(({ rid }) => rid === endpoint.rid);
  const what = `device ${endpoint.name}`;
  if (!state) throw misfit(what, 'on the bus', 'no such device');
  same(`name of ${what}`, endpoint.name, state.name);
  same(`PASID width of ${what}`, endpoint.pasidBits, state.pasidBits);
  same(`ATS of ${what}`, endpoint.ats, state.ats);
  same(`PRI of ${what}`, endpoint.pri, state.pri);
  same(`No Snoop of ${what}`, endpoint.noSnoop, state.noSnoop);
  same(`device TLB of ${what}`, endpoint.deviceTlb.capacity, state.deviceTlbEntries);
  const key = bus.groups[state.group]?.key ?? '';
  const known = machine.saveBus().groups.find(({ id }) => id === endpoint.group.id);
  same(`group of ${what}`, known?.key ?? '', key);
  checkUnitOf(endpoint, state, machine);
};

const checkUnitOf = (endpoint: Endpoint, state: EndpointState, machine: Machine): void => {
  const unit = machine.unitOf(endpoint);
  same(`IOMMU of ${endpoint.name}`, unit ? machine.units.indexOf(unit) : -1, state.unit);
  const got = unit && hwInfoOf(unit, endpoint);
  const text = (info: EndpointState['hwInfo']) =>
    info
      ? `type ${info.type}, ${[...info.data].map((byte) => byte.toString(16)).join(' ')}`
      : 'none';
  same(`hw_info of ${endpoint.name}`, text(got), text(state.hwInfo));
};
