/** Guests end to end: VMM calls on top, DMA of devices below. */
import { decode, encode } from '@iommukit/bits';
import { type Endpoint, HWPT_ALLOC, HWPT_DATA, type IommuUnit } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import {
  ATC_INV,
  CFGI,
  COMMAND,
  decodeVeventArmSmmuv3,
  EVENT_RECORD,
  STE,
  STRTAB_BASE,
  TLBI,
} from '../../src/index.ts';
import { CD_OF, guest, LEAF_OF, PAGE_OF, refusalOf, VA } from './guest.ts';

const NH_ASID_1 = encode(TLBI, { OPCODE: COMMAND.TLBI_NH_ASID, ASID: 1 });
const cfgiCd = (SID: number, SSID = 0) =>
  encode(CFGI, { OPCODE: COMMAND.CFGI_CD, SID, SSID, LEAF: 1 });
const ABORT = { CONFIG: 0 } as const;
const BYPASS = { CONFIG: 4 } as const;

/** Devices 0 and 1 in guests of their own on one stage 2, both with ASID 1. */
const twoGuests = (options: Parameters<typeof guest>[0] = {}) => {
  const world = guest(options);
  const viommus = [world.viommu(0), world.viommu(1)] as const;
  const hwpts = [CD_OF.A1, CD_OF.A2].map((cd, device) => {
    world.vdevice(viommus[device] as number, device, 0x10);
    const hwptId = world.nested(device, viommus[device] as number, world.s1(cd));
    world.attach(device, hwptId);
    return hwptId;
  });
  return { ...world, viommus, hwpts };
};

/** The entry of a device as hardware finds it: register, level 1, level 2. */
const entryOf = ({ hardware, machine }: ReturnType<typeof guest>, rid: number, unit = 0) => {
  const [lo, hi] = [0, 4].map((at) => hardware[unit]?.readReg32(STRTAB_BASE.offset + at) as number);
  const base = decode(STRTAB_BASE, Uint32Array.of(lo as number, hi as number)).ADDR;
  const read = (pa: number) => machine.memory.read32(pa);
  const l1 = base + (rid >> 8) * 8;
  const leaf = read(l1 + 4) * 2 ** 32 + ((read(l1) & 0xffff_ffc0) >>> 0);
  const at = leaf + (rid & 0xff) * 64;
  return decode(
    STE,
    Uint32Array.from({ length: 16 }, (_, word) => read(at + word * 4)),
  );
};

describe('nested domains', () => {
  test('G.2: both stages, in the entry and in DMA', () => {
    const world = twoGuests();
    expect(world.page(0, VA)).toBe(PAGE_OF.A1);
    expect(world.page(1, VA)).toBe(PAGE_OF.A2);
    const [a, b] = [entryOf(world, 0x20), entryOf(world, 0x28)];
    expect(a).toMatchObject({
      V: 1,
      CONFIG: 7,
      S1CONTEXTPTR: CD_OF.A1,
      MEV: 1,
      EATS: 0,
      S2AA64: 1,
    });
    expect(b.S2TTB).toBe(a.S2TTB);
    expect(b.S2VMID).not.toBe(a.S2VMID);
  });

  test.each([
    ['abort', ABORT, 'blocked'],
    ['bypass', BYPASS, 0x9000],
  ])('%s needs no vDEVICE', (_, fields, answer) => {
    const world = guest();
    const viommuId = world.viommu(0);
    world.attach(0, world.nested(0, viommuId, world.vste(fields)));
    expect(world.page(0, 0x9010)).toBe(answer);
    expect(entryOf(world, 0x20).CONFIG).toBe(fields === ABORT ? 0 : 6);
  });

  test('V=0 aborts, whatever else it says', () => {
    const world = guest();
    const hwptId = world.nested(0, world.viommu(0), new Uint8Array(16).fill(0xfe));
    world.attach(0, hwptId);
    expect(world.page(0, VA)).toBe('blocked');
  });

  test('stage 1 without vDEVICE: ENOENT, and nothing changes', () => {
    const world = guest();
    world.attach(0, world.parentId);
    const viommuId = world.viommu(0);
    const hwptId = world.nested(0, viommuId, world.s1(CD_OF.A1));
    expect(refusalOf(() => world.replace(0, hwptId))).toBe('ENOENT guest-vdevice');
    expect(world.page(0, 0x5000)).toBe(0x5000);
    world.vdevice(viommuId, 0, 0x10);
    world.replace(0, hwptId);
    expect(world.page(0, VA)).toBe(PAGE_OF.A1);
  });

  test('another SMMU: EINVAL', () => {
    const world = guest();
    const viommuId = world.viommu(0);
    const data = world.vste(BYPASS);
    const hwptId = world.nested(0, viommuId, data);
    expect(refusalOf(() => world.attach(2, hwptId))).toBe('EINVAL nested-unit');
    expect(refusalOf(() => world.nested(2, viommuId, data))).toBe('EINVAL viommu-device');
  });

  test('flags, other data types, other sizes', () => {
    const { context, id, viommu, s1 } = guest();
    const viommuId = viommu(0);
    const alloc = (changes: object) => () =>
      context.hwptAlloc({
        devId: id(0),
        ptId: viommuId,
        dataType: HWPT_DATA.ARM_SMMUV3,
        data: s1(CD_OF.A1),
        ...changes,
      });
    expect(refusalOf(alloc({ flags: 8 }))).toBe('EOPNOTSUPP hwpt-flags');
    expect(refusalOf(alloc({ dataType: HWPT_DATA.VTD_S1 }))).toBe('EINVAL data-type');
    expect(refusalOf(alloc({ data: new Uint8Array(24) }))).toBe('EINVAL data-length');
    expect(refusalOf(alloc({ data: new Uint8Array(8) }))).toBe('EINVAL data-length');
    expect(refusalOf(alloc({ data: Uint8Array.of(0xf, ...new Uint8Array(15)) }))).toBe(
      'EIO vste-config',
    );
  });

  test('a guest’s CD table has all PASIDs: one is added without any call (S001 C4)', () => {
    const world = guest();
    const viommuId = world.viommu(0);
    world.vdevice(viommuId, 0, 0x10);
    // A linear table of 16 CDs at 0x60000; CD 7 is the second guest's.
    world.attach(0, world.nested(0, viommuId, world.s1(CD_OF.A1, { S1CDMAX: 4, S1DSS: 2 })));
    expect(world.page(0, VA)).toBe(PAGE_OF.A1);
    expect(world.page(0, VA, 7)).toBe('C_BAD_CD');
    // ASID 2: what is cached under ASID 1 is of another table.
    world.write(CD_OF.A1 + 7 * 64, 0x2e205c0003510n);
    world.write(CD_OF.A1 + 7 * 64 + 8, 0x3_8000n);
    expect(world.page(0, VA, 9)).toBe('C_BAD_CD');
    world.invalidate(viommuId, [cfgiCd(0x10, 7)]);
    expect(world.page(0, VA, 7)).toBe(PAGE_OF.A2);
    expect(world.page(0, VA, 16)).toBe('C_BAD_SUBSTREAMID');
  });

  test('the identity of a guest ends with its HWPT: detach, other domain, back', () => {
    const world = twoGuests();
    world.context.deviceDetach(world.id(0));
    expect(world.page(0, VA)).toBe('blocked');
    world.attach(0, world.parentId);
    expect(world.page(0, 0x9010)).toBe(0x9000);
    world.replace(0, world.hwpts[0] as number);
    expect(world.page(0, VA)).toBe(PAGE_OF.A1);
  });
});

describe('vIOMMUs', () => {
  test('supports: both stages, and coherent devices or forced write-back', () => {
    const canWbs = guest({ canWbs: false });
    expect(refusalOf(() => canWbs.viommu(0))).toBe('EOPNOTSUPP viommu-type');
    const { context, id, parentId, units } = guest();
    const other = () => context.viommuAlloc({ devId: id(0), hwptId: parentId, type: 2 });
    expect(refusalOf(other)).toBe('EOPNOTSUPP viommu-type');
    expect(units[0]?.caps.guestStage).toBe(1);
    const forced = guest({ canWbs: false, capabilities: { idr3: { FWB: 1 } } });
    const viommuId = forced.viommu(0);
    forced.vdevice(viommuId, 0, 0x10);
    forced.attach(0, forced.nested(0, viommuId, forced.s1(CD_OF.A1)));
    expect(entryOf(forced, 0x20).S2FWB).toBe(1);
    expect(forced.page(0, VA)).toBe(PAGE_OF.A1);
  });

  test('NH_ASID of one guest leaves the other’s translations (G.4)', () => {
    const world = twoGuests();
    const { page, write, invalidate, viommus } = world;
    expect([page(0, VA), page(1, VA)]).toEqual([PAGE_OF.A1, PAGE_OF.A2]);
    write(LEAF_OF.A1, 0xbf43n);
    write(LEAF_OF.A2, 0xcf43n);
    expect([page(0, VA), page(1, VA)]).toEqual([PAGE_OF.A1, PAGE_OF.A2]);
    expect(invalidate(viommus[0], [NH_ASID_1])).toBe('done');
    expect([page(0, VA), page(1, VA)]).toEqual([0xb000, PAGE_OF.A2]);
    expect(invalidate(viommus[1], [NH_ASID_1])).toBe('done');
    expect([page(0, VA), page(1, VA)]).toEqual([0xb000, 0xc000]);
  });

  test('as Linux 7.3 two guests on one stage 2 share a VMID, and the second sees the first’s page', () => {
    const world = twoGuests({ linux73Vmid: true });
    expect(entryOf(world, 0x20).S2VMID).toBe(entryOf(world, 0x28).S2VMID);
    expect([world.page(0, VA), world.page(1, VA)]).toEqual([PAGE_OF.A1, PAGE_OF.A1]);
  });

  test('one stage 2 for guests on two SMMUs; as Linux 7.3: EINVAL', () => {
    const world = guest();
    const viommuId = world.viommu(2);
    world.vdevice(viommuId, 2, 0x10);
    world.attach(2, world.nested(2, viommuId, world.s1(CD_OF.A2)));
    expect(world.page(2, VA)).toBe(PAGE_OF.A2);
    world.context.ioasUnmap({ ioasId: world.ioasId, iova: 0, length: 2 ** 24 });
    expect(world.page(2, VA)).toBe('F_TRANSLATION');
    const linux = guest({ linux73Vmid: true });
    expect(refusalOf(() => linux.viommu(2))).toBe('EINVAL nest-parent-unit');
  });

  test('a VMID is used again only when nothing is cached under it', () => {
    const world = twoGuests();
    const { context, hwpts, viommus, page } = world;
    expect(page(0, VA)).toBe(PAGE_OF.A1);
    const vmid = entryOf(world, 0x20).S2VMID;
    context.deviceDetach(world.id(0));
    context.destroy({ id: hwpts[0] as number });
    const vdevice = [...context.find('test', viommus[0], 'VIOMMU').vdevices.values()][0];
    context.destroy({ id: vdevice?.id as number });
    context.destroy({ id: viommus[0] });
    world.write(LEAF_OF.A1, 0xbf43n);
    const viommuId = world.viommu(0);
    world.vdevice(viommuId, 0, 0x10);
    world.attach(0, world.nested(0, viommuId, world.s1(CD_OF.A1)));
    expect(entryOf(world, 0x20).S2VMID).toBe(vmid);
    expect(page(0, VA)).toBe(0xb000);
  });

  test('an unknown StreamID: EIO; after the vDEVICE: done', () => {
    const world = guest();
    const viommuId = world.viommu(0);
    expect(world.invalidate(viommuId, [cfgiCd(0x10)])).toBe('EIO guest-stream');
    const id = world.vdevice(viommuId, 0, 0x10);
    expect(world.invalidate(viommuId, [cfgiCd(0x10)])).toBe('done');
    expect(world.invalidate(viommuId, [cfgiCd(0x11)])).toBe('EIO guest-stream');
    world.context.destroy({ id });
    expect(world.invalidate(viommuId, [cfgiCd(0x10)])).toBe('EIO guest-stream');
  });

  test('a name of 33 bits can be given and not be named', () => {
    const world = guest();
    const viommuId = world.viommu(0);
    world.vdevice(viommuId, 0, 0x1_0000_0010n);
    expect(world.invalidate(viommuId, [cfgiCd(0x10)])).toBe('EIO guest-stream');
  });

  test('no entries: EINVAL', () => {
    const { invalidate, viommu } = guest();
    expect(invalidate(viommu(0), [])).toBe('EINVAL data-type');
  });
});

describe('stage 2 under guests (G.5)', () => {
  test('unmapping takes what both stages yielded along, in every guest', () => {
    const world = twoGuests();
    const { page, context, ioasId } = world;
    expect([page(0, VA), page(1, VA)]).toEqual([PAGE_OF.A1, PAGE_OF.A2]);
    context.ioasUnmap({ ioasId, iova: 0, length: 2 ** 24 });
    expect([page(0, VA), page(1, VA)]).toEqual(['F_TRANSLATION', 'F_TRANSLATION']);
  });
});

describe('events for guests (G.3)', () => {
  const withQueue = () => {
    const world = twoGuests();
    const queues = world.viommus.map(
      (viommuId) => world.context.veventqAlloc({ viommuId, type: 1, veventqDepth: 4 }).queue,
    );
    return { ...world, queues };
  };

  test('a fault of stage 1 goes to the guest of the device, under the guest’s name', () => {
    const { page, queues, faults } = withQueue();
    expect(page(0, VA + 0x1000)).toBe('F_TRANSLATION');
    const [event] = queues[0]?.readEvents() ?? [];
    const record = decode(EVENT_RECORD, decodeVeventArmSmmuv3(event?.data as Uint8Array));
    expect(record).toMatchObject({ CODE: 0x10, SID: 0x10, S2: 0 });
    expect(BigInt(record.INPUT_ADDR)).toBe(BigInt(VA + 0x1000));
    expect(queues[1]?.readEvents()).toEqual([]);
    expect(faults.map(({ rid }) => rid)).toEqual([0x20]);
  });

  test('a fault of stage 2 stays with the host', () => {
    const { page, queues, context, ioasId, faults } = withQueue();
    context.ioasUnmap({ ioasId, iova: 0, length: 2 ** 24 });
    expect(page(0, VA)).toBe('F_TRANSLATION');
    expect(queues[0]?.readEvents()).toEqual([]);
    expect(faults).toHaveLength(1);
  });

  test('no event of a device without name, or on another domain', () => {
    const world = withQueue();
    world.replace(0, world.parentId);
    expect(world.page(0, 2 ** 30)).toBe('F_TRANSLATION');
    expect(world.queues[0]?.readEvents()).toEqual([]);
  });
});

describe('ATS of a guest’s devices (G.3, EATS)', () => {
  const BYTES = Uint8Array.of(1, 2, 3, 4);
  const atcInv = (SID: number) => encode(ATC_INV, { OPCODE: COMMAND.ATC_INV, SID, SIZE: 52 });
  const withAts = (EATS: number) => {
    const world = guest();
    const viommus = [world.viommu(0), world.viommu(1)] as const;
    viommus.forEach((viommuId, device) => {
      world.vdevice(viommuId, device, 0x10);
      const cd = device === 0 ? CD_OF.A1 : CD_OF.A2;
      world.attach(device, world.nested(device, viommuId, world.s1(cd, { EATS })));
    });
    const ats = (device: number) => world.devices[device]?.atsWrite(VA, BYTES);
    const at = (gpa: number) => world.process.peek(0x4000_0000 + gpa, 4);
    return { ...world, viommus, ats, at };
  };

  test('EATS 0: ATS is off, whatever the device can', () => {
    const world = withAts(0);
    expect(world.ats(0)).toBe(0);
    expect(world.page(0, VA)).toBe(PAGE_OF.A1);
    expect(entryOf(world, 0x20).EATS).toBe(0);
  });

  test('EATS 1: the guest’s own ATC_INV reaches its device, and no other guest’s', () => {
    const world = withAts(1);
    expect([world.ats(0), world.ats(1)]).toEqual([4, 4]);
    expect(entryOf(world, 0x20).EATS).toBe(1);
    world.write(LEAF_OF.A1, 0xbf43n);
    world.write(LEAF_OF.A2, 0xcf43n);
    expect(world.invalidate(world.viommus[0], [NH_ASID_1])).toBe('done');
    expect(world.invalidate(world.viommus[1], [NH_ASID_1])).toBe('done');
    // The devices' own caches are older than the tables.
    world.ats(0);
    expect(world.at(0xb000)).toEqual(new Uint8Array(4));
    expect(world.invalidate(world.viommus[0], [atcInv(0x10)])).toBe('done');
    world.ats(0);
    world.ats(1);
    expect(world.at(0xb000)).toEqual(BYTES);
    expect(world.at(0xc000)).toEqual(new Uint8Array(4));
  });

  test('a device whose stage 2 may stall has no ATS, whatever the guest wants (5.2, EATS with S2S)', () => {
    const world = guest({
      capabilities: { idr0: { STALL_MODEL: 0 }, idr5: { STALL_MAX: 8 } },
      stallSids: [0x20],
    });
    const viommuId = world.viommu(0);
    world.vdevice(viommuId, 0, 0x10);
    world.attach(0, world.nested(0, viommuId, world.s1(CD_OF.A1, { EATS: 1 })));
    expect(entryOf(world, 0x20)).toMatchObject({ EATS: 0, S2S: 1 });
    expect(world.page(0, VA)).toBe(PAGE_OF.A1);
    world.replace(0, world.parentId);
    expect(entryOf(world, 0x20)).toMatchObject({ CONFIG: 6, EATS: 0, S2S: 1 });
    expect(world.page(0, 0x9000)).toBe(0x9000);
  });

  test('a change of stage 2 empties the devices’ caches without the guest', () => {
    const world = withAts(1);
    expect([world.ats(0), world.ats(1)]).toEqual([4, 4]);
    world.context.ioasUnmap({ ioasId: world.ioasId, iova: 0, length: 2 ** 24 });
    expect([world.ats(0), world.ats(1)]).toEqual([0, 0]);
  });

  test('leaving the guest empties the device’s cache', () => {
    const world = withAts(1);
    expect(world.ats(0)).toBe(4);
    world.context.deviceDetach(world.id(0));
    expect(world.ats(0)).toBe(0);
    world.attach(0, world.parentId);
    expect(world.ats(0)).toBe(0);
  });

  test('on a unit without ATS a guest’s ATC_INV is no command', () => {
    const world = guest({ capabilities: { idr0: { ATS: 0 } } });
    const viommuId = world.viommu(0);
    world.vdevice(viommuId, 0, 0x10);
    expect(world.invalidate(viommuId, [atcInv(0x10)])).toBe('EIO guest-opcode');
  });
});

describe('PASIDs and guests (H.5)', () => {
  test('a device with PASIDs attached: EBUSY; on a nested HWPT no PASID can be: EINVAL', () => {
    const { context, id, viommu, vdevice, nested, s1, attach, units, devices } = guest();
    const [unit, device] = [units[0], devices[0]] as [IommuUnit, Endpoint];
    const own = unit.allocPaging(device, { flags: HWPT_ALLOC.PASID });
    const viommuId = viommu(0);
    vdevice(viommuId, 0, 0x10);
    const hwptId = nested(0, viommuId, s1(CD_OF.A1));
    unit.attach(device, 5, own);
    expect(refusalOf(() => attach(0, hwptId))).toBe('EBUSY pasids-in-use');
    unit.attach(device, 5, unit.blocking);
    attach(0, hwptId);
    expect(refusalOf(() => unit.attach(device, 5, own))).toBe('EINVAL pasid-stream');
    context.deviceDetach(id(0));
  });
});

describe('nested HWPTs without vIOMMU', () => {
  test('translate, invalidate through the HWPT, and have a VMID of their own', () => {
    const world = guest();
    const hwpts = [world.nested(0, world.parentId, world.s1(CD_OF.A1)), 0];
    hwpts[1] = world.nested(1, world.parentId, world.s1(CD_OF.A2));
    hwpts.forEach((hwptId, device) => {
      world.attach(device, hwptId);
    });
    const { page, write, invalidate } = world;
    expect([page(0, VA), page(1, VA)]).toEqual([PAGE_OF.A1, PAGE_OF.A2]);
    write(LEAF_OF.A1, 0xbf43n);
    write(LEAF_OF.A2, 0xcf43n);
    expect(invalidate(hwpts[0] as number, [NH_ASID_1, cfgiCd(0x99)])).toBe('done');
    expect([page(0, VA), page(1, VA)]).toEqual([0xb000, PAGE_OF.A2]);
    world.context.deviceDetach(world.id(0));
    world.context.destroy({ id: hwpts[0] as number });
    expect(page(1, VA)).toBe(PAGE_OF.A2);
  });

  test('directNesting: false, as Linux 7.3: EOPNOTSUPP', () => {
    const { nested, parentId, s1 } = guest({ directNesting: false });
    expect(refusalOf(() => nested(0, parentId, s1(CD_OF.A1)))).toBe('EOPNOTSUPP nested-hwpt');
  });
});
