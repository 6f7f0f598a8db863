/** Seed 001, groups A to C: what may share a table, and with whom (the IOASID set thread of 2021). */
import { createProcess, HWPT_ALLOC, HwptPaging, type IommuUnit, openIommufd } from '@iommukit/core';
import { smmuv3 } from '@iommukit/driver-smmuv3';
import type { VtdIommuUnit, VtdOptions } from '@iommukit/driver-vtd';
import { describe, expect, it, vi } from 'vitest';
import { FIXED_RW, refusalOf } from '../machine.ts';
import { A1, A2, ArmVmm, wordPair } from './arm-guest.ts';
import { FAULT, GUEST, nestingSetup, Scenario, VECTORS, vtd48, X2 } from './guest-image.ts';
import { pasidEntry } from './host-tables.ts';

const DEV_A = { rid: '00:04.0', name: 'devA', pasidBits: 20 };
const DEV_B = { rid: '00:05.0', name: 'devB', pasidBits: 20 };

describe('S001 A: one first-stage table, several PASIDs', () => {
  it.each([
    ['one IOMMU', () => new Scenario([{ driver: vtd48(), devices: [DEV_A, DEV_B] }])],
    [
      'two IOMMUs',
      () =>
        new Scenario([
          { driver: vtd48(), devices: [DEV_A] },
          { driver: vtd48(), devices: [DEV_B] },
        ]),
    ],
  ])('S001 A1: table X2 under PASID 5 of devA and PASID 9 of devB: one HPA (%s)', (_, make) => {
    const scenario = make();
    const { context, devIds, nested, invalidate } = nestingSetup(scenario);
    const [devA, devB] = [scenario.device(0), scenario.device(1)];
    const n = nested(X2.root);
    context.deviceAttach(devIds[0] as number, n, 5);
    context.deviceAttach(devIds[1] as number, n, 9);
    expect(scenario.dma(devA, X2.va, 5)).toBe(0x1_0000_9010);
    expect(scenario.dma(devB, X2.va, 9)).toBe(0x1_0000_9010);
    expect(scenario.wire.map(({ rid, pasid }) => [rid, pasid])).toEqual([
      [devA.rid, 5],
      [devB.rid, 9],
    ]);
    expect(scenario.dma(devA, X2.va, 9)).toBe(FAULT.PASID_ENTRY);
    expect(scenario.dma(devB, X2.va, 5)).toBe(FAULT.PASID_ENTRY);
    // One invalidation of the table reaches both places that cache it.
    scenario.write(X2.slot, 0xc067n);
    expect(scenario.dma(devA, X2.va, 5)).toBe(0x1_0000_9010);
    expect(scenario.dma(devB, X2.va, 9)).toBe(0x1_0000_9010);
    invalidate(n, 0x7f00_0000_1000);
    expect(scenario.dma(devA, X2.va, 5)).toBe(0x1_0000_c010);
    expect(scenario.dma(devB, X2.va, 9)).toBe(0x1_0000_c010);
  });

  it('S001 A2: the id of the table is no PASID: DMA with it faults', () => {
    const scenario = new Scenario([{ driver: vtd48(), devices: [DEV_A, DEV_B] }]);
    const { context, devIds, nested } = nestingSetup(scenario);
    const n = nested(X2.root);
    context.deviceAttach(devIds[0] as number, n, n + 1);
    expect(scenario.dma(scenario.device(0), X2.va, n)).toBe(FAULT.PASID_ENTRY);
    expect(scenario.faults).toMatchObject([{ rid: scenario.device(0).rid, pasid: n }]);
    expect(scenario.dma(scenario.device(0), X2.va, n + 1)).toBe(0x1_0000_9010);
  });
});

/** Key of requests without PASID. */
const RID_PASID = 0;

/** How an address space says that it is coherent, or not. */
interface CoherencyMode {
  readonly options: Omit<VtdOptions, 'capabilities'>;
  /** By policy of the IOAS; otherwise by the table that is made for a device. */
  readonly policy: boolean;
  readonly refusal: string;
}

const BY_TABLE = { policy: false, refusal: 'EINVAL domain-fits-unit' } as const;
const BY_POLICY = { policy: true, refusal: 'EINVAL coherency-required' } as const;
const SECOND_STAGE = { firstStageByDefault: false } as const;

/** A NIC and a disk behind a unit that forces snooping, an IGD behind one that cannot (ECAP.SC=0). */
const mixedCoherency = ({ options, policy }: CoherencyMode) => {
  const scenario = new Scenario([
    { driver: vtd48(options), devices: [DEV_A, DEV_B] },
    { driver: vtd48(options, { SC: 0 }), devices: [{ rid: '00:02.0', name: 'igd' }] },
  ]);
  const context = openIommufd(scenario.vmm, scenario.machine);
  const [nic = 0, disk = 0, igd = 0] = scenario.devices.map((each) => context.bindDevice(each));
  /** An address space with all guest RAM, for a device to be attached to. */
  const space = (devId: number, coherent: boolean) => {
    const { outIoasId: ioasId } = context.ioasAlloc();
    if (policy) context.ioasSetCoherency(ioasId, coherent ? 'required' : 'off');
    const ram = { userVa: GUEST.HVA, length: GUEST.BYTES, iova: 0 };
    context.ioasMap({ ioasId, flags: FIXED_RW, ...ram });
    return policy ? ioasId : context.hwptAlloc({ devId, ptId: ioasId }).outHwptId;
  };
  /** Whether the table that a device is on forces snooping. */
  const isForced = (devId: number) => {
    const hwpt = context.find('test', devId, 'DEVICE').group.hwptAt(RID_PASID);
    return hwpt instanceof HwptPaging && hwpt.enforceCacheCoherency;
  };
  const s1 = space(nic, true);
  context.deviceAttach(nic, s1);
  const [nicAt, diskAt, igdAt] = [scenario.device(0), scenario.device(1), scenario.device(2)];
  return { scenario, context, nic, disk, igd, s1, space, isForced, nicAt, diskAt, igdAt };
};

describe.each<readonly [string, CoherencyMode]>([
  ['first stage, table of the NIC', { options: {}, ...BY_TABLE }],
  ['second stage, table of the NIC', { options: SECOND_STAGE, ...BY_TABLE }],
  ['first stage, policy of the IOAS', { options: {}, ...BY_POLICY }],
  ['second stage, policy of the IOAS', { options: SECOND_STAGE, ...BY_POLICY }],
])('S001 B: coherency belongs to an address space, %s', (_, mode) => {
  it('S001 B1: coherent space s1, attach the IGD, which enforces no snooping: -EINVAL', () => {
    const { scenario, context, nic, igd, s1, isForced, nicAt, igdAt } = mixedCoherency(mode);
    expect(isForced(nic)).toBe(true);
    expect(refusalOf(() => context.deviceAttach(igd, s1))).toBe(mode.refusal);
    expect(scenario.dma(igdAt, 0x9010)).toBe(FAULT.PASID_DIRECTORY);
    expect(scenario.dma(nicAt, 0x9010)).toBe(0x1_0000_9010);
  });

  it('S001 B2: a new space s2, not coherent, of the same memory takes it: same HPA', () => {
    const { scenario, context, igd, s1, space, isForced, nicAt, igdAt } = mixedCoherency(mode);
    expect(refusalOf(() => context.deviceAttach(igd, s1))).toBe(mode.refusal);
    expect(scenario.vmm.pinnedPages).toBe(262_144);
    context.deviceAttach(igd, space(igd, false));
    expect(isForced(igd)).toBe(false);
    expect(scenario.dma(igdAt, 0x9010)).toBe(0x1_0000_9010);
    expect(scenario.dma(nicAt, 0x9010)).toBe(0x1_0000_9010);
    // Each address space pins for itself; IOAS_COPY would share the pages.
    expect(scenario.vmm.pinnedPages).toBe(2 * 262_144);
  });

  it('S001 B3: a third device on s1: still ok', () => {
    const { scenario, context, disk, igd, s1, space, isForced, diskAt } = mixedCoherency(mode);
    expect(refusalOf(() => context.deviceAttach(igd, s1))).toBe(mode.refusal);
    context.deviceAttach(igd, space(igd, false));
    context.deviceAttach(disk, s1);
    expect(isForced(disk)).toBe(true);
    expect(scenario.dma(diskAt, 0x9010)).toBe(0x1_0000_9010);
  });
});

/** A device with PASIDs behind an SMMUv3: PASIDs have stage 1 each, and share the stage 2. */
const arm = () => {
  const scenario = new Scenario([{ driver: smmuv3(), devices: [DEV_A] }]);
  const context = openIommufd(scenario.vmm, scenario.machine);
  const device = scenario.device(0);
  const devId = context.bindDevice(device);
  /** An address space whose IOVA 0x1000 is the guest page at `gpa`. */
  const space = (gpa: number, flags: number) => {
    const { outIoasId: ioasId } = context.ioasAlloc();
    const { outHwptId } = context.hwptAlloc({ devId, ptId: ioasId, flags });
    const page = { userVa: GUEST.HVA + gpa, length: 0x1000, iova: 0x1000 };
    context.ioasMap({ ioasId, flags: FIXED_RW, ...page });
    return outHwptId;
  };
  const stage1 = (gpa: number) => space(gpa, HWPT_ALLOC.PASID);
  const stage2 = (gpa: number) => space(gpa, HWPT_ALLOC.NEST_PARENT);
  return { scenario, context, device, devId, stage1, stage2 };
};

describe('S001 C: what the architectures can tell apart', () => {
  it('S001 C1: Arm: PASID 1 of a RID on stage 2 a, PASID 2 on stage 2 b: -EINVAL', () => {
    const { scenario, context, device, devId, stage1, stage2 } = arm();
    const [a, b] = [stage2(0x8000), stage2(0x9000)];
    expect(refusalOf(() => context.deviceAttach(devId, a, 1))).toBe('EINVAL pasid-hwpt');
    expect(refusalOf(() => context.deviceAttach(devId, b, 2))).toBe('EINVAL pasid-hwpt');
    // It is the stage that is refused, by the driver too; stage 1 has a table for each PASID.
    const unit = scenario.machine.units[0] as IommuUnit;
    const parent = unit.allocPaging(device, { flags: HWPT_ALLOC.NEST_PARENT });
    expect(refusalOf(() => unit.attach(device, 1, parent))).toBe('EINVAL pasid-stage');
    context.deviceAttach(devId, stage1(0xa000), 1);
    context.deviceAttach(devId, stage1(0xb000), 2);
    expect(refusalOf(() => context.deviceAttach(devId, b, 3))).toBe('EINVAL pasid-hwpt');
    expect([1, 2].map((pasid) => scenario.dma(device, 0x1010, pasid))).toEqual([
      0x1_0000_a010, 0x1_0000_b010,
    ]);
    // The RID on a stage 2 leaves no PASID, and PASIDs leave the RID no stage 2.
    expect(refusalOf(() => context.deviceAttach(devId, a))).toBe('EINVAL pasid-hwpt');
    context.deviceDetach(devId, 1);
    context.deviceDetach(devId, 2);
    context.deviceAttach(devId, a);
    expect(scenario.dma(device, 0x1010)).toBe(0x1_0000_8010);
    expect(refusalOf(() => context.deviceAttach(devId, stage1(0xa000), 1))).toBe(
      'EINVAL pasid-hwpt',
    );
  });

  it('S001 C2: VT-d: PASIDs 1 and 2 of one RID on two second stages: two HPAs', () => {
    const scenario = new Scenario([
      { driver: vtd48({ firstStageByDefault: false }), devices: [DEV_A] },
    ]);
    const { hardware } = scenario.machine.units[0] as VtdIommuUnit;
    const context = openIommufd(scenario.vmm, scenario.machine);
    const device = scenario.device(0);
    const devId = context.bindDevice(device);
    const attachStage = (gpa: number, pasid: number): void => {
      const { outIoasId: ioasId } = context.ioasAlloc();
      const flags = HWPT_ALLOC.PASID;
      const { outHwptId } = context.hwptAlloc({ devId, ptId: ioasId, flags });
      const page = { userVa: GUEST.HVA + gpa, length: 0x1000, iova: 0x1000 };
      context.ioasMap({ ioasId, flags: FIXED_RW, ...page });
      context.deviceAttach(devId, outHwptId, pasid);
    };
    attachStage(0x9000, 1);
    attachStage(0xa000, 2);
    expect(scenario.dma(device, 0x1010, 1)).toBe(0x1_0000_9010);
    expect(scenario.dma(device, 0x1010, 2)).toBe(0x1_0000_a010);
    // Both entries say second stage (PGTT 2), and name different tables.
    const [first = 0n, second = 0n] = [1, 2].map(
      (pasid) => pasidEntry(scenario, hardware, device, pasid)[0],
    );
    expect([(first >> 6n) & 7n, (second >> 6n) & 7n]).toEqual([2n, 2n]);
    expect(first >> 12n).not.toBe(second >> 12n);
  });

  it('S001 C3: Arm: vSTE with S1CDMax above SSIDSIZE: -EIO', () => {
    const vmm = new ArmVmm('L1');
    const viommuId = vmm.viommu('devA');
    // S1CDMax is bits 63:59; the unit has SubstreamIDs of 20 bits.
    const vste = (cdMax: bigint) =>
      wordPair(BigInt(VECTORS.arm.vste0[A1.cd] ?? 0) | (cdMax << 59n));
    const nested = (cdMax: bigint) => () => vmm.nested('devA', viommuId, vste(cdMax));
    expect(refusalOf(nested(21n))).toBe('EIO vste-s1cdmax');
    expect(refusalOf(nested(31n))).toBe('EIO vste-s1cdmax');
    expect(refusalOf(nested(20n))).toBe('ok');
  });

  it('S001 C4: Arm: the guest enables PASID 7 in its CD table, no call: translates', () => {
    const vmm = new ArmVmm('L1');
    const { writeCd } = vmm.cdTableGuest('devA');
    const calls = vi.spyOn(vmm.context, 'call');
    writeCd(7, A2, 2);
    expect(vmm.dma('devA', A2.va, 7)).toBe(A2.hpa);
    // The guest's other requests, a PASID it did not enable, and one beyond its table.
    expect(vmm.dma('devA', A1.va)).toBe(A1.hpa);
    expect(vmm.dma('devA', A2.va, 8)).toBe('0xa');
    expect(vmm.dma('devA', A2.va, 16)).toBe('0x8');
    expect(calls).not.toHaveBeenCalled();
  });

  it('S001 C5: Arm: one PASID of a RID for another guest: refused', () => {
    const { scenario, context, device, devId, stage1 } = arm();
    context.deviceAttach(devId, stage1(0x8000));
    context.deviceAttach(devId, stage1(0x9000), 7);
    const other = openIommufd(createProcess(scenario.machine), scenario.machine);
    expect(refusalOf(() => other.bindDevice(device))).toBe('EPERM group-owner');
    // The owner's PASIDs go on, also one more; the other guest's tables are nowhere.
    context.deviceAttach(devId, stage1(0xa000), 8);
    expect([undefined, 7, 8].map((pasid) => scenario.dma(device, 0x1010, pasid))).toEqual([
      0x1_0000_8010, 0x1_0000_9010, 0x1_0000_a010,
    ]);
    // C_BAD_CD: a PASID that nobody took.
    expect(scenario.dma(device, 0x1010, 9)).toBe('0xa');
    // With the device given up as a whole, the other guest has all of it.
    context.close();
    expect(refusalOf(() => other.bindDevice(device))).toBe('ok');
    expect(scenario.dma(device, 0x1010, 7)).toBe('blocked without record');
  });
});
