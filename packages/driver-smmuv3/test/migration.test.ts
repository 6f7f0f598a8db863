/**
 * A running scenario moves to another machine and goes on like its twin that stayed: PASIDs on stage-1
 * domains, dirty tracking, device TLBs, a pending page request, guests over a stage 2 of another unit,
 * translations that are stale.
 */
import { crc32 } from 'node:zlib';
import {
  createMachine,
  createProcess,
  DIRTY_TRACKING,
  type Endpoint,
  GET_DIRTY_BITMAP,
  HWPT_ALLOC,
  IOAS_MAP,
  type IommufdContext,
  isIommuError,
  MAP_FLAG,
  type Machine,
  openIommufd,
  PAGE_RESPONSE,
  type Process,
  restoreSnapshot,
  saveSnapshot,
} from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { type SmmuIommuUnit, type SmmuOptions, smmuv3 } from '../src/index.ts';
import { CD_OF, guest, hardwareOf, VA } from './host/guest.ts';

const PAGE = 4096;
const USER = 0x10_0000_0000;
const PAGES = 32;
const PASID = 5;
const RW = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;

interface World {
  machine: Machine;
  process: Process;
  context: IommufdContext;
  /** Answers to page requests, as the device saw them. */
  readonly answers: string[];
}

const makeMachine = (options: SmmuOptions = {}): Machine => {
  const machine = createMachine({ ramBytes: 2 ** 24 });
  machine.addEndpoint({ rid: '00:04.0', pasidBits: 16, ats: true, pri: true });
  machine.addEndpoint({ rid: '00:05.0' });
  machine.addUnit(smmuv3({ capabilities: { idr0: { HTTU: 2 } }, ...options }));
  return machine;
};

const start = (options?: SmmuOptions): World => {
  const machine = makeMachine(options);
  const process = createProcess(machine);
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  process.mmap({ addr: USER, length: PAGES * PAGE, flags });
  for (let page = 0; page < PAGES; page++)
    process.poke(USER + page * PAGE + 8, Uint8Array.of(page));
  return { machine, process, context: openIommufd(process, machine), answers: [] };
};

const nicOf = ({ machine }: World): Endpoint => machine.endpoint(0x20) as Endpoint;
const hardwareIn = ({ machine }: World) => (machine.units[0] as SmmuIommuUnit).hardware;

/** First byte (a page number) that DMA finds; -1 = blocked. */
const look = (world: World, iova: number, pasid?: number): number => {
  const byte = new Uint8Array(1);
  const options = pasid === undefined ? {} : { pasid };
  return nicOf(world).dmaRead(iova + 8, byte, options) === 1 ? (byte[0] as number) : -1;
};

interface Ids {
  readonly dev: number;
  readonly ioas: number;
  readonly tracked: number;
  readonly other: number;
  readonly fault: number;
}

/** A tracked domain for the RID, another for a PASID, one for a second device, caches warm. */
const begin = (world: World): Ids => {
  const { context } = world;
  const dev = context.bindDevice(nicOf(world));
  const ioas = context.ioasAlloc().outIoasId;
  context.option({ optionId: 1, objectId: ioas, op: 0, val64: 0 });
  const fault = context.faultQueueAlloc().outFaultId;
  const tracked = context.hwptAlloc({
    devId: dev,
    ptId: ioas,
    flags: HWPT_ALLOC.DIRTY_TRACKING | HWPT_ALLOC.PASID | HWPT_ALLOC.FAULT_ID_VALID,
    faultId: fault,
  }).outHwptId;
  const other = context.hwptAlloc({ devId: dev, ptId: ioas, flags: HWPT_ALLOC.PASID }).outHwptId;
  context.ioasMap({ ioasId: ioas, flags: RW, iova: 0, userVa: USER, length: PAGES * PAGE });
  context.deviceAttach(dev, tracked);
  context.deviceAttach(dev, other, PASID);
  context.hwptSetDirtyTracking({ hwptId: tracked, flags: DIRTY_TRACKING.ENABLE });
  nicOf(world).requestPages([{ iova: 0x7000, write: true }], {}, (code) =>
    world.answers.push(`0:${code}`),
  );
  nicOf(world).dmaWrite(3 * PAGE, Uint8Array.of(1));
  nicOf(world).dmaWrite(30 * PAGE, Uint8Array.of(1), { pasid: PASID });
  nicOf(world).atsTranslate(2 * PAGE, false, { pasid: PASID });
  look(world, 4 * PAGE);
  return { dev, ioas, tracked, other, fault };
};

/** What happens after the point of migration, and what it looks like. */
const goOn = (world: World, ids: Ids): unknown[] => {
  const { context, answers, process, machine } = world;
  const trace: unknown[] = [];
  const dirty = (flags: number) => {
    const data = new Uint8Array(8);
    const range = { iova: 0, length: PAGES * PAGE, pageSize: PAGE };
    context.hwptGetDirtyBitmap({ hwptId: ids.tracked, flags, ...range, data });
    trace.push([...data]);
  };
  trace.push([...hardwareIn(world).caches.tlb.entries()].length);
  trace.push([0, 4, 9, 40].map((page) => look(world, page * PAGE)));
  trace.push([0, 4, 9, 40].map((page) => look(world, page * PAGE, PASID)));
  trace.push(nicOf(world).atsRead(2 * PAGE + 8, new Uint8Array(1), { pasid: PASID }));
  dirty(GET_DIRTY_BITMAP.NO_CLEAR);
  nicOf(world).dmaWrite(6 * PAGE, Uint8Array.of(1));
  dirty(0);
  nicOf(world).dmaWrite(7 * PAGE, Uint8Array.of(1));
  dirty(0);
  const queue = context.find('test', ids.fault, 'FAULT');
  const records = queue.readFaults();
  trace.push(records, queue.respond(records[0]?.cookie ?? 0, PAGE_RESPONSE.SUCCESS), [...answers]);
  context.ioasUnmap({ ioasId: ids.ioas, iova: 0, length: PAGES * PAGE });
  trace.push(look(world, 4 * PAGE), look(world, 4 * PAGE, PASID));
  trace.push(nicOf(world).atsRead(2 * PAGE + 8, new Uint8Array(1), { pasid: PASID }));
  context.ioasMap({ ioasId: ids.ioas, flags: RW, iova: 0x100_0000, userVa: USER, length: PAGE });
  trace.push(look(world, 0x100_0000), look(world, 0x100_0000, PASID));
  const next = context.hwptAlloc({ devId: ids.dev, ptId: ids.ioas }).outHwptId;
  context.deviceDetach(ids.dev, PASID);
  context.deviceDetach(ids.dev);
  context.deviceAttach(ids.dev, next);
  trace.push(next, look(world, 0x100_0000), look(world, 0x100_0000, PASID));
  hardwareIn(world).sanitizer?.audit();
  trace.push(hardwareIn(world).sanitizer?.findings.map(({ text }) => text));
  context.close();
  trace.push(process.vmPinKiB, machine.memory.freePageCount);
  return trace;
};

/** Save, forget, restore, save again. */
const migrate = (world: World, options?: SmmuOptions): void => {
  const bytes = saveSnapshot({
    machine: world.machine,
    processes: [world.process],
    contexts: [world.context],
  });
  const machine = makeMachine(options);
  const restored = restoreSnapshot(bytes, {
    machine,
    onPageResponse: (_endpoint, prgi, code) => world.answers.push(`${prgi}:${code}`),
  });
  const [process] = restored.processes as [Process];
  const [context] = restored.contexts as [IommufdContext];
  Object.assign(world, { machine, process, context });
  const again = saveSnapshot({ machine, processes: [process], contexts: [context] });
  expect(Buffer.compare(again, bytes)).toBe(0);
};

describe('migration of a unit with everything in use', () => {
  const variants: readonly (readonly [string, SmmuOptions])[] = [
    ['default', {}],
    ['under a sanitizer', { sanitize: true }],
    [
      'linear tables',
      { capabilities: { idr0: { HTTU: 2, CD2L: 0, ST_LEVEL: 0 }, idr1: { SSIDSIZE: 9 } } },
    ],
  ];
  test.each(variants)('%s: goes on like the twin that stayed', (_, options) => {
    const [moved, stayed] = [start(options), start(options)];
    const ids = begin(moved);
    expect(begin(stayed)).toEqual(ids);
    migrate(moved, options);
    const expected = goOn(stayed, ids);
    expect(goOn(moved, ids)).toEqual(expected);
    expect(expected[1]).toEqual([0, 4, 9, -1]);
  });

  test('several times in a row', () => {
    const [moved, stayed] = [start(), start()];
    const ids = begin(moved);
    begin(stayed);
    for (let round = 0; round < 3; round++) migrate(moved);
    expect(goOn(moved, ids)).toEqual(goOn(stayed, ids));
  });

  test('a translation that is stale stays stale until its invalidation', () => {
    const world = start();
    begin(world);
    const [entry] = [...hardwareIn(world).caches.tlb.entries()].filter(
      ({ iovaPfn }) => iovaPfn === 4,
    );
    expect(entry).toBeDefined();
    migrate(world);
    const kept = [...hardwareIn(world).caches.tlb.entries()];
    expect(kept).toContainEqual(entry);
  });
});

const refusalOf = (call: () => unknown): string => {
  try {
    return typeof call();
  } catch (error) {
    if (isIommuError(error)) return error.code;
    throw error;
  }
};

describe('bytes that a unit cannot take', () => {
  const bytesOf = (world: World) =>
    saveSnapshot({ machine: world.machine, processes: [world.process], contexts: [world.context] });

  test.each([
    ['other capabilities', { capabilities: { idr0: { HTTU: 0 } } }],
    ['other caches', { caches: { tlbEntries: 64 } }],
    ['no PRI', { capabilities: { idr0: { HTTU: 2, PRI: 0 } } }],
    ['narrower tags', { capabilities: { idr0: { HTTU: 2, ASID16: 0, VMID16: 0 } } }],
  ])('%s: EINVAL, and the machine is as it was', (_, options) => {
    const world = start();
    begin(world);
    const machine = makeMachine(options);
    const empty = saveSnapshot({ machine, processes: [] });
    expect(refusalOf(() => restoreSnapshot(bytesOf(world), { machine }))).toBe('EINVAL');
    expect(Buffer.compare(saveSnapshot({ machine, processes: [] }), empty)).toBe(0);
  });

  test('damaged bytes are refused, or restore a unit; refused, nothing has changed', () => {
    const world = start();
    begin(world);
    const bytes = bytesOf(world);
    const name = Buffer.from('arm-smmuv30');
    const at = Buffer.from(bytes).indexOf(name) + name.length;
    const empty = saveSnapshot({ machine: makeMachine(), processes: [] });
    let refusals = 0;
    for (let place = 60; place < 500; place += 12) {
      const damaged = bytes.slice();
      new DataView(damaged.buffer).setUint32(at + place, 0xffff_fff0, true);
      seal(damaged);
      const machine = makeMachine();
      const answer = refusalOf(() => restoreSnapshot(damaged, { machine }));
      if (answer === 'object') continue;
      refusals++;
      expect(answer).toBe('EINVAL');
      expect(Buffer.compare(saveSnapshot({ machine, processes: [] }), empty)).toBe(0);
    }
    expect(refusals).toBeGreaterThan(5);
  });
});

/** Make the checksums of a changed snapshot right. */
const seal = (bytes: Uint8Array): void => {
  const view = new DataView(bytes.buffer);
  view.setUint32(24, crc32(bytes.subarray(32)), true);
  view.setUint32(28, crc32(bytes.subarray(0, 28)), true);
};

describe('guests that move', () => {
  test.each([
    ['through a vIOMMU', true],
    ['without one', false],
  ])('%s, over a stage 2 of another unit', (_, through) => {
    const world = guest();
    const parent = through ? world.viommu(2) : world.parentId;
    if (through) world.vdevice(parent, 2, 0x10);
    world.attach(2, world.nested(2, parent, world.s1(CD_OF.A1)));
    const dma = (device: Endpoint | undefined) => device?.dmaWrite(VA, Uint8Array.of(1));
    expect(dma(world.devices[2])).toBe(1);
    const { machine, process, context } = world;
    const bytes = saveSnapshot({ machine, processes: [process], contexts: [context] });
    const other = hardwareOf();
    const restored = restoreSnapshot(bytes, { machine: other.machine });
    expect(dma(other.devices[2])).toBe(1);
    const again = {
      machine: other.machine,
      processes: restored.processes as [Process],
      contexts: restored.contexts as [IommufdContext],
    };
    expect(Buffer.compare(saveSnapshot(again), bytes)).toBe(0);
    // An unmap of the parent reaches the guest of the other unit.
    const [moved] = restored.contexts as [IommufdContext];
    moved.ioasUnmap({ ioasId: world.ioasId, iova: 0, length: 2 ** 24 });
    expect(dma(other.devices[2])).toBe(0);
  });
});
