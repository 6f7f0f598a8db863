// #region sample
import {
  createMachine,
  createProcess,
  IOAS_MAP,
  openIommufd,
  restoreSnapshot,
  saveSnapshot,
} from '@iommukit/core';
import { vtd } from '@iommukit/driver-vtd';

/** The hardware, the same on both sides. */
const build = () => {
  const machine = createMachine();
  const nic = machine.addEndpoint({ rid: '00:04.0' });
  machine.addUnit(vtd());
  return { machine, nic };
};

const here = build();
const process = createProcess(here.machine);
const userVa = process.mmap({ length: 0x4000 });
const iommufd = openIommufd(process, here.machine);
const devId = iommufd.bindDevice(here.nic);
const { outIoasId: ioasId } = iommufd.ioasAlloc();
const flags = IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
const { iova } = iommufd.ioasMap({ flags, ioasId, userVa, length: 0x4000 });
iommufd.deviceAttach(devId, ioasId);
here.nic.dmaWrite(iova, Uint8Array.of(1, 2, 3));

const bytes = saveSnapshot({ machine: here.machine, processes: [process], contexts: [iommufd] });

const there = build();
const { processes, contexts } = restoreSnapshot(bytes, { machine: there.machine });
console.log('DMA wrote', there.nic.dmaWrite(iova + 3n, Uint8Array.of(4)), 'byte more');
console.log('the process reads', processes[0]?.peek(userVa, 4));
console.log('the next object has id', contexts[0]?.ioasAlloc().outIoasId);
// #endregion
