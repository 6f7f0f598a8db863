// #region sample
import { createMachine, createProcess, IOAS_MAP, openIommufd } from '@iommukit/core';
import { vtd } from '@iommukit/driver-vtd';

const machine = createMachine();
const nic = machine.addEndpoint({ rid: '00:04.0' });
machine.addUnit(vtd());
machine.onFault((fault) => console.log('fault:', fault.name));

const process = createProcess(machine);
const userVa = process.mmap({ length: 0x4000 });
const iommufd = openIommufd(process, machine);
const devId = iommufd.bindDevice(nic);
const { outIoasId: ioasId } = iommufd.ioasAlloc();
const flags = IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
const { iova } = iommufd.ioasMap({ flags, ioasId, userVa, length: 0x4000 });
iommufd.deviceAttach(devId, ioasId);

console.log('DMA wrote', nic.dmaWrite(iova, Uint8Array.of(1, 2, 3)), 'bytes');
console.log('the process reads', process.peek(userVa, 3));
iommufd.ioasUnmap({ ioasId, iova, length: 0x4000 });
console.log('DMA wrote', nic.dmaWrite(iova, Uint8Array.of(4)), 'bytes');
// #endregion
