import {
  createMachine,
  createProcess,
  IOAS_MAP,
  MAP_FLAG,
  openIommufd,
  VM_PROT,
} from '@iommukit/core';
import { vtd } from '@iommukit/driver-vtd';

const machine = createMachine();
const nic = machine.addEndpoint({ rid: '00:04.0' });
machine.addUnit(vtd());
machine.onFault((fault) => console.log('fault:', fault.name));

const process = createProcess(machine);
const userVa = process.mmap({
  length: 0x4000,
  prot: VM_PROT.READ | VM_PROT.WRITE,
  flags: MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS,
});
const iommufd = openIommufd(process, machine);
const devId = iommufd.bindDevice(nic);
const { outIoasId: ioasId } = iommufd.ioasAlloc();
const { iova } = iommufd.ioasMap({
  flags: IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE,
  ioasId,
  userVa,
  length: 0x4000,
});
iommufd.deviceAttach(devId, ioasId);

console.log(
  nic.dmaWrite(iova, new TextEncoder().encode('hello')),
  'bytes written by DMA to IOVA',
  iova,
);
console.log(new TextDecoder().decode(process.peek(userVa, 5)), 'is what the process reads');
iommufd.ioasUnmap({ ioasId, iova, length: 0x4000 });
console.log(nic.dmaWrite(iova, Uint8Array.of(1)), 'bytes written after the unmap');
