/** PASIDs that core picks, on drivers whose HWPTs take PASIDs: steps C1, C3, D1 to D3 of the PASID models of 2021. */
import {
  createMachine,
  createProcess,
  DevicePasids,
  GuestPasids,
  HostPasids,
  HWPT_ALLOC,
  type IommuDriver,
  MAP_FLAG,
  openIommufd,
  PasidAllocator,
} from '@iommukit/core';
import { mockDriver } from '@iommukit/driver-testkit';
import { type PasidAllocator as CommandTarget, vtd } from '@iommukit/driver-vtd';
import { describe, expect, it } from 'vitest';
import { FIXED_RW, refusalOf } from './machine.ts';

const HVA = 0x4000_0000;
const IOVA = 0x100_0000;

const setup = (driver: IommuDriver, pasidBits = 16) => {
  const machine = createMachine({ ramBytes: 2 ** 24 });
  const nic = machine.addEndpoint({ rid: '00:04.0', pasidBits });
  machine.addUnit(driver);
  const process = createProcess(machine);
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  process.mmap({ addr: HVA, length: 16 * 4096, flags });
  const context = openIommufd(process, machine);
  const devId = context.bindDevice(nic);
  /** A PASID-capable HWPT whose `IOVA` is one page of the process. */
  const space = (page: number) => {
    const { outIoasId: ioasId } = context.ioasAlloc();
    const hwpt = { devId, ptId: ioasId, flags: HWPT_ALLOC.PASID };
    const { outHwptId } = context.hwptAlloc(hwpt);
    const userVa = HVA + page * 4096;
    context.ioasMap({ ioasId, flags: FIXED_RW, userVa, length: 4096, iova: IOVA });
    process.poke(userVa, Uint8Array.of(page));
    return outHwptId;
  };
  /** First byte of the page at `IOVA`, or -1. */
  const seen = (pasid: number) => {
    const byte = new Uint8Array(1);
    return nic.dmaRead(IOVA, byte, { pasid }) === 1 ? (byte[0] as number) : -1;
  };
  const rid = space(1);
  context.deviceAttach(devId, rid);
  return { context, devId, nic, space, seen };
};

const DRIVERS: readonly (readonly [string, () => IommuDriver])[] = [
  ['VT-d', () => vtd()],
  ['the mock', () => mockDriver()],
];

describe.each(DRIVERS)('give me a PASID, %s', (_, driver) => {
  it('returns one that works; the next faults, and so does a released one', () => {
    const { context, devId, space, seen } = setup(driver());
    const pasids = new DevicePasids(context, devId);
    const q = pasids.request(space(5));
    expect([seen(q), seen(q + 1)]).toEqual([5, -1]);
    const other = pasids.request(space(6));
    expect([other === q, seen(q), seen(other)]).toEqual([false, 5, 6]);
    pasids.release(q);
    expect([seen(q), seen(other)]).toEqual([-1, 6]);
    expect(refusalOf(() => pasids.release(q))).toBe('ENOENT pasid-unused');
    expect(seen(pasids.request(space(7)))).toBe(7);
  });

  it('passes by PASIDs that the user picked, and takes none when attach is refused', () => {
    const { context, devId, space, seen } = setup(driver());
    const pasids = new DevicePasids(context, devId);
    context.deviceAttach(devId, space(5), 1);
    expect(refusalOf(() => pasids.request(99))).toBe('ENOENT object-id');
    expect(pasids.request(space(6))).toBe(2);
    expect([seen(1), seen(2)]).toEqual([5, 6]);
  });

  it('two slices of a device use the same guest PASID apart from each other', () => {
    const { context, devId, space, seen } = setup(driver());
    const guest = new GuestPasids(new HostPasids({ pasidBits: 16 }));
    const reached = ['mdev1', 'mdev2'].map((name, i) => {
      guest.addDevice({ name, rid: 0x20, type: 6 });
      const { ppasid } = guest.attach(name, 7);
      context.deviceAttach(devId, space(5 + i), ppasid);
      return ppasid;
    });
    expect(reached).toEqual([4097, 4098]);
    expect([seen(4097), seen(4098), seen(7)]).toEqual([5, 6, -1]);
  });
});

describe('PASIDs elsewhere', () => {
  it('a device without PASIDs gets none', () => {
    const { context, devId } = setup(vtd(), 0);
    expect(refusalOf(() => new DevicePasids(context, devId))).toBe('EOPNOTSUPP no-pasids');
  });

  it('the allocator fits behind virtual command registers of VT-d as it is', () => {
    const target: CommandTarget = new PasidAllocator({ pasidBits: 20, quota: 1 });
    expect([target.allocatePasid(), target.allocatePasid(), target.freePasid(1)]).toEqual([
      1,
      -1,
      true,
    ]);
  });
});
