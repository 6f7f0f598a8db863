/** Seed 003: vIOMMUs on SMMUv3 (the iommufd_viommu proposal of 2024), in both layouts. */
import { encode } from '@iommukit/bits';
import {
  createMachine,
  createProcess,
  HWPT_ALLOC,
  type IommuDriver,
  MAP_FLAG,
  openIommufd,
  PAGE_RESPONSE,
  sysMmap,
  VIOMMU_TYPE,
  VM_PROT,
} from '@iommukit/core';
import { amdvi } from '@iommukit/driver-amdvi';
import { CFGI, COMMAND, smmuv3, TLBI } from '@iommukit/driver-smmuv3';
import { vtd } from '@iommukit/driver-vtd';
import { describe, expect, it } from 'vitest';
import { refusalOf } from '../machine.ts';
import { A1, A2, ArmVmm, LAYOUTS, vsteOf, wordPair } from './arm-guest.ts';
import { VECTORS } from './guest-image.ts';

type Layout = keyof typeof LAYOUTS;
const BOTH = Object.keys(LAYOUTS) as Layout[];

const [ASID_W0 = '', ASID_W1 = ''] = VECTORS.arm.tlbi_nh_asid_asid1;
/** TLBI_NH_ASID of ASID 1, which both guests use. */
const NH_ASID_1 = wordPair(ASID_W0, ASID_W1);

const bytesOf = (words: Uint32Array): Uint8Array =>
  new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
const cfgiCd = (SID: number) => bytesOf(encode(CFGI, { OPCODE: COMMAND.CFGI_CD, SID, LEAF: 1 }));

/** devA in vSMMU 1, devB in vSMMU 2, both called 0x10 there; devC on the stage 2 itself. */
const flow = (layout: Layout, options: ConstructorParameters<typeof ArmVmm>[1] = {}) => {
  const vmm = new ArmVmm(layout, options);
  const guests = [vmm.guest('devA', A1), vmm.guest('devB', A2)] as const;
  vmm.attach('devC', vmm.parentId);
  return { vmm, guests, v1: guests[0].viommuId, v2: guests[1].viommuId };
};

/** Both guests' devices have used their tables, which are then changed behind the TLB's back. */
const primed = (options: ConstructorParameters<typeof ArmVmm>[1] = {}) => {
  const made = flow('L1', options);
  const read = () => [made.vmm.dma('devA', A1.va), made.vmm.dma('devB', A2.va)];
  expect(read()).toEqual([A1.hpa, A2.hpa]);
  made.vmm.scenario.write(A1.slot, 0xbf43n);
  made.vmm.scenario.write(A2.slot, 0xcf43n);
  expect(read()).toEqual([A1.hpa, A2.hpa]);
  return { ...made, read };
};

describe('S003 A: one stage 2, a VMID per vSMMU', () => {
  it.each(BOTH)('S003 A1: the flow: three VMIDs on one SMMU, one S2TTB on all (%s)', (layout) => {
    const { vmm } = flow(layout);
    const entries = (['devA', 'devB', 'devC'] as const).map((name) => vmm.streamEntry(name));
    expect(entries.map(({ CONFIG }) => CONFIG)).toEqual([7, 7, 6]);
    expect(new Set(entries.map(({ S2TTB }) => S2TTB)).size).toBe(1);
    const vmids = entries.map(({ S2VMID }) => S2VMID);
    expect(vmids).not.toContain(0);
    if (layout === 'L1') expect(new Set(vmids).size).toBe(3);
  });

  it.each(BOTH)(
    'S003 A2: devA and devB read the same VA under the same ASID: two HPAs (%s)',
    (layout) => {
      const { vmm } = flow(layout);
      expect(vmm.dma('devA', A1.va)).toBe(0x1_0000_9010);
      expect(vmm.dma('devB', A2.va)).toBe(0x1_0000_a010);
      expect(vmm.dma('devA', A1.va)).toBe(0x1_0000_9010);
    },
  );

  it.each(BOTH)('S003 A3: devC without vIOMMU: GPA 0x1234 is HPA 0x1_0000_1234 (%s)', (layout) => {
    expect(flow(layout).vmm.dma('devC', 0x1234)).toBe(0x1_0000_1234);
  });
});

describe('S003 B: invalidations stay with their guest', () => {
  it('S003 B1: NH_ASID 1 through vIOMMU 1: its entries are gone, those of VMID 2 still hit', () => {
    const { vmm, v1, v2, read } = primed();
    expect(vmm.invalidate(v1, NH_ASID_1)).toEqual(['ok', 1]);
    expect(read()).toEqual([0x1_0000_b010, A2.hpa]);
    expect(vmm.invalidate(v2, NH_ASID_1)).toEqual(['ok', 1]);
    expect(read()).toEqual([0x1_0000_b010, 0x1_0000_c010]);
  });

  it.each([
    ['NH_ASID', { OPCODE: COMMAND.TLBI_NH_ASID, ASID: 1 }],
    ['NH_ALL', { OPCODE: COMMAND.TLBI_NH_ALL }],
    ['NH_VA', { OPCODE: COMMAND.TLBI_NH_VA, ASID: 1, ADDR: 0x7f00_0000_1000 }],
    ['NH_VAA', { OPCODE: COMMAND.TLBI_NH_VAA, ADDR: 0x7f00_0000_1000 }],
  ])(
    'S003 B2: a command with VMID 2 in it means VMID 1, and never flushes VMID 2 (%s)',
    (_, fields) => {
      const { vmm, v1, read } = primed();
      const VMID = vmm.streamEntry('devB').S2VMID;
      expect(vmm.invalidate(v1, bytesOf(encode(TLBI, { ...fields, VMID })))).toEqual(['ok', 1]);
      expect(read()).toEqual([0x1_0000_b010, A2.hpa]);
      const everything = bytesOf(encode(TLBI, { OPCODE: COMMAND.TLBI_NSNH_ALL, VMID }));
      expect(vmm.invalidate(v1, everything)).toEqual(['EIO', 0]);
      expect(read()).toEqual([0x1_0000_b010, A2.hpa]);
    },
  );

  it('S003 B3: both on one VMID, as Linux 7.3: the second read returns the page of the first', () => {
    const { vmm } = flow('L1', { linux73Vmid: true });
    const [a, b] = [vmm.streamEntry('devA'), vmm.streamEntry('devB')];
    expect(a.S2VMID).toBe(b.S2VMID);
    expect(vmm.dma('devA', A1.va)).toBe(0x1_0000_9010);
    expect(vmm.dma('devB', A2.va)).toBe(0x1_0000_9010);
    expect(() => flow('L2', { linux73Vmid: true })).toThrow('EINVAL');
  });
});

describe('S003 C: a guest names its devices', () => {
  it('S003 C1: CFGI with vSID 0x10 reaches devA alone; an unknown vSID: -EIO, the number done', () => {
    const { vmm, v1 } = flow('L1');
    const read = () => [vmm.dma('devA', A1.va), vmm.dma('devB', A2.va)];
    expect(read()).toEqual([A1.hpa, A2.hpa]);
    // Both CDs name the other table, under an ASID that nothing is cached with.
    const moved = BigInt(VECTORS.arm.cd[A1.cd]?.[0] ?? 0) + (1n << 48n);
    for (const [cd, root] of [
      [A1.cd, 0x38000n],
      [A2.cd, 0x30000n],
    ] as const) {
      vmm.scenario.write(Number(cd), moved);
      vmm.scenario.write(Number(cd) + 8, root);
    }
    expect(read()).toEqual([A1.hpa, A2.hpa]);
    expect(vmm.invalidate(v1, cfgiCd(0x10), cfgiCd(0x10), cfgiCd(0x11), cfgiCd(0x10))).toEqual([
      'EIO',
      2,
    ]);
    expect(read()).toEqual([A2.hpa, A2.hpa]);
  });

  it('S003 C2: CFGI before the vDEVICE: -EIO', () => {
    const vmm = new ArmVmm('L1');
    const viommuId = vmm.viommu('devA');
    expect(vmm.invalidate(viommuId, cfgiCd(0x10))).toEqual(['EIO', 0]);
    vmm.vdevice(viommuId, 'devA', 0x10);
    expect(vmm.invalidate(viommuId, cfgiCd(0x10))).toEqual(['ok', 1]);
  });
});

describe('S003 D: events reach the guest of the device', () => {
  const withQueues = (layout: Layout, veventqDepth: number) => {
    const made = flow(layout);
    const queues = [made.v1, made.v2].map(
      (viommuId) => made.vmm.context.veventqAlloc({ viommuId, type: 1, veventqDepth }).queue,
    );
    return { ...made, queues };
  };

  it.each(BOTH)(
    'S003 D1: a fault of devA: one event in queue 1, SID 0x10, id 0x10; none in queue 2 (%s)',
    (layout) => {
      const { vmm, queues } = withQueues(layout, 8);
      expect(vmm.dma('devA', 0x7f00_0000_2010)).toBe('0x10');
      const [first, second] = queues.map((queue) => queue.readEvents());
      expect(first?.map(({ flags, sequence }) => [flags, sequence])).toEqual([[0, 0]]);
      const data = first?.[0]?.data ?? new Uint8Array(32);
      const view = new DataView(data.buffer);
      // The record of the architecture's own example, with the guest's name for the device.
      const event = [0x10_0000_0010n, 0x200_0000_0000n, 0x7f00_0000_2010n, 0n];
      expect([0, 8, 16, 24].map((at) => view.getBigUint64(at, true))).toEqual(event);
      expect(second).toEqual([]);
    },
  );

  it('S003 D2: three events, depth 1: one event, then LOST_EVENTS with a gap in the sequence', () => {
    const { vmm, queues } = withQueues('L1', 1);
    for (let event = 0; event < 3; event++) vmm.dma('devA', 0x7f00_0000_2010 + 4096 * event);
    const read = queues[0]
      ?.readEvents()
      .map(({ flags, sequence, data }) => [flags, sequence, data.length]);
    expect(read).toEqual([
      [0, 0, 32],
      [1, 2, 0],
    ]);
  });
});

describe('S003 E: lifetimes and refusals', () => {
  it.each(BOTH)(
    'S003 E1: DESTROY of a parent while a child lives: -EBUSY; in order: 0 (%s)',
    (layout) => {
      const { vmm, guests } = flow(layout);
      const { context } = vmm;
      const destroy = (id: number) => refusalOf(() => context.destroy({ id }));
      const [{ viommuId, vdeviceId, hwptId }] = guests;
      expect(destroy(hwptId)).toMatch(/^EBUSY/);
      context.deviceDetach(vmm.id('devA'));
      expect(destroy(viommuId)).toMatch(/^EBUSY/);
      expect(destroy(vmm.parentId)).toMatch(/^EBUSY/);
      for (const id of [hwptId, vdeviceId, viommuId]) context.destroy({ id });
      context.deviceDetach(vmm.id('devB'));
      context.deviceDetach(vmm.id('devC'));
      const [, second] = guests;
      for (const id of [second.hwptId, second.vdeviceId, second.viommuId, vmm.parentId]) {
        context.destroy({ id });
      }
    },
  );

  it('S003 E2: a VMID that is used again: nothing cached under it before hits', () => {
    const { vmm, guests } = flow('L1');
    expect(vmm.dma('devA', A1.va)).toBe(A1.hpa);
    const before = vmm.streamEntry('devA').S2VMID;
    vmm.context.deviceDetach(vmm.id('devA'));
    const [{ viommuId, vdeviceId, hwptId }] = guests;
    for (const id of [hwptId, vdeviceId, viommuId]) vmm.context.destroy({ id });
    vmm.scenario.write(A1.slot, 0xbf43n);
    vmm.guest('devA', A1);
    expect(vmm.streamEntry('devA').S2VMID).toBe(before);
    expect(vmm.dma('devA', A1.va)).toBe(0x1_0000_b010);
  });

  it.each<readonly [string, bigint, bigint, string]>([
    ['S1CDMax above SSIDSIZE', 0x6000bn | (21n << 59n), 0n, 'EIO vste-s1cdmax'],
    ['Config 7', 0x6000fn, 0n, 'EIO vste-config'],
    ['EATS 2', 0x6000bn, 0x2000_0000n, 'EIO vste-eats'],
    ['MEV', 0x6000bn, 0x8_0000n, 'EIO vste-bits'],
    ['V=0', 0xffff_ffff_ffff_fffen, 0xffff_ffff_ffff_ffffn, 'ok'],
  ])('S003 E3: vSTE bits that are not the guest’s: -EIO; V=0: abort (%s)', (_, w0, w1, answer) => {
    const vmm = new ArmVmm('L1');
    const viommuId = vmm.viommu('devA');
    const alloc = () => vmm.attach('devA', vmm.nested('devA', viommuId, wordPair(w0, w1)));
    if (answer === 'ok') {
      alloc();
      expect(vmm.dma('devA', A1.va)).toBe('blocked without record');
      expect(vmm.streamEntry('devA')).toMatchObject({ V: 1, CONFIG: 0 });
    } else expect(refusalOf(alloc)).toBe(answer);
  });

  it('S003 E4: no NEST_PARENT: -EINVAL; a second vDEVICE: -EEXIST; another IOMMU: -EINVAL', () => {
    const vmm = new ArmVmm('L2');
    const { context } = vmm;
    const { outIoasId: ptId } = context.ioasAlloc();
    const { outHwptId } = context.hwptAlloc({ devId: vmm.id('devA'), ptId });
    const over = (hwptId: number) => () =>
      context.viommuAlloc({ devId: vmm.id('devA'), hwptId, type: 1 });
    expect(refusalOf(over(outHwptId))).toBe('EINVAL nest-parent');
    const viommuId = vmm.viommu('devA');
    vmm.vdevice(viommuId, 'devA', 0x10);
    expect(refusalOf(() => vmm.vdevice(viommuId, 'devA', 0x11))).toBe('EEXIST device-vdevice');
    expect(refusalOf(() => vmm.vdevice(viommuId, 'devC', 0x10))).toBe('EEXIST virt-id');
    expect(refusalOf(() => vmm.vdevice(viommuId, 'devB', 0x12))).toBe('EINVAL viommu-device');
    expect(HWPT_ALLOC.NEST_PARENT).toBe(1);
    expect(refusalOf(() => vmm.nested('devB', viommuId, vsteOf(A1)))).toBe('EINVAL viommu-device');
  });
});

describe('S003 F: page requests of every architecture', () => {
  const PASID = 7;

  /** A device asks for one page of a PASID; what the fault queue says of it. */
  const asked = (driver: IommuDriver) => {
    const machine = createMachine({ ramBytes: 2 ** 24 });
    const nic = machine.addEndpoint({ rid: '00:04.0', pasidBits: 16, ats: true, pri: true });
    machine.addUnit(driver);
    const process = createProcess(machine);
    process.mmap({ addr: 0x4000_0000, length: 4096, flags: MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS });
    const context = openIommufd(process, machine);
    const devId = context.bindDevice(nic);
    const { outIoasId: ptId } = context.ioasAlloc();
    const { outFaultId: faultId, queue } = context.faultQueueAlloc();
    const space = (flags: number) =>
      context.hwptAlloc({ devId, ptId, flags: flags | HWPT_ALLOC.PASID, faultId }).outHwptId;
    context.deviceAttach(devId, space(0));
    context.deviceAttach(devId, space(HWPT_ALLOC.FAULT_ID_VALID), PASID);
    const answers: number[] = [];
    const page = { iova: 0x7f00_0000_1000, write: true };
    nic.requestPages([page], { pasid: PASID }, (code) => answers.push(code));
    return { queue, records: queue.readFaults(), answers };
  };

  it('S003 F1: the PPR of a device: a record with cookie in the fault queue; the answer works', () => {
    const { queue, records, answers } = asked(amdvi());
    const [record] = records;
    expect(records).toHaveLength(1);
    expect(record?.cookie).toBeGreaterThan(0);
    expect(answers).toEqual([]);
    expect(queue.respond(record?.cookie ?? 0, PAGE_RESPONSE.SUCCESS)).toBe(0);
    expect(answers).toEqual([0]);
  });

  it('S003 F3: the same fault on VT-d, SMMUv3 and AMD-Vi: equal records', () => {
    const [first, ...others] = [vtd(), smmuv3(), amdvi()].map((driver) => asked(driver).records);
    expect(first).toMatchObject([{ pasid: PASID, grpid: 0, perm: 3, addr: 0x7f00_0000_1000n }]);
    for (const other of others) expect(other).toEqual(first);
  });
});

/** devA in a vSMMU with a command queue of its own (Tegra241), and how its commands get there. */
const queuePaths = () => {
  const vmm = new ArmVmm('L1', { cmdqv: {} });
  const { context, scenario } = vmm;
  const data = new Uint8Array(16);
  const request = { devId: vmm.id('devA'), hwptId: vmm.parentId, type: VIOMMU_TYPE.TEGRA241_CMDQV };
  const { outViommuId: viommuId } = context.viommuAlloc({ ...request, data });
  vmm.vdevice(viommuId, 'devA', 0x10);
  vmm.attach('devA', vmm.nested('devA', viommuId, vsteOf(A1)));
  vmm.guest('devB', A2);
  const place = { type: 1, index: 0, nestingParentIova: 0x7_0000, length: 0x100 };
  context.hwQueueAlloc({ viommuId, ...place });
  const page0 = 0xa000_0000;
  const offset = Number(new DataView(data.buffer).getBigUint64(0, true));
  const mapping = { addr: page0, length: 0x1_0000, prot: VM_PROT.READ | VM_PROT.WRITE, offset };
  const flags = MAP_FLAG.SHARED | MAP_FLAG.FIXED;
  expect(sysMmap(scenario.vmm, context.fd, { ...mapping, flags })).toBe(page0);
  const register = (at: number, value: number) =>
    scenario.vmm.poke(page0 + at, Uint8Array.of(value, 0, 0, 0));
  register(8, 1);
  return {
    vmm,
    byCall: (commands: readonly Uint8Array[]) => vmm.invalidate(viommuId, ...commands),
    byQueue: (commands: readonly Uint8Array[]) => {
      commands.forEach((command, at) => {
        const view = new DataView(command.buffer, command.byteOffset);
        for (const half of [0, 8]) {
          scenario.write(0x7_0000 + 16 * at + half, view.getBigUint64(half, true));
        }
      });
      register(4, commands.length);
    },
  };
};

describe('S003 F: hardware queues', () => {
  it.each([
    ['NH_ASID 1', { OPCODE: COMMAND.TLBI_NH_ASID, ASID: 1 }, 0x1_0000_b010],
    ['NH_VA', { OPCODE: COMMAND.TLBI_NH_VA, ASID: 1, ADDR: 0x7f00_0000_1000 }, 0x1_0000_b010],
    ['NH_VA of another page', { OPCODE: COMMAND.TLBI_NH_VA, ASID: 1, ADDR: 0x1000 }, A1.hpa],
    ['NH_ASID 2', { OPCODE: COMMAND.TLBI_NH_ASID, ASID: 2 }, A1.hpa],
  ])(
    'S003 F4: the same commands by call and by hardware queue: the same end of the TLB (%s)',
    (_, fields, hpa) => {
      const commands = [bytesOf(encode(TLBI, fields))];
      const ends = (['byCall', 'byQueue'] as const).map((path) => {
        const paths = queuePaths();
        const { vmm } = paths;
        const read = () => [vmm.dma('devA', A1.va), vmm.dma('devB', A2.va)];
        expect(read()).toEqual([A1.hpa, A2.hpa]);
        vmm.scenario.write(A1.slot, 0xbf43n);
        vmm.scenario.write(A2.slot, 0xcf43n);
        paths[path](commands);
        return read();
      });
      expect(ends[1]).toEqual(ends[0]);
      expect(ends[0]).toEqual([hpa, A2.hpa]);
    },
  );
});
