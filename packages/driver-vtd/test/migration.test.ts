/**
 * A running scenario moves to another machine and goes on like its twin that stayed: nested
 * translation under a PASID, a pending page request, dirty tracking, translations that are stale.
 */

import { crc32 } from 'node:zlib';
import {
  createMachine,
  createProcess,
  DIRTY_TRACKING,
  type Endpoint,
  exitProcess,
  GET_DIRTY_BITMAP,
  HWPT_ALLOC,
  HWPT_DATA,
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
  VM_PROT,
} from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { type VtdOptions, vtd } from '../src/index.ts';

const PAGE = 4096;
const USER = 0x10_0000_0000;
const PAGES = 64;
const PASID = 5;
/** What the guest's device uses, and the guest pages behind it. */
const GUEST_IOVA = 0x4000_0000;
const RW = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
const ENTRY_FLAGS = 0x67;

/** Everything a test holds on to. */
interface World {
  machine: Machine;
  process: Process;
  context: IommufdContext;
  /** Answers to page requests, as the device saw them. */
  readonly answers: string[];
}

const makeMachine = (options: VtdOptions = {}): Machine => {
  const machine = createMachine({ ramBytes: 2 ** 24 });
  machine.addEndpoint({ rid: '00:04.0', pasidBits: 16, ats: true, pri: true });
  machine.addEndpoint({ rid: '00:05.0' });
  machine.addUnit(vtd(options));
  return machine;
};

const nicOf = ({ machine }: World): Endpoint => machine.endpoint(0x20) as Endpoint;

const start = (options?: VtdOptions): World => {
  const machine = makeMachine(options);
  const process = createProcess(machine);
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  const prot = VM_PROT.READ | VM_PROT.WRITE;
  process.mmap({ addr: USER, length: PAGES * PAGE, prot, flags });
  for (let page = 0; page < PAGES; page++)
    process.poke(USER + page * PAGE + 8, Uint8Array.of(page));
  return { machine, process, context: openIommufd(process, machine), answers: [] };
};

const word = (value: number): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
};

/** Guest page behind `GUEST_IOVA + index * PAGE`: a leaf in the guest's table at GPA 0x4000. */
const setLeaf = ({ process }: World, index: number, gpa: number): void => {
  process.poke(USER + 0x4000 + 8 * index, word(gpa === 0 ? 0 : gpa + ENTRY_FLAGS));
};

const buildGuest = (world: World): Uint8Array => {
  const tables = [0x1000, 0x2000, 0x3000, 0x4000];
  for (let level = 0; level < 3; level++) {
    const index = Math.floor(GUEST_IOVA / 2 ** (39 - 9 * level)) % 512;
    const at = USER + (tables[level] as number) + 8 * index;
    world.process.poke(at, word((tables[level + 1] as number) + ENTRY_FLAGS));
  }
  const data = new Uint8Array(24);
  const view = new DataView(data.buffer);
  view.setBigUint64(8, 0x1000n, true);
  view.setUint32(16, 48, true);
  return data;
};

/** First byte (a page number) that DMA finds; -1 = blocked. */
const look = (world: World, iova: number, pasid?: number): number => {
  const byte = new Uint8Array(1);
  const options = pasid === undefined ? {} : { pasid };
  return nicOf(world).dmaRead(iova + 8, byte, options) === 1 ? (byte[0] as number) : -1;
};

const IDS = { ioas: 0, parent: 0, nested: 0, dev: 0, fault: 0 };

/** Nested under a PASID, tracked parent for the RID, caches warm, one request on its way. */
const begin = (world: World): typeof IDS => {
  const { context } = world;
  const dev = context.bindDevice(nicOf(world));
  const ioas = context.ioasAlloc().outIoasId;
  context.option({ optionId: 1, objectId: ioas, op: 0, val64: 0 });
  const flags = HWPT_ALLOC.NEST_PARENT | HWPT_ALLOC.PASID | HWPT_ALLOC.DIRTY_TRACKING;
  const parent = context.hwptAlloc({ devId: dev, ptId: ioas, flags }).outHwptId;
  context.ioasMap({ ioasId: ioas, flags: RW, iova: 0, userVa: USER, length: 32 * PAGE });
  const fault = context.faultQueueAlloc().outFaultId;
  const nested = context.hwptAlloc({
    devId: dev,
    ptId: parent,
    flags: HWPT_ALLOC.PASID | HWPT_ALLOC.FAULT_ID_VALID,
    faultId: fault,
    dataType: HWPT_DATA.VTD_S1,
    data: buildGuest(world),
  }).outHwptId;
  context.deviceAttach(dev, parent);
  context.deviceAttach(dev, nested, PASID);
  context.hwptSetDirtyTracking({ hwptId: parent, flags: DIRTY_TRACKING.ENABLE });
  for (let i = 0; i < 4; i++) setLeaf(world, i, (8 + i) * PAGE);
  // A page request drops cached translations, so it comes first.
  nicOf(world).requestPages([{ iova: 0x7000, write: true }], { pasid: PASID }, (code) =>
    world.answers.push(`0:${code}`),
  );
  nicOf(world).dmaWrite(30 * PAGE, Uint8Array.of(1));
  look(world, GUEST_IOVA, PASID);
  look(world, GUEST_IOVA + PAGE, PASID);
  nicOf(world).atsTranslate(GUEST_IOVA + 2 * PAGE, false, { pasid: PASID });
  // The guest changes two leaves and tells nobody: the IOTLB goes on with the old ones.
  setLeaf(world, 0, 20 * PAGE);
  setLeaf(world, 2, 21 * PAGE);
  return { ioas, parent, nested, dev, fault };
};

const refusalOf = (call: () => unknown): string => {
  try {
    return `${call()}`;
  } catch (error) {
    if (isIommuError(error)) return error.code;
    throw error;
  }
};

/** What happens after the point of migration, and what it looks like. */
const goOn = (world: World, ids: typeof IDS): unknown[] => {
  const { context, machine, process, answers } = world;
  const trace: unknown[] = [];
  const dma = () =>
    trace.push([0, 1, 2, 3, 4].map((i) => look(world, GUEST_IOVA + i * PAGE, PASID)));
  const dirty = (how: number) => {
    const data = new Uint8Array(8);
    const { parent: hwptId } = ids;
    const length = 32 * PAGE;
    context.hwptGetDirtyBitmap({ hwptId, flags: how, iova: 0, length, pageSize: PAGE, data });
    trace.push([...data]);
  };
  dma();
  trace.push(nicOf(world).atsRead(GUEST_IOVA + 2 * PAGE + 8, new Uint8Array(1), { pasid: PASID }));
  dirty(GET_DIRTY_BITMAP.NO_CLEAR);
  nicOf(world).dmaWrite(GUEST_IOVA + 3 * PAGE, Uint8Array.of(1), { pasid: PASID });
  dirty(0);
  dirty(0);
  const invalidation = new Uint8Array(24);
  new DataView(invalidation.buffer).setBigUint64(8, (1n << 64n) - 1n, true);
  const everything = { hwptId: ids.nested, dataType: 0, entryLen: 24, entryNum: 1 };
  trace.push(context.hwptInvalidate({ ...everything, data: invalidation }));
  dma();
  const queue = context.find('test', ids.fault, 'FAULT');
  const records = queue.readFaults();
  trace.push(records);
  trace.push(queue.respond(records[0]?.cookie ?? 0, PAGE_RESPONSE.SUCCESS), [...answers]);
  nicOf(world).requestPages([{ iova: 0x9000, write: false }], { pasid: PASID }, (code) =>
    answers.push(`1:${code}`),
  );
  trace.push(queue.readFaults());
  context.ioasMap({
    ioasId: ids.ioas,
    flags: RW,
    iova: 0x100_0000,
    userVa: USER + 32 * PAGE,
    length: 8 * PAGE,
  });
  trace.push(look(world, 0x100_3000));
  context.ioasUnmap({ ioasId: ids.ioas, iova: 0, length: 32 * PAGE });
  trace.push(look(world, 30 * PAGE));
  dma();
  const again = { devId: ids.dev, ptId: ids.ioas };
  trace.push(refusalOf(() => context.hwptAlloc(again).outHwptId));
  trace.push(refusalOf(() => context.destroy({ id: ids.parent })));
  context.deviceDetach(ids.dev, PASID);
  trace.push([...answers], process.vmPinKiB, process.vmLckKiB, machine.memory.freePageCount);
  trace.push(context.ioasAlloc().outIoasId, machine.memory.allocPages(1));
  exitProcess(process);
  trace.push(machine.memory.freePageCount, context.objects.all().length);
  return trace;
};

/** Save, forget, restore, save again. */
const migrate = (world: World, options?: VtdOptions): void => {
  const bytes = saveSnapshot({ machine: world.machine, processes: [world.process] });
  const machine = makeMachine(options);
  const restored = restoreSnapshot(bytes, {
    machine,
    onPageResponse: (_endpoint, prgi, code) => world.answers.push(`${prgi}:${code}`),
  });
  const [process] = restored.processes as [Process];
  const [context] = restored.contexts as [IommufdContext];
  Object.assign(world, { machine, process, context });
  const again = saveSnapshot({ machine, processes: [process] });
  expect(Buffer.compare(again, bytes)).toBe(0);
};

describe('migration of a nested scenario', () => {
  const modes: readonly (readonly [string, VtdOptions])[] = [
    ['first stage by default', {}],
    ['second stage by default', { firstStageByDefault: false }],
  ];
  it.each(modes)('%s: goes on like the twin that stayed', (_title, options) => {
    const [moved, stayed] = [start(options), start(options)];
    const ids = begin(moved);
    expect(begin(stayed)).toEqual(ids);
    migrate(moved, options);
    const expected = goOn(stayed, ids);
    expect(goOn(moved, ids)).toEqual(expected);
    // The stale leaves were seen as stale, and as new after the invalidation.
    expect(expected[0]).toEqual([8, 9, 10, 11, -1]);
    expect(expected).toContainEqual([20, 9, 21, 11, -1]);
  });

  it('several times in a row', () => {
    const [moved, stayed] = [start(), start()];
    const ids = begin(moved);
    begin(stayed);
    for (let i = 0; i < 3; i++) migrate(moved);
    expect(goOn(moved, ids)).toEqual(goOn(stayed, ids));
  });

  it('a pool that has grown comes along', () => {
    const world = start();
    const { context } = world;
    const ids = begin(world);
    for (let i = 1; i < 400; i++) {
      const iova = i * 2 ** 32;
      context.ioasMap({ ioasId: ids.ioas, flags: RW, iova, userVa: USER, length: PAGE });
    }
    migrate(world);
    expect(look(world, 399 * 2 ** 32)).toBe(0);
    world.context.ioasMap({
      ioasId: ids.ioas,
      flags: RW,
      iova: 500 * 2 ** 32,
      userVa: USER + PAGE,
      length: PAGE,
    });
    expect(look(world, 500 * 2 ** 32)).toBe(1);
  });

  it('is refused by a unit with other capabilities or options, which stays as it was', () => {
    const world = start();
    begin(world);
    const bytes = saveSnapshot({ machine: world.machine, processes: [world.process] });
    const codeOf = (options: VtdOptions) => {
      const machine = makeMachine(options);
      const empty = saveSnapshot({ machine, processes: [] });
      const answer = refusalOf(() => restoreSnapshot(bytes, { machine }));
      expect(Buffer.compare(saveSnapshot({ machine, processes: [] }), empty)).toBe(0);
      return answer;
    };
    expect(codeOf({ scalable: false })).toBe('EINVAL');
    expect(codeOf({ name: 'other' })).toBe('EINVAL');
    expect(codeOf({ hostAddressBits: 40 })).toBe('EINVAL');
  });

  it('damaged bytes of the unit are refused, or restore a unit; refused, nothing has changed', () => {
    const world = start();
    begin(world);
    const bytes = saveSnapshot({ machine: world.machine, processes: [world.process] });
    const name = new TextEncoder().encode('intel-vtd0');
    const at = Buffer.from(bytes).indexOf(Buffer.from(name)) + name.length;
    const machine = makeMachine();
    const empty = saveSnapshot({ machine, processes: [] });
    let refusals = 0;
    for (let place = 80; place < 480; place += 12) {
      const damaged = bytes.slice();
      new DataView(damaged.buffer).setUint32(at + place, 0xffff_fff0, true);
      seal(damaged);
      const target = makeMachine();
      const answer = refusalOf(() => typeof restoreSnapshot(damaged, { machine: target }));
      if (answer === 'object') continue;
      refusals++;
      expect(answer).toBe('EINVAL');
      expect(Buffer.compare(saveSnapshot({ machine: target, processes: [] }), empty)).toBe(0);
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
