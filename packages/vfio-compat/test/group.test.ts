/** Groups, containers and devices: order, ownership, lifetimes (container.c, group.c). */
import {
  type Endpoint,
  filesOf,
  IommufdContext,
  OpenFile,
  openVfioCdev,
  VFIO_EXTENSION,
} from '@iommukit/core';
import { LEGACY_PROFILE, vtd } from '@iommukit/driver-vtd';
import { describe, expect, test } from 'vitest';
import {
  openVfioContainer,
  openVfioGroup,
  type VfioIommuDriver,
  vfioGroupOf,
} from '../src/index.ts';
import { createComputer, createProgram, MEMORY, openFixture, PAGE, refusalOf } from './fixture.ts';

const { TYPE1_IOMMU, TYPE1v2_IOMMU, TYPE1_NESTING_IOMMU, UNMAP_ALL } = VFIO_EXTENSION;
const map = { flags: 3, vaddr: MEMORY, iova: 0, size: PAGE };

const open = () => {
  const computer = createComputer();
  const process = createProgram(computer.machine);
  const container = openVfioContainer(process, computer.machine);
  return { ...computer, process, container };
};

describe('VFIO_SET_IOMMU', () => {
  test.each([
    ['TYPE1', TYPE1_IOMMU, 'ok'],
    ['TYPE1v2', TYPE1v2_IOMMU, 'ok'],
    ['the reserved number of TYPE1_NESTING', TYPE1_NESTING_IOMMU, 'ENODEV iommu-type'],
    ['an extension that is no type', UNMAP_ALL, 'EINVAL iommu-type'],
    ['a number of 64 bits', 2n ** 64n - 1n, 'ENODEV iommu-type'],
  ])('%s', (_name, type, wanted) => {
    const { container, process, machine, nic } = open();
    expect(refusalOf(() => container.setIommu(type))).toBe('EINVAL no-group');
    openVfioGroup(process, machine, nic.group).setContainer(container);
    expect(refusalOf(() => container.setIommu(type))).toBe(wanted);
    const again = wanted === 'ok' ? 'EINVAL iommu-set' : 'ok';
    expect(refusalOf(() => container.setIommu(TYPE1v2_IOMMU))).toBe(again);
  });

  test('a driver that refuses a group leaves nothing behind; the next one is tried', () => {
    const { process, machine, nic } = open();
    const log: string[] = [];
    const picky: VfioIommuDriver = {
      name: 'picky',
      checkExtension: () => 1,
      open: (call) => ({
        names: {},
        checkExtension: () => 0,
        ioctl: () => 0,
        attachGroup: () => {
          throw call.refuse('EINVAL', 'picky', 'no group will do');
        },
        detachGroup: () => log.push('detach'),
        release: () => log.push('release'),
      }),
    };
    const container = openVfioContainer(process, machine, { drivers: [picky] });
    openVfioGroup(process, machine, nic.group).setContainer(container);
    expect(refusalOf(() => container.setIommu(1))).toBe('EINVAL picky');
    expect(log).toEqual(['release']);
    expect(container.iommu).toBeUndefined();
  });
});

describe('VFIO_GROUP_SET_CONTAINER', () => {
  test.each([
    ['a negative descriptor', -1, 'EINVAL descriptor'],
    ['a descriptor that is not open', 999, 'EBADF descriptor'],
  ])('%s', (_title, fd, wanted) => {
    const { process, machine, nic } = open();
    const group = openVfioGroup(process, machine, nic.group);
    expect(refusalOf(() => group.setContainer(fd))).toBe(wanted);
  });

  test('a descriptor of another kind', () => {
    const { process, machine, nic } = open();
    const fd = filesOf(process).install(new OpenFile({ name: 'pipe' }));
    const group = openVfioGroup(process, machine, nic.group);
    expect(refusalOf(() => group.setContainer(fd))).toBe('EBADFD descriptor');
  });

  test('a group whose device an iommufd has is not viable: EPERM', () => {
    const { process, machine, nic, container } = open();
    const iommufd = new IommufdContext(process, machine);
    const devId = iommufd.bindDevice(nic);
    const group = openVfioGroup(process, machine, nic.group);
    expect(group.getStatus()).toEqual({ flags: 0 });
    expect(refusalOf(() => group.setContainer(container))).toBe('EPERM group-owner');
    iommufd.unbindDevice(devId);
    expect(group.getStatus()).toEqual({ flags: 1 });
    expect(refusalOf(() => group.setContainer(container))).toBe('ok');
    expect(group.getStatus()).toEqual({ flags: 3 });
    expect(refusalOf(() => iommufd.bindDevice(nic))).toBe('EPERM group-owner');
  });

  test('a group that joins late sees the mappings; one that leaves does not', () => {
    const { container, process, machine, nic, disk, twin } = openFixture();
    process.poke(MEMORY, Uint8Array.of(7));
    container.iommuMapDma(map);
    const group = openVfioGroup(process, machine, disk.group);
    group.setContainer(container);
    const byte = new Uint8Array(1);
    expect([nic, disk, twin].map((device) => device.dmaRead(0, byte))).toEqual([1, 1, 1]);
    group.unsetContainer();
    expect([nic, disk, twin].map((device) => device.dmaRead(0, byte))).toEqual([1, 0, 0]);
  });

  test('a group whose windows conflict with mappings stays out', () => {
    const { container, process, machine, disk } = openFixture();
    container.iommuMapDma({ ...map, iova: 0x8000_0000 });
    const unit = machine.unitOf(disk) as NonNullable<ReturnType<typeof machine.unitOf>>;
    const regions = unit.reservedRegions.bind(unit);
    unit.reservedRegions = (device) => [
      ...regions(device),
      { start: 0x8000_0000, last: 0x8000_ffff, kind: 'direct' },
    ];
    const group = openVfioGroup(process, machine, disk.group);
    expect(refusalOf(() => group.setContainer(container))).toBe('EINVAL iova-in-use');
    container.iommuUnmapDma({ iova: 0x8000_0000, size: PAGE });
    expect(refusalOf(() => group.setContainer(container))).toBe('ok');
    expect(container.iommuGetInfo().iovaRanges.map(({ start }) => start)).toEqual([
      0n,
      0x8001_0000n,
      0xfef0_0000n,
    ]);
  });

  test('while an address is taken back no group joins: EBUSY', () => {
    const { container, process, machine, disk } = openFixture();
    container.iommuMapDma(map);
    container.iommuUnmapDma({ flags: 4, iova: 0, size: PAGE });
    const group = openVfioGroup(process, machine, disk.group);
    expect(refusalOf(() => group.setContainer(container))).toBe('EBUSY vaddr-invalid');
    container.iommuMapDma({ ...map, flags: 4 });
    expect(refusalOf(() => group.setContainer(container))).toBe('ok');
  });
});

describe('groups behind two units', () => {
  const openTwo = () => {
    const fixture = openFixture();
    const { machine, process, container } = fixture;
    const far = machine.addEndpoint({ rid: '80:01.0', name: '0000:80:01.0' });
    machine.addUnit(vtd({ scalable: false, capabilities: LEGACY_PROFILE }), [far]);
    container.iommuMapDma({ flags: 3, vaddr: MEMORY, iova: 0, size: 2 * PAGE });
    const group = openVfioGroup(process, machine, far.group);
    group.setContainer(container);
    return { ...fixture, far, farGroup: group };
  };
  const reads = (device: Endpoint, iova: number) => device.dmaRead(iova, new Uint8Array(1));

  test('each has a domain of its own with every mapping; pages are locked once', () => {
    const { container, nic, far, process } = openTwo();
    container.iommuMapDma({ flags: 3, vaddr: MEMORY, iova: 4 * PAGE, size: PAGE });
    expect([0, PAGE, 4 * PAGE].map((iova) => [reads(nic, iova), reads(far, iova)])).toEqual([
      [1, 1],
      [1, 1],
      [1, 1],
    ]);
    expect(process.lockedPages).toBe(3);
    expect(container.iommuUnmapDma({ iova: 0, size: 2 * PAGE }).size).toBe(BigInt(2 * PAGE));
    expect([reads(nic, 0), reads(far, 0), reads(far, 4 * PAGE)]).toEqual([0, 0, 1]);
    expect(process.lockedPages).toBe(1);
  });

  test('GET_INFO says what both can do', () => {
    const { container, farGroup } = openTwo();
    const last = () => container.iommuGetInfo().iovaRanges.at(-1)?.end;
    expect(last()).toBe(2n ** 48n - 1n);
    farGroup.unsetContainer();
    expect(last()).toBe(2n ** 57n - 1n);
  });

  test('DMA_CC_IOMMU: only while every domain forces DMA to snoop', () => {
    const { container, farGroup, machine, process } = openTwo();
    const isCoherent = () => container.checkExtension(VFIO_EXTENSION.DMA_CC_IOMMU);
    expect(isCoherent()).toBe(0);
    farGroup.unsetContainer();
    expect(isCoherent()).toBe(1);
    expect(openVfioContainer(process, machine).checkExtension(VFIO_EXTENSION.DMA_CC_IOMMU)).toBe(0);
  });

  test('the first group may leave; the mappings stay for the other', () => {
    const { group, nic, far, process, farGroup } = openTwo();
    group.unsetContainer();
    expect([reads(nic, 0), reads(far, 0)]).toEqual([0, 1]);
    expect(process.lockedPages).toBe(2);
    farGroup.unsetContainer();
    expect([reads(far, 0), process.lockedPages, process.pinnedPages]).toEqual([0, 0, 0]);
  });
});

describe('lifetimes', () => {
  test('one opener per group; a cdev keeps it closed, and it keeps cdevs unbound', () => {
    const { process, machine, nic } = open();
    const group = openVfioGroup(process, machine, nic.group);
    expect(refusalOf(() => openVfioGroup(process, machine, nic.group))).toBe('EBUSY group-open');
    group.close();
    const [device] = vfioGroupOf(machine, nic.group).devices;
    const iommufd = new IommufdContext(process, machine);
    device?.open('bind', iommufd);
    expect(refusalOf(() => openVfioGroup(process, machine, nic.group))).toBe('EBUSY group-open');
    device?.close();
    expect(refusalOf(() => openVfioGroup(process, machine, nic.group))).toBe('ok');
    if (device) expect(openVfioCdev(process, device)).toBeGreaterThan(0);
  });

  test('an open device keeps its group open and in the container', () => {
    const { container, process, machine, nic, group } = openFixture();
    container.iommuMapDma(map);
    const device = group.getDeviceFd('0000:00:05.0');
    const second = group.getDeviceFd('0000:00:05.0');
    expect(refusalOf(() => group.unsetContainer())).toBe('EBUSY devices-open');
    group.close();
    expect(refusalOf(() => openVfioGroup(process, machine, nic.group))).toBe('EBUSY group-open');
    expect(nic.dmaRead(0, new Uint8Array(1))).toBe(1);
    device.close();
    expect(nic.dmaRead(0, new Uint8Array(1))).toBe(1);
    second.close();
    expect(nic.dmaRead(0, new Uint8Array(1))).toBe(0);
    expect(process.lockedPages).toBe(0);
    expect(refusalOf(() => openVfioGroup(process, machine, nic.group))).toBe('ok');
  });

  test('a closed container lives on in its group', () => {
    const { container, nic, group, process } = openFixture();
    container.iommuMapDma(map);
    container.close();
    expect(nic.dmaRead(0, new Uint8Array(1))).toBe(1);
    expect(group.getStatus()).toEqual({ flags: 3 });
    group.close();
    expect(nic.dmaRead(0, new Uint8Array(1))).toBe(0);
    expect(process.lockedPages).toBe(0);
  });

  test('a container takes no descriptor but its own', () => {
    const { process, group } = openFixture();
    expect(filesOf(process).nextFd).toBe(group.fd + 1);
  });

  test('a container that its last group left can be used again', () => {
    const { container, group } = openFixture();
    container.iommuMapDma(map);
    group.unsetContainer();
    expect(refusalOf(() => container.iommuMapDma(map))).toBe('EINVAL no-iommu');
    group.setContainer(container);
    container.setIommu(TYPE1_IOMMU);
    expect(refusalOf(() => container.iommuMapDma(map))).toBe('ok');
  });
});

describe('an iommufd in the place of a container', () => {
  test('devices are attached to its compatibility IOAS while they are open', () => {
    const { process, machine, nic } = open();
    const iommufd = new IommufdContext(process, machine);
    const group = openVfioGroup(process, machine, nic.group);
    expect(refusalOf(() => group.getDeviceFd('0000:00:05.0'))).toBe('EINVAL container-unset');
    group.setContainer(iommufd.fd);
    const { ioasId } = iommufd.vfioIoasOp({ op: 0, ioasId: 0 });
    iommufd.ioasMap({ ioasId, flags: 7, userVa: MEMORY, length: PAGE, iova: 0 });
    expect(nic.dmaRead(0, new Uint8Array(1))).toBe(0);
    const device = group.getDeviceFd('0000:00:05.0');
    expect(nic.dmaRead(0, new Uint8Array(1))).toBe(1);
    group.unsetContainer();
    expect(nic.dmaRead(0, new Uint8Array(1))).toBe(1);
    device.close();
    expect(nic.dmaRead(0, new Uint8Array(1))).toBe(0);
  });
});
