import {
  createMachine,
  createProcess,
  isIommuError,
  MAP_FLAG,
  VFIO_EXTENSION,
  VM_PROT,
} from '@iommukit/core';
import { vtd } from '@iommukit/driver-vtd';
import { openVfioContainer, openVfioGroup, VFIO_DMA_MAP_FLAG } from '@iommukit/vfio-compat';

// A computer with one PCI device behind an Intel unit, and a program with 16 pages of memory.
const machine = createMachine();
const nic = machine.addEndpoint({ rid: '00:05.0', name: '0000:00:05.0' });
machine.addUnit(vtd({ scalable: false }));
const program = createProcess(machine);
const vaddr = program.mmap({
  length: 16 * 4096,
  prot: VM_PROT.READ | VM_PROT.WRITE,
  flags: MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS,
});

// The order that every VFIO program follows: container, group, IOMMU type, device.
const container = openVfioContainer(program, machine);
const group = openVfioGroup(program, machine, nic.group);
console.log('TYPE1v2 offered:', container.checkExtension(VFIO_EXTENSION.TYPE1v2_IOMMU));
group.setContainer(container);
container.setIommu(VFIO_EXTENSION.TYPE1v2_IOMMU);
const device = group.getDeviceFd('0000:00:05.0');

for (const { start, end } of container.iommuGetInfo().iovaRanges) {
  console.log(`IOVA 0x${start.toString(16)} to 0x${end.toString(16)}`);
}

// Map four pages; the device writes into the third one.
const { READ, WRITE } = VFIO_DMA_MAP_FLAG;
container.iommuMapDma({ flags: READ | WRITE, vaddr, iova: 0x10_0000, size: 4 * 4096 });
console.log('locked:', program.vmLckKiB, 'KiB');
const packet = new TextEncoder().encode('ping');
console.log('device wrote', nic.dmaWrite(0x10_2000, packet), 'bytes');
const seen = new Uint8Array(4);
program.read(vaddr + 2 * 4096, seen);
console.log('program reads', new TextDecoder().decode(seen));

// TYPE1v2 does not cut mappings; the refusal says what would have been accepted.
try {
  container.iommuUnmapDma({ iova: 0x10_2000, size: 4096 });
} catch (error) {
  if (!isIommuError(error)) throw error;
  console.log(error.message);
  console.log('accepted:', error.reason.accepted);
}

const { size } = container.iommuUnmapDma({ iova: 0x10_0000, size: 4 * 4096 });
console.log(`unmapped ${size} bytes; locked: ${program.vmLckKiB} KiB`);
console.log('device wrote', nic.dmaWrite(0x10_2000, packet), 'bytes');

// The same call with bytes in the program's memory, as an unmodified program makes it.
const map = new DataView(new ArrayBuffer(32));
map.setUint32(0, 32, true);
map.setUint32(4, READ, true);
map.setBigUint64(8, BigInt(vaddr), true);
map.setBigUint64(16, 0xfee0_0000n, true);
map.setBigUint64(24, 4096n, true);
program.write(vaddr + 8 * 4096, new Uint8Array(map.buffer));
console.log('ioctl:', container.ioctl(0x3b71, vaddr + 8 * 4096));
console.log(container.lastRefusal?.message);

device.close();
group.close();
container.close();
