/** Faults that somebody repairs: stalled transactions and page requests, from the device and back. */
import {
  ACCESS,
  createMachine,
  createProcess,
  DMA_STATE,
  type Endpoint,
  HWPT_ALLOC,
  IOAS_MAP,
  MAP_FLAG,
  openIommufd,
  PAGE_RESPONSE,
  type PageRequest,
  type UnrecoverableFault,
} from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { type SmmuOptions, smmuv3 } from '../../src/index.ts';
import { CD_OF, guest, LEAF_OF, PAGE_OF, refusalOf, VA } from './guest.ts';

const MEMORY = 0x10_0000_0000;
const IOVA = 0x1234_5000;
const RW = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
const RID = 0x20;
const STALLS = { capabilities: { idr0: { STALL_MODEL: 0 }, idr5: { STALL_MAX: 16 } } } as const;
const BYTES = Uint8Array.of(1, 2, 3, 4);

/** A device on an empty address space with a fault queue. */
const setUp = (options: SmmuOptions, traits: object, withQueue = true) => {
  const machine = createMachine({ ramBytes: 2 ** 25 });
  const nic = machine.addEndpoint({ rid: '00:04.0', pasidBits: 16, ...traits });
  const unit = machine.addUnit(smmuv3(options));
  const faults: UnrecoverableFault[] = [];
  machine.onFault((fault) => faults.push(fault));
  const process = createProcess(machine);
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  process.mmap({ addr: MEMORY, length: 16 * 4096, flags });
  const context = openIommufd(process, machine);
  const devId = context.bindDevice(nic);
  const { outIoasId: ioasId } = context.ioasAlloc();
  const { outFaultId: faultId, queue } = context.faultQueueAlloc();
  const alloc = (extra = 0) =>
    context.hwptAlloc({
      devId,
      ptId: ioasId,
      flags: extra | (withQueue ? HWPT_ALLOC.FAULT_ID_VALID : 0),
      ...(withQueue && { faultId }),
    }).outHwptId;
  const map = (iova = IOVA) =>
    context.ioasMap({ ioasId, flags: RW, userVa: MEMORY, length: 4096, iova });
  const memory = () => process.peek(MEMORY, 4);
  return { machine, nic, unit, faults, context, devId, ioasId, queue, alloc, map, memory };
};

const stalling = (withQueue = true) => setUp({ ...STALLS, stallSids: [RID] }, {}, withQueue);

describe('stalled transactions (3.12.2)', () => {
  test('a fault is a page request; mapped and answered, the DMA goes on', () => {
    const { nic, context, devId, queue, alloc, map, memory, faults } = stalling();
    context.deviceAttach(devId, alloc());
    const transfer = nic.startWrite(IOVA + 0x678, BYTES);
    expect(transfer.state).toBe(DMA_STATE.STALLED);
    const [record] = queue.readFaults();
    // The whole address, not only its page.
    expect(record).toMatchObject({ devId, perm: 2, flags: 2, addr: BigInt(IOVA + 0x678) });
    map();
    expect(queue.respond(record?.cookie ?? 0, PAGE_RESPONSE.SUCCESS)).toBe(0);
    expect(transfer.state).toBe(DMA_STATE.COMPLETE);
    expect(faults).toEqual([]);
    expect(memory()).not.toEqual(BYTES);
    nic.dmaWrite(IOVA, BYTES);
    expect(memory()).toEqual(BYTES);
  });

  test('answered before anything is mapped, it faults again under another cookie', () => {
    const { nic, context, devId, queue, alloc, map } = stalling();
    context.deviceAttach(devId, alloc());
    const transfer = nic.startWrite(IOVA, BYTES);
    for (let round = 0; round < 3; round++) {
      const [record] = queue.readFaults();
      expect(queue.respond(record?.cookie ?? 0, PAGE_RESPONSE.SUCCESS)).toBe(0);
      expect(transfer.state).toBe(DMA_STATE.STALLED);
    }
    map();
    const [record] = queue.readFaults();
    queue.respond(record?.cookie ?? 0, PAGE_RESPONSE.SUCCESS);
    expect(transfer.state).toBe(DMA_STATE.COMPLETE);
  });

  test('answered as invalid, it aborts', () => {
    const { nic, context, devId, queue, alloc } = stalling();
    context.deviceAttach(devId, alloc());
    const transfer = nic.startWrite(IOVA, BYTES);
    const [record] = queue.readFaults();
    queue.respond(record?.cookie ?? 0, PAGE_RESPONSE.INVALID);
    expect(transfer.state).toBe(DMA_STATE.BLOCKED);
  });

  test('without a fault queue it aborts at once, and is a fault', () => {
    const { nic, context, devId, alloc, faults } = stalling(false);
    context.deviceAttach(devId, alloc());
    expect(nic.dmaWrite(IOVA, BYTES)).toBe(0);
    expect(faults).toMatchObject([{ rid: RID, reason: 0x10, fields: { STALL: 1 } }]);
  });

  test('detaching ends what waits', () => {
    const { nic, context, devId, alloc } = stalling();
    context.deviceAttach(devId, alloc());
    const transfers = [0, 1].map((page) => nic.startWrite(IOVA + page * 4096, BYTES));
    context.deviceDetach(devId);
    expect(transfers.map(({ state }) => state)).toEqual([DMA_STATE.BLOCKED, DMA_STATE.BLOCKED]);
  });

  test('requests with PASID carry it', () => {
    const { nic, context, devId, queue, alloc } = stalling();
    context.deviceAttach(devId, alloc(HWPT_ALLOC.PASID), 7);
    nic.startWrite(IOVA, BYTES, { pasid: 7 });
    expect(queue.readFaults()).toMatchObject([{ pasid: 7, flags: 3 }]);
  });

  test.each<readonly [string, 'read' | 'write', number, number]>([
    ['read', 'read', 0, 1],
    ['write', 'write', 0, 2],
    ['execute', 'read', ACCESS.EXEC, 5],
    ['privileged read', 'read', ACCESS.PRIV, 9],
  ])('%s: what was wanted', (_, kind, access, perm) => {
    const { nic, context, devId, queue, alloc } = stalling();
    context.deviceAttach(devId, alloc(HWPT_ALLOC.PASID), 7);
    const options = { pasid: 7, access };
    if (kind === 'read') nic.startRead(IOVA, new Uint8Array(4), options);
    else nic.startWrite(IOVA, BYTES, options);
    expect(queue.readFaults()).toMatchObject([{ perm }]);
  });

  test('many at once, answered in any order', () => {
    const { nic, context, devId, queue, alloc, map } = stalling();
    context.deviceAttach(devId, alloc());
    const transfers = Array.from({ length: 8 }, (_, i) => nic.startWrite(IOVA + i * 64, BYTES));
    map();
    const records = queue.readFaults();
    expect(records).toHaveLength(8);
    for (const { cookie } of records.reverse()) queue.respond(cookie, PAGE_RESPONSE.SUCCESS);
    expect(transfers.every(({ state }) => state === DMA_STATE.COMPLETE)).toBe(true);
  });

  test('a device that cannot wait: ENODEV', () => {
    const { context, devId, alloc } = setUp(STALLS, {});
    const hwptId = alloc();
    expect(refusalOf(() => context.deviceAttach(devId, hwptId))).toMatch(/^ENODEV/);
  });

  test('caps say what the unit can', () => {
    expect(stalling().unit.caps).toMatchObject({ stall: true, pri: true });
    expect(setUp({}, {}).unit.caps).toMatchObject({ stall: false, pri: true });
    const none = setUp({ capabilities: { idr0: { PRI: 0 } } }, {});
    expect(none.unit.caps).toMatchObject({ stall: false, pri: false });
  });
});

describe('stalls of a guest’s devices', () => {
  test('a guest’s CD with S=1: the fault queue gets it for any PASID, the guest’s event queue does not', () => {
    const world = guest({ ...STALLS, stallSids: [RID] });
    const { context, devices, write } = world;
    const viommuId = world.viommu(0);
    world.vdevice(viommuId, 0, 0x10);
    const { outFaultId: faultId, queue } = context.faultQueueAlloc();
    const { queue: events } = context.veventqAlloc({ viommuId, type: 1, veventqDepth: 8 });
    const { outHwptId } = context.hwptAlloc({
      devId: world.id(0),
      ptId: viommuId,
      flags: HWPT_ALLOC.FAULT_ID_VALID,
      faultId,
      dataType: 2,
      data: world.s1(CD_OF.A1, { S1CDMAX: 4, S1DSS: 2 }),
    });
    world.attach(0, outHwptId);
    // CD 7: S (bit 44) set, the second guest's table under ASID 2.
    write(CD_OF.A1 + 7 * 64, 0x2f205c0003510n);
    write(CD_OF.A1 + 7 * 64 + 8, 0x3_8000n);
    write(LEAF_OF.A2, 0n);
    const transfer = (devices[0] as Endpoint).startWrite(VA, BYTES, { pasid: 7 });
    expect(transfer.state).toBe(DMA_STATE.STALLED);
    expect(events.readEvents()).toEqual([]);
    const [record] = queue.readFaults();
    expect(record).toMatchObject({ pasid: 7, addr: BigInt(VA) });
    write(LEAF_OF.A2, BigInt(PAGE_OF.A2 + 0xf43));
    queue.respond(record?.cookie ?? 0, PAGE_RESPONSE.SUCCESS);
    expect(transfer.state).toBe(DMA_STATE.COMPLETE);
    expect(world.page(0, VA, 7)).toBe(PAGE_OF.A2);
    // CD 0 has S=0: an event for the guest.
    expect(world.page(0, VA + 0x1000)).toBe('F_TRANSLATION');
    expect(events.readEvents()).toHaveLength(1);
  });
});

const PRI = { ats: true, pri: true } as const;
const wanted = (count: number) =>
  Array.from({ length: count }, (_, page) => ({ iova: IOVA + page * 4096, write: page % 2 === 0 }));

describe('page requests (8)', () => {
  test.each([
    ['success', PAGE_RESPONSE.SUCCESS, 0],
    ['invalid', PAGE_RESPONSE.INVALID, 1],
  ])('a group reaches the queue as one, and its answer the device: %s', (_, response, code) => {
    const { nic, context, devId, queue, alloc, faults } = setUp({}, PRI);
    context.deviceAttach(devId, alloc());
    const codes: number[] = [];
    nic.requestPages(wanted(3), {}, (answer) => codes.push(answer));
    const records = queue.readFaults();
    expect(records.map(({ perm, flags }) => [perm, flags])).toEqual([
      [3, 0],
      [1, 0],
      [3, 2],
    ]);
    expect(new Set(records.map(({ cookie }) => cookie)).size).toBe(1);
    expect(codes).toEqual([]);
    queue.respond(records[0]?.cookie ?? 0, response);
    expect(codes).toEqual([code]);
    expect(faults).toEqual([]);
  });

  test('a group with a PASID', () => {
    const { nic, context, devId, queue, alloc } = setUp({}, PRI);
    context.deviceAttach(devId, alloc(HWPT_ALLOC.PASID), 9);
    const codes: number[] = [];
    nic.requestPages(wanted(1), { pasid: 9 }, (answer) => codes.push(answer));
    const [record] = queue.readFaults();
    expect(record).toMatchObject({ pasid: 9, flags: 3 });
    queue.respond(record?.cookie ?? 0, PAGE_RESPONSE.SUCCESS);
    expect(codes).toEqual([0]);
  });

  test('as Linux 7.3: answered with a failure, in no queue', () => {
    const { nic, context, devId, queue, alloc } = setUp({ linux73Pri: true }, PRI);
    context.deviceAttach(devId, alloc());
    const codes: number[] = [];
    nic.requestPages(wanted(2), {}, (answer) => codes.push(answer));
    expect(codes).toEqual([15]);
    expect(queue.readFaults()).toEqual([]);
  });

  test('nobody takes them: invalid', () => {
    const { nic, context, devId, alloc } = setUp({}, PRI, false);
    context.deviceAttach(devId, alloc());
    const codes: number[] = [];
    nic.requestPages(wanted(2), {}, (answer) => codes.push(answer));
    expect(codes).toEqual([1]);
  });

  test('groups that never end are kept up to 2048 requests; the one beyond is answered as invalid', () => {
    const { nic, context, devId, queue, alloc } = setUp({}, PRI);
    context.deviceAttach(devId, alloc());
    const send = (prgi: number, last: boolean) => {
      const request: PageRequest = {
        rid: nic.rid,
        pasid: -1,
        addressPfn: 0x100,
        read: true,
        write: false,
        exec: false,
        priv: false,
        last,
        prgi,
      };
      nic.agent?.pageRequest?.(request);
    };
    for (let count = 0; count < 3000; count++) send(300 + (count % 100), false);
    const codes: number[] = [];
    nic.requestPages(wanted(1), {}, (answer) => codes.push(answer));
    expect(codes).toEqual([1]);
    expect(queue.readFaults()).toEqual([]);
    // A group that was complete within the bound is delivered, and room is made.
    send(301, true);
    nic.requestPages(wanted(1), {}, (answer) => codes.push(answer));
    expect(codes).toEqual([1]);
    expect(queue.readFaults().length).toBeGreaterThan(0);
  });

  test('a stop marker is no request and gets no answer', () => {
    const { nic, context, devId, queue, alloc, faults } = setUp({}, PRI);
    context.deviceAttach(devId, alloc(HWPT_ALLOC.PASID), 3);
    const marker = { read: false, write: false, exec: false, priv: false, last: true };
    nic.agent?.pageRequest?.({ rid: nic.rid, pasid: 3, addressPfn: 0, prgi: 1, ...marker });
    expect(queue.readFaults()).toEqual([]);
    expect(faults).toEqual([]);
  });

  test('an answer that makes the device ask again, for somebody who is not there', () => {
    const { nic, context, devId, queue, alloc } = setUp({}, PRI);
    context.deviceAttach(devId, alloc());
    const codes: number[] = [];
    nic.requestPages(wanted(1), {}, () => {
      nic.requestPages(wanted(1), { pasid: 9 }, (answer) => codes.push(answer));
    });
    queue.respond(queue.readFaults()[0]?.cookie ?? 0, PAGE_RESPONSE.SUCCESS);
    expect(codes).toEqual([1]);
  });

  test('more than the queue holds: lost ones are answered by hardware, and it goes on', () => {
    const { nic, context, devId, alloc } = setUp({}, PRI, false);
    context.deviceAttach(devId, alloc());
    const codes: number[] = [];
    const ask = () => nic.requestPages(wanted(1), {}, (answer) => codes.push(answer));
    // 300 groups at once, while the one before them is being answered.
    nic.requestPages(wanted(1), {}, () => {
      for (let group = 0; group < 300; group++) ask();
    });
    expect(codes).toHaveLength(300);
    const lost = codes.filter((code) => code === 0).length;
    expect(lost).toBeGreaterThan(40);
    expect(codes.filter((code) => code === 1)).toHaveLength(300 - lost);
    ask();
    expect(codes.at(-1)).toBe(1);
  });

  test('a device of a guest: its groups go to the queue of the nested HWPT', () => {
    const world = guest();
    const { context, devices } = world;
    const viommuId = world.viommu(0);
    world.vdevice(viommuId, 0, 0x10);
    const { outFaultId: faultId, queue } = context.faultQueueAlloc();
    const { outHwptId } = context.hwptAlloc({
      devId: world.id(0),
      ptId: viommuId,
      flags: HWPT_ALLOC.FAULT_ID_VALID,
      faultId,
      dataType: 2,
      data: world.s1(CD_OF.A1, { EATS: 1 }),
    });
    world.attach(0, outHwptId);
    const codes: number[] = [];
    const page = [{ iova: VA, write: true }];
    (devices[0] as Endpoint).requestPages(page, { pasid: 5 }, (answer) => codes.push(answer));
    const [record] = queue.readFaults();
    expect(record).toMatchObject({ devId: world.id(0), pasid: 5, perm: 3 });
    queue.respond(record?.cookie ?? 0, PAGE_RESPONSE.SUCCESS);
    expect(codes).toEqual([0]);
  });
});
