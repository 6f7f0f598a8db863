// #region sample
import { createMachine, createProcess, openIommufd } from '@iommukit/core';

const machine = createMachine();
const process = createProcess(machine);
const iommufd = openIommufd(process, machine);
const address = process.mmap({ length: 4096 });

/** struct iommu_ioas_alloc { size, flags, out_ioas_id }, all u32, little endian. */
const ioasAlloc = (flags: number): number => {
  process.write(address, new Uint8Array(Uint32Array.of(12, flags, 0).buffer));
  return iommufd.ioctl(0x3b81, address);
};

console.log('ioctl answers', ioasAlloc(0));
console.log('the struct is now', process.peek(address, 12));
console.log('with flags 1 it answers', ioasAlloc(1));
console.log(iommufd.lastRefusal?.message);
// #endregion
