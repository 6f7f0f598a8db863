import { createMachine, createProcess, MAP_FLAG, VFIO_EXTENSION, VM_PROT } from '@iommukit/core';
import { vtd } from '@iommukit/driver-vtd';
import {
  CACHE,
  GRANULARITY,
  openVfioContainer,
  openVfioGroup,
  type1Nesting,
} from '@iommukit/vfio-compat';

// A unit that nests, a device with PASIDs, and a VMM with 1 MiB of guest memory.
const machine = createMachine();
const device = machine.addEndpoint({ rid: '00:05.0', name: '0000:00:05.0', pasidBits: 20 });
machine.addUnit(vtd());
const vmm = createProcess(machine);
const ram = vmm.mmap({
  length: 2 ** 20,
  prot: VM_PROT.READ | VM_PROT.WRITE,
  flags: MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS,
});
const writeGuest = (gpa: number, value: bigint) => {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setBigUint64(0, value, true);
  vmm.write(ram + gpa, new Uint8Array(bytes.buffer));
};
const dma = (address: number, pasid: number) => {
  const word = new Uint8Array(2);
  const done = device.dmaRead(address, word, { pasid });
  return done === 2 ? new TextDecoder().decode(word) : 'blocked';
};

// SET_IOMMU 6: what is mapped from now on is the second stage.
const container = openVfioContainer(vmm, machine, {
  drivers: [type1Nesting({ dialect: 'liu-v7' })],
});
openVfioGroup(vmm, machine, device.group).setContainer(container);
container.setIommu(VFIO_EXTENSION.TYPE1_NESTING_IOMMU);
container.iommuMapDma({ flags: 3, vaddr: ram, iova: 0, size: 2 ** 20 });
const { nesting } = container;
console.log('features', nesting.info?.features, 'PASID bits', nesting.info?.pasidBits);

// The guest's table: four levels from 0x20000 that map 0x7f0000001000 to guest page 0x9000.
writeGuest(0x207f0, 0x21007n);
writeGuest(0x21000, 0x22007n);
writeGuest(0x22000, 0x23007n);
writeGuest(0x23008, 0x9067n);
vmm.write(ram + 0x9010, new TextEncoder().encode('up'));
vmm.write(ram + 0xc010, new TextEncoder().encode('ok'));

const pasid = nesting.pasidAlloc({ min: 1, max: 0xfffff });
console.log('PASID', pasid, dma(0x7f00_0000_1010, pasid));
nesting.bindPgtbl({ gpgd: 0x20000, hpasid: pasid });
console.log('bound:', dma(0x7f00_0000_1010, pasid));

// The guest changes its table; the hardware caches the old entry until it is told.
writeGuest(0x23008, 0xc067n);
console.log('changed:', dma(0x7f00_0000_1010, pasid));
const { IOTLB } = CACHE;
nesting.cacheInvalidate({
  cache: IOTLB,
  granularity: GRANULARITY.ADDR,
  pasid,
  addr: 0x7f00_0000_1000,
});
console.log('invalidated:', dma(0x7f00_0000_1010, pasid));
nesting.unbindPgtbl({ hpasid: pasid });
console.log('unbound:', dma(0x7f00_0000_1010, pasid));
