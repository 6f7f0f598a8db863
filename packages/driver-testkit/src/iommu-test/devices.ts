/**
 * Test operations that make mock devices and move them between page tables.
 * @module
 */
import {
  bindDevice,
  type Call,
  changePageTable,
  detachDevice,
  type Endpoint,
  type IommufdContext,
  type IommufdDevice,
  type IommufdObject,
  type Machine,
  unbindDevice,
} from '@iommukit/core';
import { MOCK_DEVICE_FLAG, MOCK_PASID_BITS } from '../mock/constants.ts';
import { mockDriver } from '../mock/driver.ts';
import { MockUnit } from '../mock/unit.ts';
import { TEST_OP, type TestCommand } from './command.ts';

const KNOWN_FLAGS = MOCK_DEVICE_FLAG.NO_DIRTY | MOCK_DEVICE_FLAG.PASID;
const LAST_RID = 0xffff;

/** A mock device with the binding that the test command made. */
export class SelftestDevice implements IommufdObject {
  readonly kind = 'SELFTEST';
  readonly id: number;
  users = 0;
  readonly device: IommufdDevice;
  readonly endpoint: Endpoint;

  constructor(id: number, device: IommufdDevice, endpoint: Endpoint) {
    this.id = id;
    this.device = device;
    this.endpoint = endpoint;
  }

  destroy(): void {
    unbindDevice(this.device);
    this.device.context.machine.removeEndpoint(this.endpoint);
  }
}

/** The mock unit of a machine, brought up when first asked for. */
const mockUnitOf = (machine: Machine): MockUnit => {
  const unit = machine.units.find((known) => known instanceof MockUnit);
  return (unit ?? machine.addUnit(mockDriver(), [])) as MockUnit;
};

const addMockEndpoint = (machine: Machine, flags: number): Endpoint => {
  const unit = mockUnitOf(machine);
  let rid = LAST_RID;
  while (machine.endpoint(rid)) rid--;
  unit.flagsByRid.set(rid, flags);
  const pasidBits = flags & MOCK_DEVICE_FLAG.PASID ? MOCK_PASID_BITS : 0;
  const endpoint = machine.addEndpoint({ rid, name: `mock${LAST_RID - rid}`, pasidBits });
  machine.attachToUnit(unit, endpoint);
  return endpoint;
};

/** MOCK_DOMAIN, MOCK_DOMAIN_FLAGS: a new device, bound and attached. */
export const mockDomain = (command: TestCommand): void => {
  const { call } = command;
  const { context } = call;
  const flags = command.op === TEST_OP.MOCK_DOMAIN_FLAGS ? command.u32(28) : 0;
  const device = context.objects.reserveFor(call.op, (id) => {
    if (flags & ~KNOWN_FLAGS) {
      throw command.refuse('EINVAL', 'mock-device-flags', 'unknown device flags', flags);
    }
    const made = bindNewDevice(call, id, flags);
    try {
      command.set(20, changePageTable(call.op, made.device, 0, command.id, 'attach'));
    } catch (error) {
      made.destroy();
      throw error;
    }
    return made;
  });
  command.set(16, device.id);
  command.set(24, device.device.id);
  context.objects.install(device);
  call.undo = () => context.destroyObject(device);
};

const bindNewDevice = (call: Call, id: number, flags: number): SelftestDevice => {
  call.checkAllocation('a mock device');
  const { context } = call;
  const endpoint = addMockEndpoint(context.machine, flags);
  try {
    return new SelftestDevice(id, bindDevice(context, call.op, endpoint), endpoint);
  } catch (error) {
    context.machine.removeEndpoint(endpoint);
    throw error;
  }
};

const selftestDevice = (call: Call, id: number): SelftestDevice =>
  call.context.find(call.op, id, 'SELFTEST') as SelftestDevice;

/** MOCK_DOMAIN_REPLACE. */
export const mockDomainReplace = (command: TestCommand): void => {
  const { call } = command;
  const { device } = selftestDevice(call, command.id);
  command.set(16, changePageTable(call.op, device, 0, command.u32(16), 'replace'));
};

/** PASID_ATTACH, PASID_REPLACE. */
export const pasidChange = (command: TestCommand, mode: 'attach' | 'replace'): void => {
  const { call } = command;
  const { device } = selftestDevice(call, command.id);
  const pasid = command.u32(16);
  command.set(20, changePageTable(call.op, device, pasid, command.u32(20), mode));
  if (mode === 'attach') call.undo = () => detachDevice(device, pasid);
};

/** PASID_DETACH. */
export const pasidDetach = (command: TestCommand): void => {
  const { device } = selftestDevice(command.call, command.id);
  detachDevice(device, command.u32(16));
};

/** PASID_CHECK_HWPT: is this HWPT attached under a PASID (0 = none)? */
export const pasidCheckHwpt = (command: TestCommand): void => {
  const { call } = command;
  const { context } = call;
  const { device } = selftestDevice(call, command.id);
  const attached = device.group.hwptAt(command.u32(16));
  const wanted = command.u32(20);
  const object = wanted === 0 ? undefined : findObject(context, call.op, wanted);
  if (attached === object) return;
  throw command.refuse('EINVAL', 'pasid-hwpt', 'another HWPT is attached', wanted);
};

const findObject = (context: IommufdContext, op: string, id: number) => {
  const object = context.objects.get(id);
  if (object) return object;
  throw context.objects.missing(op, id, ['HWPT_PAGING', 'HWPT_NESTED']);
};
