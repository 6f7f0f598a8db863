/** Tegra241's CMDQV: queues that a guest drives itself, from the page it maps to the TLB. */
import { encode } from '@iommukit/bits';
import {
  INVALIDATION_ANSWER,
  MAP_FLAG,
  restoreSnapshot,
  saveSnapshot,
  sysMmap,
  VM_PROT,
} from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import {
  ATC_INV,
  CFGI,
  CMDQV,
  type CmdqvGeometry,
  COMMAND,
  createSmmuHardware,
  type SmmuOptions,
  SYNC,
  TLBI,
  VINTF,
} from '../../src/index.ts';
import { CD_OF, guest, hardwareOf, LEAF_OF, PAGE_OF, refusalOf, VA } from './guest.ts';

const TEGRA241 = 2;
const QUEUE_TYPE = 1;
/** Guest physical address of the first queue; a page each. */
const QUEUE = 0x20_0000;
const [CONS, PROD, CONFIG, STATUS, GERROR, GERRORN] = [0, 4, 8, 12, 16, 20] as const;
const NH_ASID_1 = encode(TLBI, { OPCODE: COMMAND.TLBI_NH_ASID, ASID: 1 });
const SYNC_NONE = encode(SYNC, { OPCODE: COMMAND.SYNC });
const atcInv = (SID: number) => encode(ATC_INV, { OPCODE: COMMAND.ATC_INV, SID, SIZE: 52 });

/** Device 0 in a guest with queues of its own, device 1 in an ordinary one; both with ASID 1. */
const setUp = (cmdqv: CmdqvGeometry = {}, options: SmmuOptions = {}) => {
  const world = guest({ ...options, cmdqv });
  const { context, process } = world;
  const data = new Uint8Array(16);
  const request = { devId: world.id(0), hwptId: world.parentId, type: TEGRA241, data };
  const { outViommuId: viommuId } = context.viommuAlloc(request);
  const view = new DataView(data.buffer);
  const offset = Number(view.getBigUint64(0, true));
  const page0 = 0x30_0000_0000;
  const place = { addr: page0, length: CMDQV.PAGE_BYTES, prot: VM_PROT.READ | VM_PROT.WRITE };
  const flags = MAP_FLAG.SHARED | MAP_FLAG.FIXED;
  expect(sysMmap(process, context.fd, { ...place, flags, offset })).toBe(page0);
  const vdeviceId = world.vdevice(viommuId, 0, 0x10);
  world.attach(0, world.nested(0, viommuId, world.s1(CD_OF.A1, { EATS: 1 })));
  const other = world.viommu(1);
  world.vdevice(other, 1, 0x10);
  world.attach(1, world.nested(1, other, world.s1(CD_OF.A2, { EATS: 1 })));
  const register = (queue: number, at: number): number => {
    const bytes = process.peek(page0 + queue * 0x80 + at, 4) as Uint8Array;
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  };
  const setRegister = (queue: number, at: number, value: number): void => {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    process.poke(page0 + queue * 0x80 + at, bytes);
  };
  const alloc = (index: number, changes: object = {}) =>
    context.hwQueueAlloc({
      viommuId,
      type: QUEUE_TYPE,
      index,
      nestingParentIova: QUEUE + index * 0x1000,
      length: 0x100,
      ...changes,
    }).outHwQueueId;
  const poll = () => world.hardware[0]?.cmdqv?.poll();
  const produced = [0, 0, 0, 0];
  /** Put commands into a queue of 16, ring, and let the unit look. */
  const send = (queue: number, commands: readonly Uint32Array[], lookNow = true): void => {
    for (const command of commands) {
      const index = produced[queue] as number;
      const at = QUEUE + queue * 0x1000 + (index % 16) * 16;
      const words = [0, 2].map(
        (w) => BigInt(command[w + 1] ?? 0) * 2n ** 32n + BigInt(command[w] ?? 0),
      );
      words.forEach((word, half) => {
        world.write(at + 8 * half, word);
      });
      produced[queue] = (index + 1) % 32;
    }
    setRegister(queue, PROD, produced[queue] as number);
    if (lookNow) poll();
  };
  const enable = (queue: number): void => {
    setRegister(queue, CONFIG, 1);
    poll();
  };
  return {
    ...world,
    data,
    viommuId,
    vdeviceId,
    other,
    register,
    setRegister,
    alloc,
    poll,
    send,
    enable,
  };
};

describe('what a VMM is told', () => {
  test('hw_info of type 3', () => {
    const { context, id } = setUp({ vintfLg2: 2, vcmdqLg2: 5, sidLg2: 3 });
    const info = context.getHwInfo({ devId: id(0), dataType: 3 });
    expect([info.dataType, [...info.data]]).toEqual([3, [0, 0, 0, 0, 1, 3, 3, 0]]);
    const plain = guest();
    const ask = () => plain.context.getHwInfo({ devId: plain.id(0), dataType: 3 });
    expect(refusalOf(ask)).toMatch(/^EOPNOTSUPP/);
  });

  test('the offset and length of the page', () => {
    const view = new DataView(setUp().data.buffer);
    expect([view.getBigUint64(0, true) % 4096n, view.getBigUint64(8, true)]).toEqual([
      0n,
      0x1_0000n,
    ]);
  });

  test('no data, data of another size, more guests than interfaces, a unit without', () => {
    const { context, id, parentId } = setUp({ vintfLg2: 1 });
    const alloc = (data?: Uint8Array) => () =>
      context.viommuAlloc({
        devId: id(0),
        hwptId: parentId,
        type: TEGRA241,
        ...(data && { data }),
      });
    expect(refusalOf(alloc())).toBe('EINVAL viommu-data');
    expect(refusalOf(alloc(new Uint8Array(8)))).toBe('EINVAL data-length');
    expect(refusalOf(alloc(new Uint8Array(16)))).toBe('ENOSPC vintfs');
    const plain = guest();
    const request = { devId: plain.id(0), hwptId: plain.parentId, type: TEGRA241 };
    expect(refusalOf(() => plain.context.viommuAlloc(request))).toBe('EOPNOTSUPP viommu-type');
  });

  test('VMIDs and interfaces come back, also after refusals', () => {
    const { context, id, parentId, machine, hardware } = guest({
      cmdqv: { vintfLg2: 1 },
      capabilities: { idr0: { VMID16: 0 } },
    });
    const request = { devId: id(0), hwptId: parentId, type: TEGRA241 };
    const { memory } = machine;
    const free = memory.freePageCount;
    for (let round = 0; round < 300; round++) {
      const { outViommuId } = context.viommuAlloc({ ...request, data: new Uint8Array(16) });
      expect(refusalOf(() => context.viommuAlloc({ ...request, data: new Uint8Array(16) }))).toBe(
        'ENOSPC vintfs',
      );
      context.destroy({ id: outViommuId });
    }
    expect(memory.freePageCount).toBe(free);
    const page0 = CMDQV.VINTF + CMDQV.VINTF_STRIDE + VINTF.PAGE0_BASE;
    expect(hardware[0]?.cmdqv?.readReg32(page0)).toBe(0);
  });
});

describe('devices and queues', () => {
  test('a StreamID of 21 bits: EINVAL; more devices than the interface names: ENOSPC', () => {
    const { viommuId, vdevice, vdeviceId, context } = setUp({ sidLg2: 0 });
    expect(refusalOf(() => vdevice(viommuId, 1, 1))).toMatch(/^EEXIST/);
    context.destroy({ id: vdeviceId });
    expect(refusalOf(() => vdevice(viommuId, 0, 0x10_0000))).toBe('EINVAL virt-id');
    vdevice(viommuId, 0, 0xf_ffff);
  });

  test.each<readonly [string, number, object, string]>([
    ['a queue beyond the interface', 4, {}, 'EINVAL hw-queue-index'],
    ['out of order', 1, {}, 'EIO hw-queue-order'],
    ['another type', 0, { type: 2 }, 'EOPNOTSUPP hw-queue-type'],
    ['no power of two', 0, { length: 48 }, 'EINVAL hw-queue-length'],
    ['16 bytes', 0, { length: 16 }, 'EINVAL hw-queue-length'],
    ['not aligned', 0, { nestingParentIova: QUEUE + 0x80 }, 'EINVAL hw-queue-base'],
    ['the least there is', 0, { length: 32 }, 'done'],
  ])('%s', (_, index, changes, answer) => {
    const { alloc } = setUp();
    expect(refusalOf(() => alloc(index, changes))).toBe(answer);
  });

  test('longer than the unit’s queues: EINVAL', () => {
    const { alloc } = setUp({}, { capabilities: { idr1: { CMDQS: 3 } } });
    expect(refusalOf(() => alloc(0, { length: 0x100 }))).toBe('EINVAL hw-queue-length');
    alloc(0, { length: 0x80 });
  });

  test('taken twice: EEXIST; given back in descending order', () => {
    const { alloc, context } = setUp();
    const ids = [alloc(0), alloc(1)];
    expect(refusalOf(() => alloc(1))).toBe('EEXIST hw-queue-index');
    expect(refusalOf(() => context.destroy({ id: ids[0] as number }))).toMatch(/^EBUSY/);
    context.destroy({ id: ids[1] as number });
    context.destroy({ id: ids[0] as number });
    alloc(0);
  });
});

describe('commands of a guest’s own queue (G.6)', () => {
  const primed = () => {
    const world = setUp();
    world.alloc(0);
    world.enable(0);
    expect([world.page(0, VA), world.page(1, VA)]).toEqual([PAGE_OF.A1, PAGE_OF.A2]);
    world.write(LEAF_OF.A1, 0xbf43n);
    world.write(LEAF_OF.A2, 0xcf43n);
    return world;
  };

  test('the same end as through the call: its own entries go, the other guest’s stay', () => {
    const { send, register, page } = primed();
    expect(register(0, STATUS)).toBe(1);
    expect(page(0, VA)).toBe(PAGE_OF.A1);
    send(0, [NH_ASID_1, SYNC_NONE]);
    expect([register(0, CONS), register(0, PROD)]).toEqual([2, 2]);
    expect([page(0, VA), page(1, VA)]).toEqual([0xb000, PAGE_OF.A2]);
  });

  test('a VMID in a command is replaced', () => {
    const { send, page, hardware } = primed();
    for (let VMID = 0; VMID < 8; VMID++) {
      send(0, [encode(TLBI, { OPCODE: COMMAND.TLBI_NH_ASID, ASID: 1, VMID }), SYNC_NONE]);
    }
    expect(page(1, VA)).toBe(PAGE_OF.A2);
    expect(page(0, VA)).toBe(0xb000);
    expect(hardware[0]?.cmdqv).toBeDefined();
  });

  test('ATC_INV by the guest’s StreamID reaches its device alone', () => {
    const world = setUp();
    const bytes = Uint8Array.of(1, 2, 3, 4);
    const ats = (device: number) => world.devices[device]?.atsWrite(VA, bytes);
    world.alloc(0);
    world.enable(0);
    expect([ats(0), ats(1)]).toEqual([4, 4]);
    world.write(LEAF_OF.A1, 0n);
    world.write(LEAF_OF.A2, 0n);
    world.send(0, [NH_ASID_1, SYNC_NONE, atcInv(0x10), SYNC_NONE]);
    world.invalidate(world.other, [NH_ASID_1]);
    expect([ats(0), ats(1)]).toEqual([0, 4]);
  });

  test('the unit looks when a device sends something, not only when told', () => {
    const { send, page } = primed();
    send(0, [NH_ASID_1], false);
    expect(page(0, VA)).toBe(0xb000);
  });

  test('the index wraps', () => {
    const { send, register } = primed();
    for (let round = 0; round < 5; round++)
      send(
        0,
        Array.from({ length: 10 }, () => NH_ASID_1),
      );
    expect(register(0, CONS)).toBe(50 % 32);
    expect(register(0, GERROR)).toBe(0);
  });

  test.each<readonly [string, Uint32Array]>([
    ['NH_ALL', encode(TLBI, { OPCODE: COMMAND.TLBI_NH_ALL })],
    ['NH_VAA', encode(TLBI, { OPCODE: COMMAND.TLBI_NH_VAA })],
    ['NSNH_ALL', encode(TLBI, { OPCODE: COMMAND.TLBI_NSNH_ALL })],
    ['S12_VMALL', encode(TLBI, { OPCODE: COMMAND.TLBI_S12_VMALL, VMID: 1 })],
    ['CFGI_CD', encode(CFGI, { OPCODE: COMMAND.CFGI_CD, SID: 0x10 })],
    ['CFGI_STE', encode(CFGI, { OPCODE: COMMAND.CFGI_STE, SID: 0x20 })],
    ['SYNC with an interrupt', encode(SYNC, { OPCODE: COMMAND.SYNC, CS: 1 })],
    ['ATC_INV of an unknown StreamID', atcInv(0x11)],
    ['ATC_INV by the host’s name', atcInv(0x28)],
    ['ATC_INV of StreamID 0', atcInv(0)],
    ['NH_ALL of a VMID that is a StreamID', encode(TLBI, { OPCODE: 0x10, VMID: 0x10 })],
    ['NH_ASID, secure', Uint32Array.of(0x411, 0x1_0000, 0, 0)],
    ['ATC_INV, secure', encode(ATC_INV, { OPCODE: COMMAND.ATC_INV, SSEC: 1, SID: 0x10 })],
    ['RESUME', Uint32Array.of(0x44, 0x10, 0, 0)],
  ])('%s stops the queue with CERROR_ILL, and the guest hears of it', (_, command) => {
    const { send, register, setRegister, context, viommuId, page } = primed();
    const { queue } = context.veventqAlloc({ viommuId, type: TEGRA241, veventqDepth: 4 });
    send(0, [command, NH_ASID_1]);
    expect(register(0, CONS)).toBe(1 << 24);
    expect([register(0, GERROR), register(0, GERRORN)]).toEqual([1, 0]);
    const events = queue.readEvents();
    expect(events.map(({ data }) => [...data])).toEqual([[1, ...new Array(15).fill(0)]]);
    expect([page(0, VA), page(1, VA)]).toEqual([PAGE_OF.A1, PAGE_OF.A2]);
    // Skipped and acknowledged, it goes on.
    setRegister(0, CONS, 1);
    setRegister(0, GERRORN, 1);
    expect(page(0, VA)).toBe(0xb000);
    expect(register(0, CONS)).toBe(2);
  });

  test('a queue that is off, or given back, executes nothing', () => {
    const { send, setRegister, poll, register, page, context, viommuId } = primed();
    setRegister(0, CONFIG, 0);
    poll();
    expect(register(0, STATUS)).toBe(0);
    send(0, [NH_ASID_1]);
    expect(page(0, VA)).toBe(PAGE_OF.A1);
    const [queue] = [...context.find('test', viommuId, 'VIOMMU').hwQueues];
    context.destroy({ id: queue?.id as number });
    expect([CONS, PROD, CONFIG].map((at) => register(0, at))).toEqual([0, 0, 0]);
    setRegister(0, CONFIG, 1);
    setRegister(0, PROD, 1);
    expect(page(0, VA)).toBe(PAGE_OF.A1);
    expect([STATUS, GERROR].map((at) => register(0, at))).toEqual([0, 0]);
  });

  test('a device that does not answer is reported at the SYNC, with CERROR_ATC_INV_SYNC', () => {
    const { send, register, devices } = primed();
    Object.assign(devices[0] as object, { invalidationAnswer: INVALIDATION_ANSWER.NONE });
    send(0, [atcInv(0x10), SYNC_NONE]);
    expect(register(0, CONS)).toBe((3 << 24) | 1);
    expect(register(0, GERROR)).toBe(1);
  });

  test('indices further apart than the queue: nothing is executed', () => {
    const { setRegister, poll, register, page } = primed();
    setRegister(0, PROD, 20);
    poll();
    expect([register(0, CONS), page(0, VA)]).toEqual([0, PAGE_OF.A1]);
  });

  test('any words in the page: bounded work, and the other guest’s entries stay', () => {
    const { setRegister, poll, page } = primed();
    let seed = 7;
    const random = () => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0);
    for (let round = 0; round < 300; round++) {
      setRegister(random() % 8, (random() % 6) * 4, random());
      poll();
    }
    expect(page(1, VA)).toBe(PAGE_OF.A2);
  });
});

describe('a snapshot with a guest’s queue', () => {
  test('it goes on where it was', () => {
    const before = setUp();
    before.alloc(0);
    before.enable(0);
    before.send(0, [NH_ASID_1, SYNC_NONE]);
    const { machine, process, context } = before;
    const bytes = saveSnapshot({ machine, processes: [process], contexts: [context] });
    const { machine: target, devices, units } = hardwareOf({ cmdqv: {} });
    const { processes } = restoreSnapshot(bytes, { machine: target });
    const moved = processes[0] as typeof process;
    const write = (va: number, word: bigint): void => {
      const data = new Uint8Array(8);
      new DataView(data.buffer).setBigUint64(0, word, true);
      moved.poke(va, data);
    };
    const read = (at: number) => moved.peek(0x30_0000_0000 + at, 1)?.[0];
    expect([CONS, PROD, CONFIG].map(read)).toEqual([2, 2, 1]);
    const reach = (): number => {
      devices[0]?.dmaWrite(VA, Uint8Array.of(0x5a));
      return (
        [PAGE_OF.A1, 0xb000].find((gpa) => moved.peek(0x4000_0000 + gpa, 1)?.[0] === 0x5a) ?? 0
      );
    };
    expect(reach()).toBe(PAGE_OF.A1);
    write(0x4000_0000 + PAGE_OF.A1, 0n);
    write(0x4000_0000 + LEAF_OF.A1, 0xbf43n);
    expect(reach()).toBe(PAGE_OF.A1);
    write(0x4000_0000 + PAGE_OF.A1, 0n);
    write(0x4000_0000 + QUEUE + 32, 0x1_0000_0000_0011n);
    moved.poke(0x30_0000_0000 + PROD, Uint8Array.of(3, 0, 0, 0));
    expect(reach()).toBe(0xb000);
    expect(read(CONS)).toBe(3);
    expect(units[0]?.migration).toBeUndefined();
  });
});

describe('the register window', () => {
  test('PARAM, handshakes, read-only registers', () => {
    const memory = { regionAt: () => undefined };
    const { cmdqv } = createSmmuHardware({
      memory,
      cmdqv: { vintfLg2: 3, vcmdqLg2: 6, sidLg2: 2 },
    });
    if (!cmdqv) throw new Error('no CMDQV');
    expect(cmdqv.readReg32(CMDQV.PARAM)).toBe(0x2361);
    cmdqv.writeReg32(CMDQV.PARAM, 0);
    expect(cmdqv.readReg32(CMDQV.PARAM)).toBe(0x2361);
    expect(cmdqv.readReg32(CMDQV.STATUS)).toBe(0);
    cmdqv.writeReg32(CMDQV.CONFIG, 1);
    expect(cmdqv.readReg32(CMDQV.STATUS)).toBe(1);
    const vintf1 = CMDQV.VINTF + CMDQV.VINTF_STRIDE;
    cmdqv.writeReg32(vintf1 + VINTF.CONFIG, 0x13);
    expect(cmdqv.readReg32(vintf1 + VINTF.STATUS)).toBe(1);
    expect(cmdqv.readReg32(0x5_0000)).toBe(0);
  });

  test('a queue of the host takes all TLBI; one without memory stops with CERROR_ABT', () => {
    const i32 = new Int32Array(0x400);
    const memory = {
      regionAt: (pa: number) => (pa < 0x1000 ? { base: 0, size: 0x1000, i32 } : undefined),
    };
    const { cmdqv } = createSmmuHardware({ memory, cmdqv: {} });
    if (!cmdqv) throw new Error('no CMDQV');
    let interrupts = 0;
    cmdqv.onInterrupt = () => interrupts++;
    const page0 = CMDQV.VINTF_PAGES;
    const on = (1 << 17) | 1;
    i32.set([COMMAND.TLBI_NSNH_ALL, 0, 0, 0, COMMAND.SYNC], 0);
    cmdqv.writeReg32(CMDQV.CONFIG, 1);
    cmdqv.writeReg32(CMDQV.CMDQ_ALLOC, 1);
    cmdqv.writeReg32(CMDQV.VCMDQ_PAGE1, 4);
    cmdqv.writeReg32(page0 + CONFIG, 1);
    cmdqv.writeReg32(CMDQV.VCMDQ_PAGE0 + PROD, 2);
    // The interface is off.
    expect(cmdqv.readReg32(page0 + CONS)).toBe(0);
    cmdqv.writeReg32(CMDQV.VINTF + VINTF.CONFIG, on);
    expect(cmdqv.readReg32(page0 + CONS)).toBe(2);
    for (const at of [STATUS, GERROR]) cmdqv.writeReg32(page0 + at, 6);
    expect([STATUS, GERROR].map((at) => cmdqv.readReg32(page0 + at))).toEqual([1, 0]);
    cmdqv.writeReg32(CMDQV.VCMDQ_PAGE1, 0x2004);
    cmdqv.writeReg32(page0 + PROD, 3);
    expect(cmdqv.readReg32(page0 + CONS)).toBe((2 << 24) | 2);
    expect(interrupts).toBe(1);
    const maps = [CMDQV.VINTF_ERR_MAP, CMDQV.CMDQ_ERR_MAP, CMDQV.VINTF + VINTF.LVCMDQ_ERR_MAP];
    expect(maps.map((at) => cmdqv.readReg32(at))).toEqual([1, 1, 1]);
    cmdqv.writeReg32(page0 + GERRORN, cmdqv.readReg32(page0 + GERROR));
    // Acknowledged and not mended, it stops again.
    expect(interrupts).toBe(2);
    cmdqv.writeReg32(CMDQV.VINTF_INT_MASK, 1);
    cmdqv.writeReg32(page0 + GERRORN, cmdqv.readReg32(page0 + GERROR));
    expect([interrupts, cmdqv.readReg32(CMDQV.VINTF_ERR_MAP)]).toEqual([2, 1]);
  });

  test('reset takes interfaces and queues away', () => {
    const world = setUp();
    world.alloc(0);
    world.enable(0);
    world.hardware[0]?.reset();
    expect(world.hardware[0]?.cmdqv?.readReg32(CMDQV.PARAM)).toBe(0x4241);
    world.send(0, [NH_ASID_1]);
    expect(world.register(0, CONS)).toBe(0);
  });

  test('the sanitizer hears of commands in a guest’s queue', () => {
    const findings = (commands: readonly Uint32Array[]) => {
      const world = setUp({}, { sanitize: true });
      world.alloc(0);
      world.enable(0);
      world.page(0, VA);
      world.write(LEAF_OF.A1, 0xbf43n);
      world.send(0, commands);
      world.page(0, VA);
      return world.hardware[0]?.sanitizer?.findings.length;
    };
    expect(findings([NH_ASID_1, SYNC_NONE])).toBe(0);
    expect(findings([])).toBe(1);
  });

  test('numbers without room: RangeError', () => {
    const memory = { regionAt: () => undefined };
    for (const cmdqv of [
      { vintfLg2: 7 },
      { vcmdqLg2: 8 },
      { sidLg2: 5 },
      { vintfLg2: 3, vcmdqLg2: 2 },
    ]) {
      expect(() => createSmmuHardware({ memory, cmdqv })).toThrow(RangeError);
    }
  });
});
