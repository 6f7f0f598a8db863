/** Snapshots of scenarios on mock hardware: what comes along, what is refused, damaged bytes. */
import {
  Access,
  createMachine,
  createProcess,
  DevicePasids,
  ENQCMD_INITIAL,
  type Endpoint,
  enqcmdMap,
  exitProcess,
  filesOf,
  GuestPasids,
  HostPasids,
  HWPT_ALLOC,
  type IommufdContext,
  type IommuUnit,
  inspectSnapshot,
  isIommuError,
  type Machine,
  OpenFile,
  openIommufd,
  PASID_DEVICE_TYPE,
  type Process,
  restoreSnapshot,
  SoftwareNesting,
  saveSnapshot,
} from '@iommukit/core';
import { amdvi } from '@iommukit/driver-amdvi';
import { smmuv3 } from '@iommukit/driver-smmuv3';
import { iommuTest, MOCK_TYPE, mockDriver } from '@iommukit/driver-testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FIXED_RW, MEMORY, nestedSetup, refusalOf } from './machine.ts';

const PAGE = 4096;
const RAM_BYTES = 2 ** 23;

/** A machine as `nestedSetup` makes it, with nobody on it. */
const emptyMachine = (change: { ramBytes?: number; pasidBits?: number; unit?: boolean } = {}) => {
  const machine = createMachine({ ramBytes: change.ramBytes ?? RAM_BYTES });
  const pasidBits = change.pasidBits ?? 20;
  machine.addEndpoint({ rid: '00:04.0', pasidBits, ats: true, pri: true });
  if (change.unit !== false) machine.addUnit(mockDriver());
  return machine;
};

/** Mappings, an access, a vIOMMU with queue, events and page, faults in every state. */
const busyScenario = () => {
  const made = nestedSetup();
  const { context, devId, ioasId, parentId, nestedId, nic, unit, process } = made;
  context.ioasMap({ ioasId, flags: FIXED_RW, iova: 0x200_0000, userVa: MEMORY, length: 8 * PAGE });
  context.deviceAttach(devId, nestedId);
  context.deviceAttach(devId, parentId, 7);
  const data = new Uint8Array(24);
  const viommu = { type: MOCK_TYPE.VIOMMU, devId, hwptId: parentId, data };
  const { outViommuId: viommuId } = context.viommuAlloc(viommu);
  context.vdeviceAlloc({ viommuId, devId, virtId: 0x99n });
  const queue = { viommuId, type: MOCK_TYPE.VEVENTQ, veventqDepth: 2 };
  context.veventqAlloc(queue);
  const place = { nestingParentIova: 0x200_0000, length: PAGE };
  context.hwQueueAlloc({ viommuId, type: MOCK_TYPE.HW_QUEUE, index: 0, ...place });
  const page = [{ iova: 0x5000, write: true }];
  nic.requestPages(page, {}, () => {});
  made.faults.queue.readFaults();
  nic.requestPages(page, {}, () => {});
  nic.dmaWrite(0x200_0000, Uint8Array.of(1, 2, 3));
  return { ...made, viommuId, unit, process };
};

const save = (machine: Machine, process: Process, context?: IommufdContext) =>
  saveSnapshot({ machine, processes: [process], ...(context && { contexts: [context] }) });

const restore = (bytes: Uint8Array, machine: Machine) =>
  restoreSnapshot(bytes, { machine, ioctlExtensions: [iommuTest()] });

/** Rule and message of a refusal. */
const reasonOf = (call: () => unknown): string => {
  try {
    call();
    return 'ok';
  } catch (error) {
    if (!isIommuError(error)) throw error;
    return `${error.code} ${error.reason.rule}: ${error.reason.message}`;
  }
};

describe('restoring', () => {
  it('gives the same ids, counts and answers, and the same bytes when saved again', () => {
    const { context, process } = busyScenario();
    const { machine } = context;
    const bytes = save(machine, process, context);
    const fresh = emptyMachine();
    const [moved] = restore(bytes, fresh).contexts as [IommufdContext];
    expect(Buffer.compare(save(fresh, moved.process, moved), bytes)).toBe(0);
    const describeAll = (from: IommufdContext) =>
      from.objects.all().map(({ id, kind, users }) => `${id} ${kind} ${users}`);
    expect(describeAll(moved)).toEqual(describeAll(context));
    const look = (from: IommufdContext): unknown[] => {
      const nic = from.machine.endpoint(0x20) as Endpoint;
      const queue = from.find('test', 4, 'FAULT');
      const out = new Uint8Array(3);
      return [
        nic.dmaRead(0x200_0000, out, { pasid: 7 }),
        [...out],
        queue.readFaults(),
        queue.respond(1, 0),
        from.ioasAlloc(),
        refusalOf(() => from.ioasUnmap({ ioasId: 2, iova: 0x200_0000, length: 8 * PAGE })),
        from.process.vmPinKiB,
        from.process.mmap({ length: PAGE }),
      ];
    };
    expect(look(moved)).toEqual(look(context));
    exitProcess(moved.process);
    expect(moved.objects.all()).toEqual([]);
    expect(fresh.endpoints.map(({ name }) => name)).toEqual(['00:04.0']);
  });

  it('software nesting, PASIDs given out and PASID policies come along', () => {
    const { context, devId, process, nic } = nestedSetup();
    const { outIoasId: ioasId } = context.ioasAlloc();
    context.ioasMap({
      ioasId,
      flags: FIXED_RW,
      iova: 0x300_0000,
      userVa: MEMORY,
      length: 4 * PAGE,
    });
    const nesting = new SoftwareNesting(context, ioasId);
    nesting.map({ iova: 0x500_0000, parentIova: 0x300_1000, length: PAGE });
    const pasids = new DevicePasids(context, devId);
    const { outHwptId } = context.hwptAlloc({
      devId,
      ptId: nesting.shadow.id,
      flags: HWPT_ALLOC.PASID,
    });
    const pasid = pasids.request(outHwptId);
    const host = new HostPasids();
    const guest = new GuestPasids(host);
    guest.addDevice({ name: 'a', rid: 0x10, type: PASID_DEVICE_TYPE.MDEV_ENQCMD });
    const { ppasid } = guest.attach('a', 3);
    const enqcmd = enqcmdMap(ENQCMD_INITIAL, 3, ppasid);
    nic.dmaWrite(0x500_0000, Uint8Array.of(42), { pasid });
    const held = { guest, host, pasids, enqcmd };
    const bytes = saveSnapshot({ machine: context.machine, processes: [process], held });

    const machine = emptyMachine();
    const moved = restore(bytes, machine);
    const [there] = moved.contexts as [IommufdContext];
    const out = new Uint8Array(1);
    const device = machine.endpoint(0x20) as Endpoint;
    expect([device.dmaRead(0x500_0000, out, { pasid }), out[0]]).toEqual([1, 42]);
    const child = SoftwareNesting.of(there, nesting.shadow.id);
    expect(child.mappingCount).toBe(1);
    expect(child.unmap(0x500_0000, PAGE)).toBe(4096n);
    expect(device.dmaRead(0x500_0000, out, { pasid })).toBe(0);
    const { guest: policy, pasids: given, enqcmd: gate } = moved.held as typeof held;
    expect(policy.ppasidOf('a', 3)).toBe(ppasid);
    expect([...gate.ppasids]).toEqual([[3, ppasid]]);
    expect(given.request(outHwptId)).toBe(pasid + 1);
    given.release(pasid);
    expect(reasonOf(() => SoftwareNesting.of(there, ioasId))).toContain('no-shadow');
  });

  it.each([
    ['amdvi', amdvi],
    ['smmuv3', smmuv3],
  ])('%s, which has no bytes of its own, is rebuilt', (_name, driver) => {
    const make = () => {
      const machine = createMachine({ ramBytes: 2 ** 24 });
      const nic = machine.addEndpoint({ rid: '00:04.0' });
      machine.addUnit(driver());
      return { machine, nic };
    };
    const { machine, nic } = make();
    const process = createProcess(machine);
    const userVa = process.mmap({ length: 16 * PAGE });
    const context = openIommufd(process, machine);
    const devId = context.bindDevice(nic);
    const { outIoasId: ioasId } = context.ioasAlloc();
    context.ioasMap({ ioasId, flags: FIXED_RW, iova: 0x40_0000, userVa, length: 16 * PAGE });
    context.deviceAttach(devId, ioasId);
    nic.dmaWrite(0x40_3000, Uint8Array.of(5));

    const fresh = make();
    const moved = restore(save(machine, process), fresh.machine);
    const [there] = moved.contexts as [IommufdContext];
    const out = new Uint8Array(1);
    expect([fresh.nic.dmaRead(0x40_3000, out), out[0]]).toEqual([1, 5]);
    fresh.nic.dmaWrite(0x40_5000, Uint8Array.of(9));
    expect(there.process.peek(userVa + 5 * PAGE, 1)).toEqual(Uint8Array.of(9));
    there.ioasUnmap({ ioasId, iova: 0x40_0000, length: 16 * PAGE });
    expect(fresh.nic.dmaRead(0x40_3000, out)).toBe(0);
    expect(there.process.vmPinKiB).toBe(0);
    exitProcess(there.process);
    machine.memory.freePages(machine.memory.allocPages(1), 1);
    exitProcess(process);
    expect(fresh.machine.memory.freePageCount).toBe(machine.memory.freePageCount);
  });

  it('devices that are missing are plugged in, and out again when something is refused', () => {
    const machine = emptyMachine();
    const late = { rid: '00:0a.0', noSnoop: true, group: 'late' };
    machine.attachToUnit(machine.units[0] as IommuUnit, machine.addEndpoint(late));
    const process = createProcess(machine);
    const context = openIommufd(process, machine, { extensions: [iommuTest()] });
    context.bindDevice(machine.endpoint(0x50) as Endpoint);
    const bytes = save(machine, process);
    const fresh = emptyMachine();
    expect(reasonOf(() => restoreSnapshot(bytes, { machine: fresh }))).toContain('EINVAL');
    expect(fresh.endpoints.map(({ name }) => name)).toEqual(['00:04.0']);
    const [moved] = restore(bytes, fresh).contexts as [IommufdContext];
    expect(fresh.endpoint(0x50)).toMatchObject({ name: '00:0a.0', noSnoop: true });
    expect(Buffer.compare(save(fresh, moved.process), bytes)).toBe(0);
  });

  it('ids lost with their device stay lost, pins of accesses stay pinned', () => {
    const { context, devId, parentId, process, ioasId } = nestedSetup();
    const viommu = { type: MOCK_TYPE.VIOMMU, devId, hwptId: parentId };
    const { outViommuId: viommuId } = context.viommuAlloc(viommu);
    const { outVdeviceId } = context.vdeviceAlloc({ viommuId, devId, virtId: 1n });
    context.unbindDevice(devId);
    context.ioasMap({ ioasId, flags: FIXED_RW, iova: 0x200_0000, userVa: MEMORY, length: PAGE });
    const access = Access.create(context, { needsPin: true, unmap: () => {} });
    access.attach('test', context.find('test', ioasId, 'IOAS'));
    access.pinPages('test', 0x200_0000, PAGE, true);
    const machine = emptyMachine();
    const [moved] = restore(save(context.machine, process), machine).contexts as [IommufdContext];
    const made = Array.from({ length: 8 }, () => moved.ioasAlloc().outIoasId);
    expect(made).not.toContain(outVdeviceId);
    expect(made).toEqual(Array.from({ length: 8 }, () => context.ioasAlloc().outIoasId));
    const whole = { ioasId, iova: 0x200_0000, length: PAGE };
    expect(refusalOf(() => moved.ioasUnmap(whole))).toBe('EDEADLOCK access-holds-pages');
    const there = moved.find('test', access.id, 'ACCESS');
    there.onUnmap((iova, length) => there.unpinPages(iova, length));
    expect(refusalOf(() => moved.ioasUnmap(whole))).toBe('ok');
  });

  it('says what a snapshot is of', () => {
    const { context, process } = busyScenario();
    const summary = inspectSnapshot(save(context.machine, process));
    expect(summary.units).toEqual([{ name: 'mock', driver: 'mock', hasState: true }]);
    expect(summary.ioctlExtensions).toEqual(['IOMMU_TEST_CMD']);
    expect(summary).toMatchObject({ contexts: 1, processes: 1, extensions: [], held: [] });
    expect(summary.endpoints).toMatchObject([{ rid: 0x20, unit: 0, group: 'rid 32' }]);
  });
});

describe('refusals leave the machine as it was, and name what differs', () => {
  const { context, process } = busyScenario();
  const bytes = save(context.machine, process);

  it.each<[string, () => Machine, string]>([
    ['a missing unit', () => emptyMachine({ unit: false }), 'number of IOMMUs differs: 0 here'],
    ['other memory', () => emptyMachine({ ramBytes: 2 ** 22 }), 'memory region 0 differs'],
    ['another device', () => emptyMachine({ pasidBits: 8 }), 'PASID width of device 00:04.0'],
    [
      'a device too many',
      () => {
        const machine = emptyMachine();
        machine.addEndpoint({ rid: '00:09.0' });
        return machine;
      },
      'device 00:09.0 differs: on the bus here',
    ],
    [
      'another driver',
      () => {
        const machine = emptyMachine({ unit: false });
        machine.addUnit(amdvi());
        return machine;
      },
      "driver of IOMMU 0 ('mock') differs: amd-vi here",
    ],
    [
      'a machine with a process',
      () => {
        const machine = emptyMachine();
        createProcess(machine).poke(
          createProcess(machine).mmap({ length: PAGE }),
          Uint8Array.of(1),
        );
        const user = createProcess(machine);
        user.poke(user.mmap({ length: PAGE }), Uint8Array.of(1));
        return machine;
      },
      'EBUSY machine-in-use: a process has memory',
    ],
    [
      'a machine with interrupts of its own',
      () => {
        const machine = emptyMachine();
        machine.allocMessageAddress(() => {});
        return machine;
      },
      'first free interrupt address differs',
    ],
  ])('%s', (_title, make, reason) => {
    const machine = make();
    const before = save(machine, createProcess(machine));
    expect(reasonOf(() => restore(bytes, machine))).toContain(reason);
    expect(Buffer.compare(save(machine, createProcess(machine)), before)).toBe(0);
  });

  it('an extension that is not given; the same machine serves afterwards', () => {
    const machine = emptyMachine();
    const reason = "ioctl extension 'IOMMU_TEST_CMD' differs: not given here";
    expect(reasonOf(() => restoreSnapshot(bytes, { machine }))).toContain(reason);
    expect(reasonOf(() => restore(bytes, machine))).toBe('ok');
    expect(reasonOf(() => restore(bytes, machine))).toContain('EBUSY machine-in-use');
  });

  it('saving refuses an open file that nobody can save', () => {
    filesOf(process).install(new OpenFile({ name: 'my device' }));
    expect(reasonOf(() => save(context.machine, process))).toContain("an open file 'my device'");
    filesOf(process).close(filesOf(process).nextFd - 1);
  });
});

describe('damaged bytes', () => {
  const { context, process } = busyScenario();
  const bytes = save(context.machine, process);
  const machine = emptyMachine();
  const before = save(machine, createProcess(machine));

  const refused = (damaged: Uint8Array): void => {
    expect(reasonOf(() => restore(damaged, machine))).not.toBe('ok');
    expect(reasonOf(() => inspectSnapshot(damaged))).not.toBe('ok');
  };

  it('cut off anywhere, longer, or with one byte changed, they are refused', () => {
    const at = fc.nat({ max: bytes.length - 1 });
    fc.assert(
      fc.property(at, fc.integer({ min: 1, max: 255 }), (place, change) => {
        refused(bytes.subarray(0, place));
        const changed = bytes.slice();
        changed[place] = (changed[place] as number) ^ change;
        refused(changed);
      }),
      { numRuns: 60 },
    );
    refused(new Uint8Array(0));
    refused(Uint8Array.from([...bytes, 0]));
    expect(Buffer.compare(save(machine, createProcess(machine)), before)).toBe(0);
  });

  it('another version is named', () => {
    const other = bytes.slice();
    other[8] = 2;
    expect(reasonOf(() => restore(other, machine))).toBe(
      'EINVAL snapshot-version: the snapshot has version 2',
    );
  });

  it('with the checksum made right, they are refused or restore something that works', () => {
    let refusals = 0;
    const word = fc.constantFrom(0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff);
    const interesting = Math.min(bytes.length - 36, 6000);
    fc.assert(
      fc.property(fc.nat({ max: interesting }), word, (place, value) => {
        const state = bytes.slice(32);
        new DataView(state.buffer).setUint32(state.length - 4 - place, value, true);
        const target = emptyMachine();
        const empty = save(target, createProcess(target));
        const reason = reasonOf(() => restore(sealed(state), target));
        if (reason === 'ok') return;
        refusals++;
        expect(Buffer.compare(save(target, createProcess(target)), empty)).toBe(0);
      }),
      { numRuns: 150 },
    );
    expect(refusals).toBeGreaterThan(30);
  });
});

/** A header that is right for any state. */
const sealed = (state: Uint8Array): Uint8Array => {
  const out = new Uint8Array(32 + state.length);
  const view = new DataView(out.buffer);
  out.set(new TextEncoder().encode('iommukit'));
  view.setUint32(8, 1, true);
  view.setUint32(16, state.length, true);
  view.setUint32(24, crc32(state), true);
  view.setUint32(28, crc32(out.subarray(0, 28)), true);
  out.set(state, 32);
  return out;
};

/** CRC-32, bit by bit. */
const crc32 = (bytes: Uint8Array): number => {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
  }
  return ~crc >>> 0;
};
