/** TYPE1_NESTING in the dialect of the posted series v4 to v7 (10 September 2020). */
import { ERRNO, VFIO_EXTENSION, VFIO_IOCTL } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import {
  CACHE,
  GRANULARITY,
  openVfioContainer,
  openVfioGroup,
  type1,
  type1Nesting,
  VTD_BIND_FLAG,
} from '../../src/index.ts';
import { openFixture, refusalOf } from '../fixture.ts';
import {
  createGuest,
  createVmm,
  dma,
  openContainer,
  raw,
  SCRATCH,
  VECTORS,
  writeGuest,
} from './fixture.ts';

const PASID_REQUEST = 0x3b76;
const NESTING_OP = 0x3b77;
const abi = (name: string): string => VECTORS.abi[name]?.bytes ?? '';
const ALLOC_ALL = abi('VFIO_IOMMU_PASID_REQUEST ALLOC 1..0xfffff');
const FREE_101 = abi('VFIO_IOMMU_PASID_REQUEST FREE 101..101');
const BIND_101 = abi('VFIO_IOMMU_NESTING_OP/BIND_PGTBL (liu v3-v7)');
const UNBIND_101 = abi('VFIO_IOMMU_NESTING_OP/UNBIND_PGTBL (liu v3-v7)');
const INVALIDATE_101 = abi('VFIO_IOMMU_NESTING_OP/CACHE_INVLD ADDR PASID101 4KiB');
const INVALIDATE_ALL_101 = abi('VFIO_IOMMU_NESTING_OP/CACHE_INVLD PASID101');
/** Root of the first-stage table X2, an address it maps, and where to. */
const X2 = { root: 0x20000, va: 0x7f00_0000_1010, gpa: 0x9010 };

/** Walks that are about a leaf of X1 other than the first image's. */
const LEAF_CHANGES: Readonly<Record<string, bigint>> = {
  'X1 after leaf 0x13010:=0x5067 + invalidate': 0x5067n,
  'X1 leaf points outside S2': 0x4000_0067n,
};

/** The byte string with some bytes changed. */
const patched = (hex: string, at: number, ...bytes: readonly number[]): string => {
  const copy = Buffer.from(hex, 'hex');
  copy.set(bytes, at);
  return copy.toString('hex');
};

const withPasid101 = (options = {}) => {
  const guest = createGuest(options);
  guest.container.nesting.pasidAlloc({ min: 101, max: 101 });
  return guest;
};

describe('SET_IOMMU, CHECK_EXTENSION, GET_INFO', () => {
  test('number 6 is offered, and only in the dialect', () => {
    const { container } = createGuest();
    expect(container.checkExtension(VFIO_EXTENSION.TYPE1_NESTING_IOMMU)).toBe(1);
    expect(container.checkExtension(VFIO_EXTENSION.TYPE1v2_IOMMU)).toBe(1);
  });

  test('the nesting capability: id 3, version 1, 64 bytes', () => {
    const { container, vmm } = createGuest();
    const view = new DataView(new ArrayBuffer(4));
    view.setUint32(0, 512, true);
    vmm.poke(SCRATCH, new Uint8Array(512));
    vmm.poke(SCRATCH, new Uint8Array(view.buffer));
    expect(container.ioctl(VFIO_IOCTL.IOMMU_GET_INFO, SCRATCH)).toBe(0);
    const answer = new DataView((vmm.peek(SCRATCH, 512) as Uint8Array).buffer);
    const ids: number[] = [];
    let nesting = 0;
    for (let at = answer.getUint32(16, true); at !== 0; at = answer.getUint32(at + 4, true)) {
      ids.push(answer.getUint16(at, true));
      if (ids.at(-1) === 3) nesting = at;
    }
    expect(ids).toEqual([2, 1, 3]);
    const u32 = (at: number) => answer.getUint32(nesting + at, true);
    expect([answer.getUint16(nesting + 2, true), u32(8), u32(16), u32(20)]).toEqual([1, 56, 1, 7]);
    expect([answer.getUint16(nesting + 24, true), answer.getUint16(nesting + 26, true)]).toEqual([
      57, 20,
    ]);
  });

  test('registers in the capability: only the bits that matter to a guest table', () => {
    const info = createGuest().container.nesting.info;
    expect(info?.vtdCapReg).toBe((1n << 56n) | (1n << 60n));
    expect((info?.vtdEcapReg ?? 0n) & ~0x105_e000_0000n).toBe(0n);
    expect((info?.vtdEcapReg ?? 0n) & (1n << 40n)).toBe(1n << 40n);
  });

  test('a second group is refused', () => {
    const { container, machine, vmm } = createGuest();
    const other = machine.addEndpoint({ rid: '00:06.0', pasidBits: 20 });
    machine.attachToUnit(machine.units[0] as (typeof machine.units)[number], other);
    const group = openVfioGroup(vmm, machine, other.group);
    expect(refusalOf(() => group.setContainer(container))).toBe('EINVAL one-group');
    expect(group.getStatus()).toEqual({ flags: 1 });
  });

  test('requests without PASID go through the mappings alone', () => {
    const guest = createGuest();
    expect(dma(guest, 0x1234)).toBe(0x1234);
  });
});

describe('PASID_REQUEST', () => {
  test('the lowest free PASID of the range is the result of the call', () => {
    const guest = createGuest();
    expect([raw(guest, PASID_REQUEST, ALLOC_ALL), raw(guest, PASID_REQUEST, ALLOC_ALL)]).toEqual([
      1, 2,
    ]);
    expect(guest.container.nesting.pasidAlloc({ min: 101, max: 101 })).toBe(101);
    expect(raw(guest, PASID_REQUEST, FREE_101)).toBe(0);
    expect(guest.container.nesting.pasidAlloc({ min: 101, max: 101 })).toBe(101);
  });

  test.each([
    ['argsz below 16', patched(ALLOC_ALL, 0, 15), ERRNO.EINVAL],
    ['both flags', patched(ALLOC_ALL, 4, 3), ERRNO.EINVAL],
    ['no flag', patched(ALLOC_ALL, 4, 0), ERRNO.EINVAL],
    ['min above max', patched(ALLOC_ALL, 8, 0, 0, 0x10), ERRNO.EINVAL],
    ['max above 2^31', patched(ALLOC_ALL, 12, 1, 0, 0, 0x80), ERRNO.EINVAL],
    ['a range without a free PASID', patched(ALLOC_ALL, 8, 0, 0, 0, 0, 0, 0, 0, 0), ERRNO.ENOSPC],
  ])('%s', (_title, bytes, errno) => {
    expect(raw(createGuest(), PASID_REQUEST, bytes)).toBe(-errno);
  });

  test('1000 per process, then ENOSPC', () => {
    const guest = createGuest();
    for (let i = 1; i <= 1000; i++) expect(raw(guest, PASID_REQUEST, ALLOC_ALL)).toBe(i);
    expect(raw(guest, PASID_REQUEST, ALLOC_ALL)).toBe(-ERRNO.ENOSPC);
  });

  test('not offered: EOPNOTSUPP', () => {
    expect(raw(createGuest({ features: 6 }), PASID_REQUEST, ALLOC_ALL)).toBe(-ERRNO.EOPNOTSUPP);
  });
});

describe('NESTING_OP BIND_PGTBL', () => {
  test('the bound PASID is translated by the guest table, then by the mappings', () => {
    const guest = withPasid101();
    expect(dma(guest, X2.va, 101)).toBe('fault');
    expect(raw(guest, NESTING_OP, BIND_101)).toBe(0);
    expect(dma(guest, X2.va, 101)).toBe(X2.gpa);
    expect(dma(guest, X2.va, 102)).toBe('fault');
  });

  test.each(VECTORS.walks.filter(({ format }) => format === 'x86'))('walk $name', (walk) => {
    const guest = withPasid101();
    const change = LEAF_CHANGES[walk.name];
    if (change !== undefined) writeGuest(guest, 0x13010, change);
    guest.container.nesting.bindPgtbl({ gpgd: BigInt(walk.root), hpasid: 101 });
    expect(dma(guest, Number(walk.va), 101)).toBe(
      walk.gpa && !walk.fault ? Number(walk.gpa) : 'fault',
    );
  });

  test.each([
    ['bound already', BIND_101, ERRNO.EBUSY],
    ['a PASID never allocated', patched(BIND_101, 8 + 32, 102), ERRNO.ENOENT],
    ['PASID 0', patched(BIND_101, 8 + 32, 0), ERRNO.EINVAL],
    ['a PASID of 21 bits', patched(BIND_101, 8 + 34, 0x10), ERRNO.EINVAL],
    ['version 2', patched(BIND_101, 8 + 4, 2), ERRNO.EINVAL],
    ['format 2', patched(BIND_101, 8 + 8, 2), ERRNO.EINVAL],
    ['unknown flags', patched(BIND_101, 8 + 16, 3), ERRNO.EINVAL],
    ['padding', patched(BIND_101, 8 + 48, 1), ERRNO.EINVAL],
    ['unknown VT-d flags', patched(BIND_101, 8 + 56, 0x80), ERRNO.EINVAL],
    ['memory types', patched(BIND_101, 8 + 56, VTD_BIND_FLAG.EMTE), ERRNO.EINVAL],
    ['inner argsz', patched(BIND_101, 8, 71), ERRNO.EINVAL],
    ['outer argsz', patched(BIND_101, 0, 79), ERRNO.EINVAL],
    ['unknown operation', patched(BIND_101, 4, 3), ERRNO.EINVAL],
    ['bits above the operation', patched(BIND_101, 6, 1), ERRNO.EINVAL],
  ])('%s', (_title, bytes, errno) => {
    const guest = withPasid101();
    raw(guest, NESTING_OP, BIND_101);
    expect(raw(guest, NESTING_OP, bytes)).toBe(-errno);
    expect(dma(guest, X2.va, 101)).toBe(X2.gpa);
  });

  test('a width that the unit cannot walk: the error of the driver, and nothing is bound', () => {
    const guest = withPasid101();
    const bind = (addrWidth: number) => () =>
      guest.container.nesting.bindPgtbl({ gpgd: X2.root, hpasid: 101, addrWidth });
    expect(refusalOf(bind(39))).toBe('EINVAL addr-width');
    expect(refusalOf(bind(48))).toBe('ok');
  });

  test('a PASID of another process: EACCES', () => {
    const guest = withPasid101();
    const other = guest.machine.addEndpoint({ rid: '00:06.0', pasidBits: 20 });
    const [unit] = guest.machine.units;
    guest.machine.attachToUnit(unit as NonNullable<typeof unit>, other);
    const vmm = createVmm(guest.machine);
    const second = { ...openContainer(guest.machine, other, vmm), vmm };
    expect(raw(second, NESTING_OP, BIND_101)).toBe(-ERRNO.EACCES);
    expect(raw(second, PASID_REQUEST, patched(ALLOC_ALL, 8, 101, 0, 0, 0, 101, 0, 0))).toBe(
      -ERRNO.ENOSPC,
    );
  });

  test.each([
    ['a device without PASIDs', 0],
    ['a device with 16 bits', 16],
  ])('%s: EINVAL', (_title, pasidBits) => {
    const guest = createGuest();
    const device = guest.machine.addEndpoint({ rid: '00:07.0', pasidBits });
    const [unit] = guest.machine.units;
    guest.machine.attachToUnit(unit as NonNullable<typeof unit>, device);
    const vmm = createVmm(guest.machine);
    const { container } = openContainer(guest.machine, device, vmm);
    container.nesting.pasidAlloc({ min: 7, max: 7 });
    const bind = () => container.nesting.bindPgtbl({ gpgd: X2.root, hpasid: 7 });
    expect(refusalOf(bind)).toBe('EINVAL pasid-width');
  });
});

describe('NESTING_OP CACHE_INVLD', () => {
  const changed = () => {
    const guest = withPasid101();
    raw(guest, NESTING_OP, BIND_101);
    expect(dma(guest, X2.va, 101)).toBe(X2.gpa);
    writeGuest(guest, 0x23008, 0xc067n);
    return guest;
  };

  test.each([
    ['ADDR', INVALIDATE_101],
    ['PASID', INVALIDATE_ALL_101],
  ])('%s: the old translation until then, the new one from then on', (_title, bytes) => {
    const guest = changed();
    expect(dma(guest, X2.va, 101)).toBe(X2.gpa);
    expect(raw(guest, NESTING_OP, bytes)).toBe(0);
    expect(dma(guest, X2.va, 101)).toBe(0xc010);
  });

  test('another page, another PASID: the old translation stays', () => {
    const guest = changed();
    const base = { cache: CACHE.IOTLB, granularity: GRANULARITY.ADDR };
    guest.container.nesting.cacheInvalidate({ ...base, pasid: 101, addr: 0x7f00_0000_2000 });
    guest.container.nesting.cacheInvalidate({ ...base, pasid: 102, addr: 0x7f00_0000_1000 });
    expect(dma(guest, X2.va, 101)).toBe(X2.gpa);
  });

  test.each([
    ['ADDR of the PASID cache', patched(INVALIDATE_101, 16, CACHE.PASID)],
    ['DOMAIN of the device TLB', patched(INVALIDATE_101, 16, CACHE.DEV_IOTLB, 0)],
    ['granularity 3', patched(INVALIDATE_101, 17, 3)],
    ['unknown cache', patched(INVALIDATE_101, 16, 8)],
    ['version 2', patched(INVALIDATE_101, 12, 2)],
    ['padding', patched(INVALIDATE_101, 20, 1)],
    ['inner argsz', patched(INVALIDATE_101, 8, 55)],
    ['outer argsz', patched(INVALIDATE_101, 0, 63)],
  ])('%s: EINVAL', (_title, bytes) => {
    expect(raw(changed(), NESTING_OP, bytes)).toBe(-ERRNO.EINVAL);
  });

  const swallowed: readonly (readonly [string, string, number])[] = [
    ['an address that is not aligned', patched(INVALIDATE_101, 8 + 32, 1), ERRNO.ERANGE],
    ['a PASID without table', patched(INVALIDATE_101, 8 + 24, 9), ERRNO.EINVAL],
    ['a pair that VT-d has no command for', patched(INVALIDATE_ALL_101, 16, 1, 0), ERRNO.EINVAL],
  ];
  test.each(swallowed)('%s: 0 as posted, an errno when strict', (_title, bytes, errno) => {
    expect(raw(changed(), NESTING_OP, bytes)).toBe(0);
    const strict = withPasid101({ strictErrors: true });
    raw(strict, NESTING_OP, BIND_101);
    expect(raw(strict, NESTING_OP, bytes)).toBe(-errno);
  });
});

describe('the end of a binding', () => {
  test('UNBIND: the PASID faults; again is 0 as posted, EINVAL when strict', () => {
    for (const strictErrors of [false, true]) {
      const guest = withPasid101({ strictErrors });
      raw(guest, NESTING_OP, BIND_101);
      expect(dma(guest, X2.va, 101)).toBe(X2.gpa);
      expect(raw(guest, NESTING_OP, UNBIND_101)).toBe(0);
      expect(dma(guest, X2.va, 101)).toBe('fault');
      expect(raw(guest, NESTING_OP, UNBIND_101)).toBe(strictErrors ? -ERRNO.EINVAL : 0);
    }
  });

  test('FREE unbinds; the PASID cannot be bound again', () => {
    const guest = withPasid101();
    raw(guest, NESTING_OP, BIND_101);
    expect(raw(guest, PASID_REQUEST, FREE_101)).toBe(0);
    expect(dma(guest, X2.va, 101)).toBe('fault');
    expect(raw(guest, NESTING_OP, BIND_101)).toBe(-ERRNO.ENOENT);
  });

  test('closing the group with PASIDs bound: all blocked, PASIDs and pages free', () => {
    const guest = withPasid101();
    raw(guest, NESTING_OP, BIND_101);
    guest.group.close();
    guest.container.close();
    expect([dma(guest, X2.va, 101), dma(guest, 0x1234)]).toEqual(['fault', 'fault']);
    expect([guest.vmm.lockedPages, guest.vmm.pinnedPages]).toEqual([0, 0]);
    const again = { ...guest, ...openContainer(guest.machine, guest.device, guest.vmm) };
    expect(again.container.nesting.pasidAlloc({ min: 101, max: 101 })).toBe(101);
  });

  test('PASIDs live while another container of the process does', () => {
    const guest = withPasid101();
    const device = guest.machine.addEndpoint({ rid: '00:06.0', pasidBits: 20 });
    const [unit] = guest.machine.units;
    guest.machine.attachToUnit(unit as NonNullable<typeof unit>, device);
    const second = openContainer(guest.machine, device, guest.vmm);
    guest.group.close();
    second.container.nesting.bindPgtbl({ gpgd: X2.root, hpasid: 101 });
    expect(dma({ device }, X2.va, 101)).toBe(X2.gpa);
  });
});

describe('numbers are those of the dialect', () => {
  test('a TYPE1v2 container does not know them', () => {
    const { container } = openFixture();
    expect([container.ioctl(PASID_REQUEST, 0), container.ioctl(NESTING_OP, 0)]).toEqual([
      -ERRNO.ENOTTY,
      -ERRNO.ENOTTY,
    ]);
    expect(refusalOf(() => container.nesting)).toBe('ENOTTY backend');
  });

  test('another series has 0x3b78, this one does not', () => {
    expect(createGuest().container.ioctl(0x3b78, SCRATCH)).toBe(-ERRNO.ENOTTY);
  });

  test('a container without the dialect: SET_IOMMU 6 is ENODEV', () => {
    const { machine, disk, process } = openFixture();
    const container = openVfioContainer(process, machine);
    openVfioGroup(process, machine, disk.group).setContainer(container);
    const set = () => container.setIommu(VFIO_EXTENSION.TYPE1_NESTING_IOMMU);
    expect(refusalOf(set)).toBe('ENODEV iommu-type');
  });

  test('a unit that does not nest: what the driver says, and the group can be used otherwise', () => {
    const { machine, disk, process } = openFixture();
    const drivers = [type1Nesting({ dialect: 'liu-v7' }), type1()];
    const container = openVfioContainer(process, machine, { drivers });
    openVfioGroup(process, machine, disk.group).setContainer(container);
    const set = (type: number) => refusalOf(() => container.setIommu(type));
    expect(set(VFIO_EXTENSION.TYPE1_NESTING_IOMMU)).toBe('EOPNOTSUPP nest-parent');
    expect(set(VFIO_EXTENSION.TYPE1v2_IOMMU)).toBe('ok');
  });
});
