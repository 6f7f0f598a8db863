/** Seed 004, groups A to D: who owns the PASID table, and "give me a PASID" (the iommufd RFC of 2021). */
import {
  DevicePasids,
  ENQCMD_INITIAL,
  type EnqcmdState,
  enqcmdMap,
  enqcmdSubmit,
  GuestPasids,
  HostPasids,
  HWPT_ALLOC,
  type IommuDriver,
  openIommufd,
  PASID_DEVICE_TYPE,
  type PasidDeviceType,
} from '@iommukit/core';
import { amdvi, DEFAULT_EFR } from '@iommukit/driver-amdvi';
import { smmuv3 } from '@iommukit/driver-smmuv3';
import type { VtdIommuUnit } from '@iommukit/driver-vtd';
import { describe, expect, it, vi } from 'vitest';
import { FIXED_RW, refusalOf } from '../machine.ts';
import { A1, ArmVmm } from './arm-guest.ts';
import { FAULT, GUEST, nestingSetup, Scenario, vtd48, X1, X2 } from './guest-image.ts';
import { pasidEntry, pasidEntryAddress, pasidsInUse } from './host-tables.ts';

const DEVICE = { rid: '00:04.0', name: 'parent', pasidBits: 16 };
/** Another RID behind the same unit. */
const STRANGER = { rid: '00:05.0', name: 'stranger', pasidBits: 16 };

/** Bit 31 of IA32_PASID: the thread has a PASID. */
const MSR_VALID = 0x8000_0000;

/** Two guest tables for PASIDs of one Intel device. */
const intel = () => {
  const scenario = new Scenario([{ driver: vtd48(), devices: [DEVICE, STRANGER] }]);
  const setup = nestingSetup(scenario);
  const { hardware } = scenario.machine.units[0] as VtdIommuUnit;
  const device = scenario.device(0);
  const devId = setup.devIds[0] as number;
  setup.context.deviceAttach(devId, setup.parentId);
  const entry = (pasid: number) => pasidEntry(scenario, hardware, device, pasid);
  const inUse = (last: number) => pasidsInUse(scenario, hardware, device, last);
  return { ...setup, hardware, device, devId, entry, inUse };
};

/** Devices of one guest: the policy picks the PASID on the wire, the driver writes its entry. */
const mediated = (type: PasidDeviceType, ...names: readonly string[]) => {
  const made = intel();
  const { context, device, devId } = made;
  const host = new HostPasids({ pasidBits: 16 });
  const guest = new GuestPasids(host);
  for (const name of names) guest.addDevice({ name, rid: device.rid, type });
  const attach = (name: string, vpasid: number, hwptId: number) => {
    const { ppasid, hostWritesEntry } = guest.attach(name, vpasid);
    if (hostWritesEntry) context.deviceAttach(devId, hwptId, ppasid);
    return ppasid;
  };
  return { ...made, guest, attach };
};

/**
 * The 64 bytes of a nested entry: P, AW 2 (48 bits), PGTT 3 over the parent's second stage; its
 * domain id, snooped walks and pages; 4 levels from the guest's root.
 */
const nestedEntry = (stage2: bigint, did: bigint, root: number): bigint[] => [
  stage2 | (3n << 6n) | (2n << 2n) | 1n,
  (1n << 24n) | (1n << 23n) | did,
  BigInt(root),
  ...Array(5).fill(0n),
];

/** Root of the second stage and domain id, as an entry names them. */
const tagsOf = ([first = 0n, second = 0n]: readonly bigint[]) =>
  [first & ~0xfffn, second & 0xffffn] as const;

describe('S004 A: the user owns the PASID table (Arm)', () => {
  it('S004 A1: one call hands the table over; entry 7 written by the guest: PASID 7 works, no call', () => {
    const vmm = new ArmVmm('L1');
    const { writeCd } = vmm.cdTableGuest('devA');
    const calls = vi.spyOn(vmm.context, 'call');
    writeCd(7, A1, 1);
    expect(vmm.dma('devA', A1.va, 7)).toBe(0x1_0000_9010);
    expect(calls).not.toHaveBeenCalled();
  });

  it('S004 A2: PASID 8 that was not written: fault', () => {
    const vmm = new ArmVmm('L1');
    const { writeCd } = vmm.cdTableGuest('devA');
    writeCd(7, A1, 1);
    expect(vmm.dma('devA', A1.va, 8)).toBe('0xa');
    expect(vmm.dma('devA', A1.va, 7)).toBe(0x1_0000_9010);
  });
});

describe('S004 B: Intel, the host owns the PASID table; whole device', () => {
  it('S004 B1: attach(dev, ioas n, pasid 7): the driver writes entry 7; wire PASID 7', () => {
    const { scenario, context, device, devId, nested, entry, inUse } = intel();
    const [stage2] = tagsOf(entry(0));
    expect(inUse(127)).toEqual([0]);
    context.deviceAttach(devId, nested(X2.root), 7);
    expect(inUse(127)).toEqual([0, 7]);
    const [, did] = tagsOf(entry(7));
    expect(did).toBeGreaterThan(1n);
    expect(entry(7)).toEqual(nestedEntry(stage2, did, 0x20000));
    expect(scenario.dma(device, X2.va, 7)).toBe(0x1_0000_9010);
    expect(scenario.wire.at(-1)).toMatchObject({ rid: device.rid, pasid: 7 });
    context.deviceDetach(devId, 7);
    expect([inUse(127), scenario.dma(device, X2.va, 7)]).toEqual([[0], FAULT.PASID_ENTRY]);
  });

  it('S004 B2: the guest writes its own PASID table: no effect on translation', () => {
    const made = intel();
    const { scenario, context, device, devId, nested, entry, hardware } = made;
    context.deviceAttach(devId, nested(X2.root), 7);
    expect(scenario.dma(device, X2.va, 7)).toBe(0x1_0000_9010);
    const before = entry(7);
    // Entry 7 of a table at GPA 0x50000, with X1 in place of X2; a directory that names it.
    const forged = [before[0] ?? 0n, before[1] ?? 0n, BigInt(X1.root), ...Array(5).fill(0n)];
    forged.forEach((qword, i) => {
      scenario.write(0x50000 + 7 * 64 + 8 * i, qword);
    });
    scenario.write(0x51000, BigInt(GUEST.HPA + 0x50000) | 1n);
    const reads = hardware.explain({ rid: device.rid, pasid: 7, iova: X2.va, cached: false });
    expect(reads.pfn).toBe(0x10_0009);
    expect(entry(7)).toEqual(before);
    expect(scenario.dma(device, X2.va, 7)).toBe(0x1_0000_9010);
    expect(scenario.dma(device, X1.va, 7)).toBe(FAULT.FIRST_STAGE);
    // The same bytes in the host's table would count: they are a good entry.
    const at = pasidEntryAddress(scenario, hardware, device, 7);
    scenario.machine.memory.write32(at + 16, X1.root);
    const forgedWalk = hardware.explain({ rid: device.rid, pasid: 7, iova: X1.va, cached: false });
    expect(forgedWalk.pfn).toBe(0x10_0001);
  });
});

describe('S004 C: Intel, mediated devices', () => {
  it('S004 C1: mdev1 and mdev2 of one RID, vPASID 7 each: host entries 4097 and 4098', () => {
    const made = mediated(PASID_DEVICE_TYPE.MDEV_PARENT_TABLE, 'mdev1', 'mdev2');
    const { scenario, device, nested, attach, entry, inUse } = made;
    const ppasids = [attach('mdev1', 7, nested(X2.root)), attach('mdev2', 7, nested(X1.root))];
    expect(ppasids).toEqual([4097, 4098]);
    expect(inUse(4200)).toEqual([0, 4097, 4098]);
    const [stage2] = tagsOf(entry(0));
    const dids = [4097, 4098].map((pasid) => tagsOf(entry(pasid))[1]);
    expect(entry(4097)).toEqual(nestedEntry(stage2, dids[0] ?? 0n, 0x20000));
    expect(entry(4098)).toEqual(nestedEntry(stage2, dids[1] ?? 0n, 0x10000));
    expect(dids[0]).not.toBe(dids[1]);
    expect(scenario.dma(device, X2.va, 4097)).toBe(0x1_0000_9010);
    expect(scenario.dma(device, X1.va, 4098)).toBe(0x1_0000_1abc);
    expect(scenario.dma(device, X1.va, 4097)).toBe(FAULT.FIRST_STAGE);
    expect(scenario.dma(device, X2.va, 4098)).toBe(FAULT.FIRST_STAGE);
  });

  it('S004 C2: ENQCMD: portal blocked before KVM maps vPASID 7; then wire PASID = pPASID', () => {
    const made = mediated(PASID_DEVICE_TYPE.MDEV_ENQCMD, 'mdev1');
    const { scenario, device, nested, attach } = made;
    const ppasid = attach('mdev1', 7, nested(X2.root));
    expect(ppasid).not.toBe(7);
    const submit = (state: EnqcmdState) => {
      const outcome = enqcmdSubmit(state, PASID_DEVICE_TYPE.MDEV_ENQCMD, MSR_VALID | 7);
      return outcome.kind === 'sent' ? scenario.dma(device, X2.va, outcome.pasid) : outcome;
    };
    expect(submit(ENQCMD_INITIAL)).toEqual({ kind: 'blocked', why: 'needs-translation' });
    expect(scenario.wire).toEqual([]);
    const mapped = enqcmdMap(ENQCMD_INITIAL, 7, ppasid);
    expect(submit(mapped)).toBe(0x1_0000_9010);
    expect(scenario.wire).toMatchObject([{ rid: device.rid, pasid: ppasid }]);
  });

  it('S004 C3: direct use of PASID 7 by mdev1: fault, entry 7 is not its own', () => {
    const { scenario, device, nested, attach, entry } = mediated(
      PASID_DEVICE_TYPE.MDEV_PARENT_TABLE,
      'mdev1',
    );
    const ppasid = attach('mdev1', 7, nested(X2.root));
    expect(scenario.dma(device, X2.va, 7)).toBe(FAULT.PASID_ENTRY);
    expect(scenario.faults).toMatchObject([{ rid: device.rid, pasid: 7 }]);
    expect(entry(7)).toEqual(Array(8).fill(0n));
    // mdev1's own number is worth nothing to another RID: PASID tables are per RID.
    const stranger = scenario.device(1);
    expect(scenario.dma(device, X2.va, ppasid)).toBe(0x1_0000_9010);
    expect(scenario.dma(stranger, X2.va, ppasid)).toBe(FAULT.PASID_DIRECTORY);
    expect(scenario.faults.at(-1)).toMatchObject({ rid: stranger.rid, pasid: ppasid });
  });

  it.each([
    ['pdev', PASID_DEVICE_TYPE.PDEV_KERNEL_TABLE, 7],
    ['mdev', PASID_DEVICE_TYPE.MDEV_PARENT_TABLE, 4097],
  ] as const)(
    'S004 C4: "always vPASID", one call: v = p for a pdev, v != p for an mdev (%s)',
    (_, type, wirePasid) => {
      const { scenario, device, guest, nested, attach, inUse } = mediated(type, 'dev');
      expect(attach('dev', 7, nested(X2.root))).toBe(wirePasid);
      expect([guest.ppasidOf('dev', 7), guest.vpasidOf('dev', wirePasid)]).toEqual([wirePasid, 7]);
      expect(inUse(4200)).toEqual([0, wirePasid]);
      expect(scenario.dma(device, X2.va, guest.ppasidOf('dev', 7))).toBe(0x1_0000_9010);
    },
  );
});

const IOVA = 0x100_0000;

/** A generic user: a device on an address space of its own, and spaces to request PASIDs for. */
const generic = (driver: IommuDriver) => {
  const scenario = new Scenario([{ driver, devices: [DEVICE] }]);
  const context = openIommufd(scenario.vmm, scenario.machine);
  const device = scenario.device(0);
  const devId = context.bindDevice(device);
  /** An address space whose `IOVA` is the guest page at `gpa`. */
  const space = (gpa: number, flags = 0) => {
    const { outIoasId: ioasId } = context.ioasAlloc();
    const { outHwptId } = context.hwptAlloc({ devId, ptId: ioasId, flags });
    const page = { userVa: GUEST.HVA + gpa, length: 0x1000, iova: IOVA };
    context.ioasMap({ ioasId, flags: FIXED_RW, ...page });
    return outHwptId;
  };
  return { scenario, context, device, devId, space };
};

const VTD: readonly (readonly [string, () => IommuDriver])[] = [
  ['VT-d, first stage', () => vtd48()],
  ['VT-d, second stage', () => vtd48({ firstStageByDefault: false })],
];

describe.each(VTD)('S004 D: a PASID without vendor data, %s', (_, driver) => {
  const requested = () => {
    const made = generic(driver());
    const { context, devId, space } = made;
    context.deviceAttach(devId, space(0x8000, HWPT_ALLOC.PASID));
    const pasids = new DevicePasids(context, devId);
    return { ...made, pasids, q: pasids.request(space(0x9000, HWPT_ALLOC.PASID)) };
  };

  it('S004 D1: request a PASID q; DMA(RID, q, iova): the mapped HPA', () => {
    const { scenario, device, q } = requested();
    expect(q).toBeGreaterThan(0);
    expect(scenario.dma(device, IOVA + 0x10, q)).toBe(0x1_0000_9010);
    expect(scenario.wire.at(-1)).toMatchObject({ rid: device.rid, pasid: q });
  });

  it('S004 D2: the same iova without PASID: the default space; with q+1: fault', () => {
    const { scenario, device, q } = requested();
    expect(scenario.dma(device, IOVA + 0x10)).toBe(0x1_0000_8010);
    expect(scenario.dma(device, IOVA + 0x10, q + 1)).toBe(FAULT.PASID_ENTRY);
  });

  it('S004 D3: free q: DMA faults; q is not given out again before the flush', () => {
    const made = requested();
    const { scenario, context, device, devId, space, pasids, q } = made;
    const { hardware } = scenario.machine.units[0] as VtdIommuUnit;
    expect(scenario.dma(device, IOVA + 0x10, q)).toBe(0x1_0000_9010);
    const before = hardware.stats();
    pasids.release(q);
    // Its PASID entry and its translation are out of the caches, so the next owner meets neither.
    expect(hardware.stats().entriesInvalidated).toBeGreaterThanOrEqual(
      before.entriesInvalidated + 2,
    );
    expect(scenario.dma(device, IOVA + 0x10, q)).toBe(FAULT.PASID_ENTRY);
    expect(pasids.request(space(0xa000, HWPT_ALLOC.PASID))).toBe(q);
    expect(scenario.dma(device, IOVA + 0x10, q)).toBe(0x1_0000_a010);
    pasids.release(q);
    // A host that flushes later parks the number until then.
    const host = new HostPasids({ pasidBits: 16 });
    const guest = new GuestPasids(host);
    guest.addDevice({ name: 'mdev', rid: device.rid, type: PASID_DEVICE_TYPE.MDEV_PARENT_TABLE });
    const attach = (vpasid: number, gpa: number) => {
      const { ppasid } = guest.attach('mdev', vpasid);
      context.deviceAttach(devId, space(gpa, HWPT_ALLOC.PASID), ppasid);
      return ppasid;
    };
    expect(attach(7, 0x9000)).toBe(4097);
    expect(scenario.dma(device, IOVA, 4097)).toBe(0x1_0000_9000);
    guest.detach('mdev', 7);
    expect(attach(7, 0xa000)).toBe(4098);
    context.deviceDetach(devId, 4097);
    expect(scenario.dma(device, IOVA, 4097)).toBe(FAULT.PASID_ENTRY);
    host.flushed(device.rid);
    expect(attach(8, 0xb000)).toBe(4097);
    expect(scenario.dma(device, IOVA, 4097)).toBe(0x1_0000_b000);
  });
});

describe.each<readonly [string, () => IommuDriver, string]>([
  ['SMMUv3', () => smmuv3(), '0xa'], // C_BAD_CD
  ['AMD-Vi', () => amdvi(), '0x2'], // IO_PAGE_FAULT
])('S004 D: a PASID without vendor data, %s', (_, driver, fault) => {
  const asked = () => {
    const made = generic(driver());
    const { context, devId, space } = made;
    context.deviceAttach(devId, space(0x8000, HWPT_ALLOC.PASID));
    const pasids = new DevicePasids(context, devId);
    return { ...made, pasids, q: pasids.request(space(0x9000, HWPT_ALLOC.PASID)) };
  };

  it('S004 D1: request a PASID q; DMA(RID, q, iova): the mapped HPA', () => {
    const { scenario, device, q } = asked();
    expect(q).toBeGreaterThan(0);
    expect(scenario.dma(device, IOVA + 0x10, q)).toBe(0x1_0000_9010);
    expect(scenario.wire.at(-1)).toMatchObject({ rid: device.rid, pasid: q });
  });

  it('S004 D2: the same iova without PASID: the default space; with q+1: fault', () => {
    const { scenario, device, q } = asked();
    expect(scenario.dma(device, IOVA + 0x10)).toBe(0x1_0000_8010);
    expect(scenario.dma(device, IOVA + 0x10, q + 1)).toBe(fault);
  });

  it('S004 D3: free q: DMA faults; q again: its new space, nothing of the old one', () => {
    const { scenario, device, space, pasids, q } = asked();
    expect(scenario.dma(device, IOVA + 0x10, q)).toBe(0x1_0000_9010);
    pasids.release(q);
    expect(scenario.dma(device, IOVA + 0x10, q)).toBe(fault);
    expect(pasids.request(space(0xa000, HWPT_ALLOC.PASID))).toBe(q);
    expect(scenario.dma(device, IOVA + 0x10, q)).toBe(0x1_0000_a010);
  });
});

describe('S004 D: drivers that take no PASIDs', () => {
  it.each([
    ['AMD-Vi', () => amdvi({ capabilities: { efr: DEFAULT_EFR } }), '0x2'], // IO_PAGE_FAULT
  ])('S004 D1: without PASIDs: -EOPNOTSUPP, other requests translate (%s)', (_, driver, fault) => {
    const { scenario, context, device, devId, space } = generic(driver());
    context.deviceAttach(devId, space(0x8000));
    expect(refusalOf(() => new DevicePasids(context, devId))).toBe('EOPNOTSUPP no-pasids');
    expect(scenario.dma(device, IOVA + 0x10)).toBe(0x1_0000_8010);
    expect(scenario.dma(device, IOVA + 0x10, 1)).toBe(fault);
  });
});
