/**
 * A domain that two units share moves to another machine: each unit finds it again under core's
 * number, and what one map call changes both still hear of.
 */
import {
  createMachine,
  createProcess,
  type Endpoint,
  HWPT_ALLOC,
  HWPT_DATA,
  IOAS_MAP,
  type IommufdContext,
  isIommuError,
  type Machine,
  openIommufd,
  type Process,
  restoreSnapshot,
  saveSnapshot,
} from '@iommukit/core';
import { expect, it } from 'vitest';
import { type VtdIommuUnit, vtd } from '../src/index.ts';

const PAGE = 4096;
const RIDS = ['00:04.0', '01:00.0'] as const;
const RW = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;

/** What a test holds on to. */
interface World {
  machine: Machine;
  process: Process;
  context: IommufdContext;
}

const makeMachine = (): Machine => {
  const machine = createMachine({ ramBytes: 2 ** 24 });
  for (const rid of RIDS) {
    machine.addUnit(vtd({ sanitize: true }), [machine.addEndpoint({ rid, pasidBits: 16 })]);
  }
  return machine;
};

const endpoints = ({ machine }: World) =>
  [0x0020, 0x0100].map((rid) => machine.endpoint(rid) as Endpoint);

/** First byte of a page as each device sees it; -1 = blocked. */
const look = (world: World, iova: number): number[] =>
  endpoints(world).map((device) => {
    const byte = new Uint8Array(1);
    return device.dmaRead(iova, byte) === 1 ? (byte[0] as number) : -1;
  });

const start = (flags: number) => {
  const machine = makeMachine();
  const process = createProcess(machine);
  const userVa = process.mmap({ length: 8 * PAGE });
  for (let page = 0; page < 8; page++) process.poke(userVa + page * PAGE, Uint8Array.of(page + 1));
  const context = openIommufd(process, machine);
  const world: World = { machine, process, context };
  const devIds = endpoints(world).map((device) => context.bindDevice(device));
  const ioasId = context.ioasAlloc().outIoasId;
  const [devId = 0] = devIds;
  const hwptId = context.hwptAlloc({ devId, ptId: ioasId, flags }).outHwptId;
  for (let iova = 0; iova < 4 * PAGE; iova += PAGE) {
    context.ioasMap({ ioasId, flags: RW, iova, userVa: userVa + iova, length: PAGE });
  }
  for (const id of devIds) context.deviceAttach(id, hwptId);
  return { world, userVa, devIds, ioasId, hwptId };
};

const migrate = (world: World): Uint8Array => {
  const bytes = saveSnapshot({ machine: world.machine, processes: [world.process] });
  const machine = makeMachine();
  const { processes, contexts } = restoreSnapshot(bytes, { machine });
  Object.assign(world, { machine, process: processes[0], context: contexts[0] });
  return bytes;
};

const findings = ({ machine }: World) =>
  machine.units.map((unit) => (unit as VtdIommuUnit).hardware.sanitizer?.findings.length);

it('one domain behind two units: both go on with one table and hear of every change', () => {
  const { world, userVa, devIds, ioasId, hwptId } = start(0);
  expect(look(world, PAGE)).toEqual([2, 2]);
  const bytes = migrate(world);
  const again = saveSnapshot({ machine: world.machine, processes: [world.process] });
  expect(Buffer.compare(again, bytes)).toBe(0);
  expect(look(world, PAGE)).toEqual([2, 2]);
  world.context.ioasUnmap({ ioasId, iova: PAGE, length: PAGE });
  expect(look(world, PAGE)).toEqual([-1, -1]);
  const mapped = { ioasId, flags: RW, iova: PAGE, userVa: userVa + 6 * PAGE, length: PAGE };
  world.context.ioasMap(mapped);
  expect(look(world, PAGE)).toEqual([7, 7]);
  world.context.deviceDetach(devIds[1] as number);
  expect(look(world, PAGE)).toEqual([7, -1]);
  world.context.deviceAttach(devIds[1] as number, hwptId);
  expect(look(world, PAGE)).toEqual([7, 7]);
  expect(findings(world)).toEqual([0, 0]);
});

it('a nested domain over a parent of another unit is not saved: EBUSY that says so', () => {
  const { world, userVa, devIds, hwptId } = start(HWPT_ALLOC.NEST_PARENT);
  const data = new Uint8Array(24);
  new DataView(data.buffer).setUint32(16, 48, true);
  world.process.poke(userVa, new Uint8Array(PAGE));
  const nested = { devId: devIds[1] as number, ptId: hwptId, dataType: HWPT_DATA.VTD_S1, data };
  world.context.hwptAlloc({ ...nested, flags: 0 });
  const pending = () => saveSnapshot({ machine: world.machine, processes: [world.process] });
  try {
    pending();
    expect.unreachable('the snapshot was taken');
  } catch (error) {
    if (!isIommuError(error)) throw error;
    expect([error.code, error.message]).toEqual([
      'EBUSY',
      expect.stringContaining('parent of another unit'),
    ]);
  }
});

it('a root table address with every bit set comes along', () => {
  const { world } = start(0);
  const unitOf = () => (world.machine.units[0] as VtdIommuUnit).hardware;
  unitOf().writeRegister64(0x20, 2n ** 64n - 1n);
  unitOf().writeReg32(0x18, 0xc600_0000);
  const before = endpoints(world).map((device) => device.dmaRead(0, new Uint8Array(1)));
  const bytes = migrate(world);
  const again = saveSnapshot({ machine: world.machine, processes: [world.process] });
  expect(Buffer.compare(again, bytes)).toBe(0);
  expect(unitOf().readRegister64(0x20) >> 63n).toBe(1n);
  expect(endpoints(world).map((device) => device.dmaRead(0, new Uint8Array(1)))).toEqual(before);
});
