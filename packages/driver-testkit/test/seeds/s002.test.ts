/**
 * Seed 002: VFIO dual stage in the dialect of the posted series v4 to v7 (10 September 2020), on
 * VT-d in scalable mode, by raw calls with the byte strings of the independent image.
 */
import {
  createProcess,
  type Endpoint,
  ERRNO,
  type Process,
  VFIO_EXTENSION,
  VFIO_IOCTL,
} from '@iommukit/core';
import { CAP, ECAP, type VtdIommuUnit } from '@iommukit/driver-vtd';
import {
  openVfioContainer,
  openVfioGroup,
  type Type1NestingOptions,
  type1Nesting,
  VFIO_GROUP_IOCTL,
  type VfioContainer,
} from '@iommukit/vfio-compat';
import { describe, expect, it } from 'vitest';
import { FAULT, GUEST, Scenario, VECTORS, vtd48, X2 } from './guest-image.ts';
import { pasidEntry } from './host-tables.ts';

/** Calls of the image: number and bytes. */
const call = (name: string) => {
  const { nr, bytes } = VECTORS.abi[name] ?? {};
  if (!nr || !bytes) throw new Error(`the image has no call ${name}`);
  return { nr: Number(nr), bytes: Uint8Array.from(Buffer.from(bytes, 'hex')) };
};
const ALLOC_ANY = call('VFIO_IOMMU_PASID_REQUEST ALLOC 1..0xfffff');
const FREE_101 = call('VFIO_IOMMU_PASID_REQUEST FREE 101..101');
const BIND_101 = call('VFIO_IOMMU_NESTING_OP/BIND_PGTBL (liu v3-v7)');
const UNBIND_101 = call('VFIO_IOMMU_NESTING_OP/UNBIND_PGTBL (liu v3-v7)');
const INVALIDATE_PAGE = call('VFIO_IOMMU_NESTING_OP/CACHE_INVLD ADDR PASID101 4KiB');

type Call = typeof ALLOC_ANY;

/** The call with a u32 changed. */
const withU32 = ({ nr, bytes }: Call, ...changes: readonly (readonly [number, number])[]): Call => {
  const copy = bytes.slice();
  for (const [at, value] of changes) new DataView(copy.buffer).setUint32(at, value, true);
  return { nr, bytes: copy };
};
const withU8 = ({ nr, bytes }: Call, ...changes: readonly (readonly [number, number])[]): Call => {
  const copy = bytes.slice();
  for (const [at, value] of changes) copy[at] = value;
  return { nr, bytes: copy };
};
const ALLOC_101 = withU32(ALLOC_ANY, [8, 101], [12, 101]);

/** Offsets in the structs behind `argsz`, from the start of the call. */
const REQUEST = { FLAGS: 4, MIN: 8, MAX: 12 } as const;
const BIND = { VERSION: 12, FORMAT: 16, HPASID: 40, PADDING: 56 } as const;
const INVALIDATE = { CACHE: 16, GRANULARITY: 17, ADDR: 40 } as const;
const CACHE = { IOTLB: 1, DEV_IOTLB: 2, PASID: 4 } as const;
const GRANULARITY = { DOMAIN: 0, PASID: 1, ADDR: 2 } as const;

/** Open a container of the dialect with a device's group in it, guest RAM mapped at GPA. */
const openNesting = (
  { machine }: Scenario,
  vmm: Process,
  device: Endpoint,
  options: Partial<Type1NestingOptions> = {},
) => {
  const drivers = [type1Nesting({ dialect: 'liu-v7', ...options })];
  const container = openVfioContainer(vmm, machine, { drivers });
  const group = openVfioGroup(vmm, machine, device.group);
  group.setContainer(container);
  expect(container.ioctl(VFIO_IOCTL.SET_IOMMU, VFIO_EXTENSION.TYPE1_NESTING_IOMMU)).toBe(0);
  return { container, group };
};

const DEVICE = { rid: '00:05.0', name: '0000:00:05.0', pasidBits: 20 };
const OTHER = { rid: '00:06.0', name: '0000:00:06.0', pasidBits: 20 };

const dualStage = (options: Partial<Type1NestingOptions> = {}) => {
  const scenario = new Scenario([{ driver: vtd48(), devices: [DEVICE, OTHER] }]);
  const device = scenario.device(0);
  const { hardware } = scenario.machine.units[0] as VtdIommuUnit;
  const { container, group } = openNesting(scenario, scenario.vmm, device, options);
  const ram = { vaddr: GUEST.HVA, iova: 0, size: GUEST.BYTES };
  container.iommuMapDma({ flags: 3, ...ram });
  const issue = ({ nr, bytes }: Call, on: VfioContainer = container) =>
    on.ioctl(nr, scenario.struct(bytes));
  return { scenario, device, hardware, container, group, issue };
};

/** PASID 101 allocated and bound to table X2. */
const bound = (options: Partial<Type1NestingOptions> = {}) => {
  const made = dualStage(options);
  expect([made.issue(ALLOC_101), made.issue(BIND_101)]).toEqual([101, 0]);
  return made;
};

/** A second VM: a process of its own, with the other device. */
const otherVm = ({ scenario }: ReturnType<typeof dualStage>) => {
  const vmm = createProcess(scenario.machine);
  const page = vmm.mmap({ length: 4096 });
  const { container } = openNesting(scenario, vmm, scenario.device(1));
  return ({ nr, bytes }: Call) => {
    vmm.poke(page, bytes);
    return container.ioctl(nr, page);
  };
};

describe('S002 A: SET_IOMMU and GET_INFO', () => {
  it('S002 A1: capability 3, version 1, 64 bytes: argsz 56, format 1, features 7, 20 PASID bits', () => {
    const { scenario, container, hardware } = dualStage();
    const room = new Uint8Array(512);
    new DataView(room.buffer).setUint32(0, room.length, true);
    expect(container.ioctl(VFIO_IOCTL.IOMMU_GET_INFO, scenario.struct(room))).toBe(0);
    const answer = scenario.readStruct(room.length);
    const view = new DataView(answer.buffer, answer.byteOffset);
    let at = view.getUint32(16, true);
    while (at !== 0 && view.getUint16(at, true) !== 3) at = view.getUint32(at + 4, true);
    const registers = [CAP, ECAP].map(({ offset }) => BigInt(hardware.readRegister64(offset)));
    const bits = (...positions: number[]) =>
      positions.reduce((sum, n) => sum | (1n << BigInt(n)), 0n);
    const expected = new DataView(new ArrayBuffer(64));
    expected.setUint16(0, 3, true);
    expected.setUint16(2, 1, true);
    expected.setUint32(8, 56, true);
    expected.setUint32(16, 1, true);
    expected.setUint32(20, 7, true);
    expected.setUint16(24, 48, true);
    expected.setUint16(26, 20, true);
    expected.setBigUint64(48, (registers[0] ?? 0n) & bits(56, 60), true);
    expected.setBigUint64(56, (registers[1] ?? 0n) & bits(29, 30, 31, 34, 40), true);
    expect(answer.slice(at, at + 64)).toEqual(new Uint8Array(expected.buffer));
  });

  it('S002 A2: a second group: -EINVAL', () => {
    const { scenario, container } = dualStage();
    const group = openVfioGroup(scenario.vmm, scenario.machine, scenario.device(1).group);
    const fd = new Uint8Array(Uint32Array.of(container.fd).buffer);
    expect(group.ioctl(VFIO_GROUP_IOCTL.SET_CONTAINER, scenario.struct(fd))).toBe(-ERRNO.EINVAL);
  });
});

describe('S002 B: PASID_REQUEST', () => {
  it('S002 B1: ALLOC 1..0xfffff: a positive PASID; 101 from 101..101', () => {
    const { issue } = dualStage();
    expect(issue(ALLOC_ANY)).toBe(1);
    expect(issue(ALLOC_101)).toBe(101);
    expect(issue(ALLOC_ANY)).toBe(2);
  });

  it('S002 B2: both flags, or min above max: -EINVAL', () => {
    const { issue } = dualStage();
    expect(issue(withU32(ALLOC_ANY, [REQUEST.FLAGS, 3]))).toBe(-ERRNO.EINVAL);
    expect(issue(withU32(ALLOC_ANY, [REQUEST.MIN, 102], [REQUEST.MAX, 101]))).toBe(-ERRNO.EINVAL);
    expect(issue(ALLOC_ANY)).toBe(1);
  });

  it('S002 B3: the 1001st allocation: -ENOSPC', () => {
    const { issue } = dualStage();
    const given = Array.from({ length: 1001 }, () => issue(ALLOC_ANY));
    expect(given.slice(0, 1000).every((pasid) => pasid > 0)).toBe(true);
    expect([new Set(given).size, given[1000]]).toEqual([1001, -ERRNO.ENOSPC]);
  });

  it('S002 B4: SYSWIDE_PASID not offered: -EOPNOTSUPP', () => {
    const { issue } = dualStage({ features: 6 });
    expect([issue(ALLOC_ANY), issue(FREE_101)]).toEqual([-ERRNO.EOPNOTSUPP, -ERRNO.EOPNOTSUPP]);
  });
});

describe('S002 C: BIND_PGTBL', () => {
  it('S002 C1: BIND 101, then DMA with PASID 101 at 0x7f0000001010: 0x1_0000_9010', () => {
    const { scenario, device, hardware, issue } = dualStage();
    expect(issue(ALLOC_101)).toBe(101);
    expect(scenario.dma(device, X2.va, 101)).toBe(FAULT.PASID_DIRECTORY);
    expect(issue(BIND_101)).toBe(0);
    expect(scenario.dma(device, X2.va, 101)).toBe(0x1_0000_9010);
    expect(scenario.wire.at(-1)).toMatchObject({ rid: device.rid, pasid: 101 });
    // Nested (PGTT 3), the guest's root in the first-stage pointer.
    const [stage2 = 0n, , stage1] = pasidEntry(scenario, hardware, device, 101);
    expect([stage2 & 0x1c1n, stage1]).toEqual([0xc1n, 0x20000n]);
  });

  it('S002 C2: BIND 102, never allocated: -ENOENT; a PASID of another VM: -EACCES', () => {
    const made = dualStage();
    const { scenario, device, issue } = made;
    const bind102 = withU32(BIND_101, [BIND.HPASID, 102]);
    expect(issue(ALLOC_101)).toBe(101);
    expect(issue(bind102)).toBe(-ERRNO.ENOENT);
    const issueOther = otherVm(made);
    expect(issueOther(withU32(ALLOC_101, [REQUEST.MIN, 102], [REQUEST.MAX, 102]))).toBe(102);
    expect(issue(bind102)).toBe(-ERRNO.EACCES);
    expect(issueOther(BIND_101)).toBe(-ERRNO.EACCES);
    expect(scenario.dma(device, X2.va, 102)).toBe(FAULT.PASID_DIRECTORY);
  });

  it('S002 C3: BIND twice: -EBUSY', () => {
    const { scenario, device, issue } = bound();
    expect(issue(BIND_101)).toBe(-ERRNO.EBUSY);
    expect(scenario.dma(device, X2.va, 101)).toBe(0x1_0000_9010);
  });

  it('S002 C4: padding[0]=1, version 2, format 2: -EINVAL', () => {
    const { scenario, device, issue } = dualStage();
    expect(issue(ALLOC_101)).toBe(101);
    for (const bad of [
      withU8(BIND_101, [BIND.PADDING, 1]),
      withU32(BIND_101, [BIND.VERSION, 2]),
      withU32(BIND_101, [BIND.FORMAT, 2]),
    ]) {
      expect(issue(bad)).toBe(-ERRNO.EINVAL);
    }
    expect(scenario.dma(device, X2.va, 101)).toBe(FAULT.PASID_DIRECTORY);
  });
});

describe('S002 D: CACHE_INVLD', () => {
  it('S002 D1: [0x23008]=0xc067: 0x1_0000_9010 until CACHE_INVLD, then 0x1_0000_c010', () => {
    const { scenario, device, hardware, issue } = bound();
    expect(scenario.dma(device, X2.va, 101)).toBe(0x1_0000_9010);
    scenario.write(X2.slot, 0xc067n);
    const before = hardware.stats();
    expect(scenario.dma(device, X2.va, 101)).toBe(0x1_0000_9010);
    expect(hardware.stats().iotlbHits).toBe(before.iotlbHits + 1);
    expect(issue(INVALIDATE_PAGE)).toBe(0);
    expect(scenario.dma(device, X2.va, 101)).toBe(0x1_0000_c010);
  });

  it('S002 D2: (ADDR, PASID cache) and (DOMAIN, DEV_IOTLB): -EINVAL, nothing is invalidated', () => {
    const { scenario, device, issue } = bound();
    scenario.dma(device, X2.va, 101);
    scenario.write(X2.slot, 0xc067n);
    const pair = (cache: number, granularity: number) =>
      withU8(INVALIDATE_PAGE, [INVALIDATE.CACHE, cache], [INVALIDATE.GRANULARITY, granularity]);
    expect(issue(pair(CACHE.PASID, GRANULARITY.ADDR))).toBe(-ERRNO.EINVAL);
    expect(issue(pair(CACHE.DEV_IOTLB, GRANULARITY.DOMAIN))).toBe(-ERRNO.EINVAL);
    expect(scenario.dma(device, X2.va, 101)).toBe(0x1_0000_9010);
    expect(issue(pair(CACHE.IOTLB, GRANULARITY.PASID))).toBe(0);
    expect(scenario.dma(device, X2.va, 101)).toBe(0x1_0000_c010);
  });

  it.each([
    ['posted', false, 0],
    ['strict', true, -ERRNO.ERANGE],
  ])(
    'S002 D3: ADDR not aligned: 0 as posted, -ERANGE when strict; nothing is invalidated (%s)',
    (_, strictErrors, result) => {
      const { scenario, device, issue } = bound({ strictErrors });
      scenario.dma(device, X2.va, 101);
      scenario.write(X2.slot, 0xc067n);
      expect(issue(withU32(INVALIDATE_PAGE, [INVALIDATE.ADDR, 0x1800]))).toBe(result);
      expect(scenario.dma(device, X2.va, 101)).toBe(0x1_0000_9010);
    },
  );
});

describe('S002 E: the end of a binding', () => {
  it.each([
    ['posted', false, 0],
    ['strict', true, -ERRNO.EINVAL],
  ])(
    'S002 E1: UNBIND, then DMA faults; second UNBIND: 0 as posted, -EINVAL when strict (%s)',
    (_, strictErrors, again) => {
      const { scenario, device, hardware, issue } = bound({ strictErrors });
      expect(scenario.dma(device, X2.va, 101)).toBe(0x1_0000_9010);
      expect(issue(UNBIND_101)).toBe(0);
      expect(scenario.dma(device, X2.va, 101)).toBe(FAULT.PASID_ENTRY);
      expect(pasidEntry(scenario, hardware, device, 101)).toEqual(Array(8).fill(0n));
      expect(issue(UNBIND_101)).toBe(again);
    },
  );

  it('S002 E2: FREE 101, then BIND 101: -ENOENT', () => {
    const { scenario, device, issue } = bound();
    expect(issue(FREE_101)).toBe(0);
    expect(scenario.dma(device, X2.va, 101)).toBe(FAULT.PASID_ENTRY);
    expect(issue(BIND_101)).toBe(-ERRNO.ENOENT);
  });
});

describe('S002 F: close', () => {
  it('S002 F1: closing the container with PASIDs bound: all unbound, all PASIDs free', () => {
    const made = bound();
    const { scenario, device, hardware, container, group, issue } = made;
    const [second, bind] = [issue(ALLOC_ANY), withU32(BIND_101, [BIND.HPASID, 1])];
    expect([second, issue(bind)]).toEqual([1, 0]);
    for (const pasid of [1, 101]) expect(scenario.dma(device, X2.va, pasid)).toBe(X2.hpa);
    expect(scenario.vmm.lockedPages).toBe(262_144);
    group.close();
    container.close();
    for (const pasid of [1, 101]) {
      expect(scenario.dma(device, X2.va, pasid)).toBe(FAULT.PASID_ENTRY);
      expect(pasidEntry(scenario, hardware, device, pasid)).toEqual(Array(8).fill(0n));
    }
    expect(scenario.vmm.lockedPages).toBe(0);
    // Another VM may have every one of them.
    const issueOther = otherVm(made);
    expect([issueOther(ALLOC_101), issueOther(ALLOC_ANY)]).toEqual([101, 1]);
  });
});
