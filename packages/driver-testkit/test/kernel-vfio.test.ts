/** What Linux's sources answer where no recording says so: VFIO groups and devices. */
import {
  createProcess,
  filesOf,
  IommufdContext,
  MAP_FLAG,
  openVfioCdev,
  openVfioGroup,
  type Process,
  sysIoctl,
  type VfioDevice,
  type VfioGroup,
} from '@iommukit/core';
import { beforeEach, describe, expect, it } from 'vitest';
import { createReplayMachine } from '../src/golden/platform.ts';
import { nameOf, RW } from './raw-kit.ts';

const AT = 0x1_0000_0000;
const PAGE = 4096;
const GET_STATUS = 0x3b67;
const SET_CONTAINER = 0x3b68;
const GET_DEVICE_FD = 0x3b6a;
const BIND_IOMMUFD = 0x3b76;
const VIABLE = 1;
const CONTAINER_SET = 2;
const NAME = '0000:00:05.0';

let process: Process;
let iommufd: number;
let device: VfioDevice;
let group: VfioGroup;

beforeEach(() => {
  const { machine, devices, groups } = createReplayMachine('vtd-legacy', 2 ** 24);
  process = createProcess(machine);
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  process.mmap({ addr: AT, length: 2 * PAGE, prot: RW, flags });
  iommufd = new IommufdContext(process, machine).fd;
  device = devices.get('cdev_a') as VfioDevice;
  group = groups.get('group_a') as VfioGroup;
});

const words = (...values: number[]): void => {
  process.poke(AT, new Uint8Array(Uint32Array.from(values).buffer));
};
const ioctl = (fd: number, request: number, at = AT): number => sysIoctl(process, fd, request, at);
const status = (fd: number): number => {
  words(8, 0xffff_ffff);
  expect(nameOf(ioctl(fd, GET_STATUS))).toBe('ok');
  return new DataView((process.peek(AT + 4, 4) ?? new Uint8Array(4)).slice().buffer).getUint32(
    0,
    true,
  );
};
const setContainer = (fd: number): string => {
  words(iommufd);
  return nameOf(ioctl(fd, SET_CONTAINER));
};
const deviceFd = (fd: number, name: string): number => {
  const bytes = new TextEncoder().encode(`${name}\0`);
  const at = AT + 2 * PAGE - bytes.length;
  process.poke(at, bytes);
  return ioctl(fd, GET_DEVICE_FD, at);
};
const bind = (fd: number): string => {
  words(16, 0, iommufd, 0);
  return nameOf(ioctl(fd, BIND_IOMMUFD));
};

describe('group.c vfio_group_ioctl_get_status', () => {
  it('viable as long as nobody else owns the DMA of the group', () => {
    const fd = openVfioGroup(process, group);
    expect(status(fd)).toBe(VIABLE);
    expect(setContainer(fd)).toBe('ok');
    expect(status(fd)).toBe(VIABLE | CONTAINER_SET);
    const opened = deviceFd(fd, NAME);
    expect(opened).toBeGreaterThan(0);
    filesOf(process).close(fd);
    const again = openVfioGroup(process, group);
    expect(status(again)).toBe(0);
    filesOf(process).close(opened);
    expect(status(again)).toBe(VIABLE);
  });
});

describe('group.c vfio_group_fops_open: who keeps a group from being opened', () => {
  it('an open group, and a device bound through its cdev', () => {
    const fd = openVfioGroup(process, group);
    expect(nameOf(openVfioGroup(process, group))).toBe('EBUSY');
    filesOf(process).close(fd);
    const cdev = openVfioCdev(process, device);
    // Not bound yet.
    const second = openVfioGroup(process, group);
    expect(nameOf(second)).toBe('ok');
    filesOf(process).close(second);
    expect(bind(cdev)).toBe('ok');
    expect(nameOf(openVfioGroup(process, group))).toBe('EBUSY');
    filesOf(process).close(cdev);
    expect(nameOf(openVfioGroup(process, group))).toBe('ok');
  });

  it('not a device that an earlier descriptor of the group opened', () => {
    const fd = openVfioGroup(process, group);
    expect(setContainer(fd)).toBe('ok');
    expect(nameOf(deviceFd(fd, NAME))).toBe('ok');
    filesOf(process).close(fd);
    expect(nameOf(openVfioGroup(process, group))).toBe('ok');
  });
});

describe('group.c vfio_group_ioctl_get_device_fd: the name', () => {
  it.each([
    { length: 4095, rc: 'ENODEV' },
    { length: 4096, rc: 'EINVAL' },
  ])('$length bytes before the zero: $rc', ({ length, rc }) => {
    const fd = openVfioGroup(process, group);
    expect(setContainer(fd)).toBe('ok');
    expect(nameOf(deviceFd(fd, 'x'.repeat(length)))).toBe(rc);
  });
});

describe('device_cdev.c vfio_df_ioctl_bind_iommufd: a descriptor from a group', () => {
  const bindWith = (argsz: number, ...more: number[]): string => {
    const fd = openVfioGroup(process, group);
    expect(setContainer(fd)).toBe('ok');
    const opened = deviceFd(fd, NAME);
    words(argsz, 0, iommufd, 0, 0, 0, ...more);
    return nameOf(ioctl(opened, BIND_IOMMUFD));
  };
  it.each([
    { title: 'a whole struct', argsz: 16, more: [], rc: 'EINVAL' },
    { title: 'too short', argsz: 15, more: [], rc: 'EINVAL' },
    { title: 'longer, with zeros', argsz: 32, more: [0, 0], rc: 'EINVAL' },
    { title: 'longer, with more than zeros', argsz: 32, more: [0, 1], rc: 'E2BIG' },
  ])('$title: $rc', ({ argsz, more, rc }) => {
    expect(bindWith(argsz, ...more)).toBe(rc);
  });
});
