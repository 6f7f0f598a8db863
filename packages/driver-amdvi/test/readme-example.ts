import { createMachine, PROT } from '@iommukit/core';
import { amdvi } from '@iommukit/driver-amdvi';

// A machine with one device behind one IOMMU. Faults are decoded from the unit's own records.
const machine = createMachine();
const device = machine.addEndpoint({ rid: '00:04.0' });
const unit = machine.addUnit(amdvi());
machine.onFault((fault) => {
  const kind = fault.write ? 'write' : 'access';
  console.log(`  ${fault.name}; ${kind} of page 0x${fault.addressPfn.toString(16)}`);
});

// One page of RAM, mapped at IOVA page 0x1000.
const frame = machine.memory.allocPages(1) / 4096;
const domain = unit.allocPaging(device, { flags: 0 });
unit.attach(device, -1, domain);
domain.mapRuns(0x1000, Float64Array.of(frame, 1), 1, PROT.READ | PROT.WRITE);

const write = (label: string, iova: number) =>
  console.log(label, device.dmaWrite(iova, Uint8Array.of(1, 2, 3, 4)), 'bytes written');

write('mapped:', 0x1000_000);
domain.unmap(0x1000, 1);
write('unmapped, not yet invalidated:', 0x1000_000);
domain.sync();
write('invalidated:', 0x1000_000);
