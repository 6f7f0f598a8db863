/** The VFIO interfaces: cdev, group, container calls. */
import {
  addToVfioGroup,
  openIommufd,
  openVfioCdev,
  openVfioGroup,
  PAGE_BYTES,
  sysIoctl,
  VFIO_IOCTL,
  VfioDevice,
} from '@iommukit/core';
import { mapAt, newIoas } from './address-space-families.ts';
import type { Family } from './sweep.ts';
import { IOVA, MEMORY, SCRATCH, type World } from './world.ts';

const SET_CONTAINER = 0x3b68;
const GET_DEVICE_FD = 0x3b6a;
const TYPE1 = 1;
const FLAG_PASID = 1;

/** Put u32 words into memory and call. */
const ioctl = ({ process }: World, fd: number, request: number, ...words: number[]): number => {
  process.poke(SCRATCH, new Uint8Array(Uint32Array.from(words).buffer));
  return sysIoctl(process, fd, request, SCRATCH);
};

const bind = (world: World, fd: number): number =>
  ioctl(world, fd, VFIO_IOCTL.DEVICE_BIND_IOMMUFD, 16, 0, world.context.fd, 0);

const attach = (world: World, fd: number, ptId: number): number =>
  ioctl(world, fd, VFIO_IOCTL.DEVICE_ATTACH_IOMMUFD_PT, 12, 0, ptId);

const boundCdev = (world: World): { fd: number; ioasId: number } => {
  const fd = openVfioCdev(world.process, new VfioDevice(world.nic));
  bind(world, fd);
  const ioasId = newIoas(world);
  mapAt(world, ioasId, IOVA, 4);
  return { fd, ioasId };
};

/** A context opened as `/dev/vfio/vfio`, and the group of the device. */
const groupAndContainer = (world: World) => {
  const { process, machine, nic } = world;
  const container = openIommufd(process, machine, { asVfioContainer: true });
  const group = addToVfioGroup(new VfioDevice(nic));
  const fd = openVfioGroup(process, group);
  return { container, group, fd };
};

const getDeviceFd = (world: World, fd: number): number => {
  world.process.poke(SCRATCH, new TextEncoder().encode(`${world.nic.name}\0`));
  return sysIoctl(world.process, fd, GET_DEVICE_FD, SCRATCH);
};

const u64Words = (value: number): [number, number] => [
  value % 2 ** 32,
  Math.floor(value / 2 ** 32),
];

const mapDma = (world: World, fd: number, iova: number, pages: number): number =>
  ioctl(
    world,
    fd,
    VFIO_IOCTL.IOMMU_MAP_DMA,
    32,
    3,
    ...u64Words(MEMORY),
    ...u64Words(iova),
    ...u64Words(pages * PAGE_BYTES),
  );

/** A container with a device, as type1 (v1): mappings may be cut. */
const type1 = (world: World): number => {
  const { container, fd } = groupAndContainer(world);
  ioctl(world, fd, SET_CONTAINER, container.fd);
  sysIoctl(world.process, container.fd, VFIO_IOCTL.SET_IOMMU, TYPE1);
  getDeviceFd(world, fd);
  return container.fd;
};

/** See the module. */
export const VFIO_FAMILIES: readonly Family[] = [
  {
    name: 'open a VFIO cdev',
    prepare: (world) => {
      const device = new VfioDevice(world.nic);
      return () => openVfioCdev(world.process, device);
    },
  },
  {
    name: 'VFIO_DEVICE_BIND_IOMMUFD',
    prepare: (world) => {
      const fd = openVfioCdev(world.process, new VfioDevice(world.nic));
      return () => bind(world, fd);
    },
  },
  {
    name: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT to an address space',
    keepsDriverFrames: true,
    prepare: (world) => {
      const { fd, ioasId } = boundCdev(world);
      return () => attach(world, fd, ioasId);
    },
  },
  {
    name: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT in place of another address space',
    prepare: (world) => {
      const { fd, ioasId } = boundCdev(world);
      attach(world, fd, ioasId);
      const other = newIoas(world);
      return () => attach(world, fd, other);
    },
  },
  {
    name: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT of a PASID',
    keepsDriverFrames: true,
    prepare: (world) => {
      const { fd, ioasId } = boundCdev(world);
      const device = world.context.objects.all().find(({ kind }) => kind === 'DEVICE');
      const devId = device?.id as number;
      const { outHwptId } = world.context.hwptAlloc({ devId, ptId: ioasId, flags: 8 });
      const words = [16, FLAG_PASID, outHwptId, 3];
      return () => ioctl(world, fd, VFIO_IOCTL.DEVICE_ATTACH_IOMMUFD_PT, ...words);
    },
  },
  {
    name: 'VFIO_DEVICE_DETACH_IOMMUFD_PT',
    allocatesNothing: true,
    prepare: (world) => {
      const { fd, ioasId } = boundCdev(world);
      attach(world, fd, ioasId);
      return () => ioctl(world, fd, VFIO_IOCTL.DEVICE_DETACH_IOMMUFD_PT, 8, 0);
    },
  },
  {
    name: 'open a VFIO group',
    prepare: (world) => {
      const group = addToVfioGroup(new VfioDevice(world.nic));
      return () => openVfioGroup(world.process, group);
    },
  },
  {
    name: 'VFIO_GROUP_SET_CONTAINER, which makes an address space',
    prepare: (world) => {
      const { fd } = groupAndContainer(world);
      return () => ioctl(world, fd, SET_CONTAINER, world.context.fd);
    },
  },
  {
    name: 'VFIO_GROUP_GET_DEVICE_FD, which binds and attaches',
    keepsDriverFrames: true,
    prepare: (world) => {
      const { fd } = groupAndContainer(world);
      ioctl(world, fd, SET_CONTAINER, world.context.fd);
      mapAt(world, world.context.compatIoas('map').id, IOVA, 4);
      return () => getDeviceFd(world, fd);
    },
  },
  {
    name: 'VFIO_IOMMU_MAP_DMA',
    prepare: (world) => {
      const fd = type1(world);
      return () => mapDma(world, fd, IOVA, 4);
    },
  },
  {
    name: 'VFIO_IOMMU_UNMAP_DMA that cuts a mapping twice',
    prepare: (world) => {
      const fd = type1(world);
      mapDma(world, fd, IOVA, 8);
      const words = [24, 0, ...u64Words(IOVA + 0x2000), ...u64Words(0x3000)];
      return () => ioctl(world, fd, VFIO_IOCTL.IOMMU_UNMAP_DMA, ...words);
    },
  },
  {
    name: 'VFIO_IOMMU_UNMAP_DMA of a whole mapping',
    allocatesNothing: true,
    prepare: (world) => {
      const fd = type1(world);
      mapDma(world, fd, IOVA, 8);
      const words = [24, 0, ...u64Words(IOVA), ...u64Words(0x8000)];
      return () => ioctl(world, fd, VFIO_IOCTL.IOMMU_UNMAP_DMA, ...words);
    },
  },
  {
    name: 'VFIO_SET_IOMMU and VFIO_IOMMU_GET_INFO',
    allocatesNothing: true,
    prepare: (world) => {
      const { container, fd } = groupAndContainer(world);
      ioctl(world, fd, SET_CONTAINER, container.fd);
      return () => {
        const set = sysIoctl(world.process, container.fd, VFIO_IOCTL.SET_IOMMU, TYPE1);
        return set < 0 ? set : ioctl(world, container.fd, VFIO_IOCTL.IOMMU_GET_INFO, 256);
      };
    },
  },
];
