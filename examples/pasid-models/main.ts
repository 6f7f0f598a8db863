/**
 * Who picks a PASID, and who writes its entry: a generic user who asks for one, a guest with a whole
 * device, and two guests with slices of one device, on a VT-d unit whose PASID table the host owns.
 */
import {
  createMachine,
  createProcess,
  DevicePasids,
  ENQCMD_INITIAL,
  type EnqcmdState,
  enqcmdMap,
  enqcmdSubmit,
  GuestPasids,
  HostPasids,
  HWPT_ALLOC,
  IOAS_MAP,
  isIommuError,
  openIommufd,
  PASID_DEVICE_TYPE,
} from '@iommukit/core';
import { PASID_ENTRY, VtdIommuUnit, vtd } from '@iommukit/driver-vtd';

const IOVA = 0x100_0000;
/** IA32_PASID of a guest's thread: valid, PASID 7. */
const MSR_PASID_7 = 0x8000_0007;

const machine = createMachine();
const device = machine.addEndpoint({ rid: '00:04.0', pasidBits: 16 });
const unit = machine.addUnit(vtd());
const program = createProcess(machine);
const iommufd = openIommufd(program, machine);
const devId = iommufd.bindDevice(device);

/** An address space in which `IOVA` holds a text. */
const space = (text: string): number => {
  const { outIoasId: ioasId } = iommufd.ioasAlloc();
  const flags = HWPT_ALLOC.PASID;
  const { outHwptId } = iommufd.hwptAlloc({ devId, ptId: ioasId, flags });
  const userVa = program.mmap({ length: 4096 });
  program.write(userVa, new TextEncoder().encode(text.padEnd(16)));
  const rights = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
  iommufd.ioasMap({ ioasId, flags: rights, userVa, length: 4096, iova: IOVA });
  return outHwptId;
};

const read = (pasid?: number): string => {
  const bytes = new Uint8Array(16);
  const done = device.dmaRead(IOVA, bytes, pasid === undefined ? {} : { pasid });
  return done === bytes.length ? new TextDecoder().decode(bytes).trimEnd() : 'blocked';
};

const refusal = (call: () => unknown): string => {
  try {
    call();
    return 'done';
  } catch (error) {
    if (isIommuError(error)) return error.message;
    throw error;
  }
};

console.log('Give me a PASID (no vendor data)');
iommufd.deviceAttach(devId, space('default space'));
const pasids = new DevicePasids(iommufd, devId);
const q = pasids.request(space('requested space'));
console.log(`  PASID ${q}: ${read(q)}; without PASID: ${read()}; PASID ${q + 1}: ${read(q + 1)}`);
pasids.release(q);
console.log(`  released: ${read(q)}; again: ${refusal(() => pasids.release(q))}`);

console.log('Two slices (mdevs) of the device, each uses its PASID 7');
const host = new HostPasids({ pasidBits: 16 });
const guest = new GuestPasids(host);
for (const name of ['mdev1', 'mdev2']) {
  guest.addDevice({ name, rid: device.rid, type: PASID_DEVICE_TYPE.MDEV_PARENT_TABLE });
  const { ppasid } = guest.attach(name, 7);
  iommufd.deviceAttach(devId, space(`memory of ${name}`), ppasid);
  console.log(`  ${name}: vPASID 7 is pPASID ${ppasid}: ${read(ppasid)}`);
}
console.log(`  PASID 7 on the wire: ${read(7)}`);

console.log('What the host wrote for mdev1');
if (unit instanceof VtdIommuUnit) {
  const pasid = guest.ppasidOf('mdev1', 7);
  const { steps } = unit.hardware.explain({ rid: device.rid, pasid, iova: IOVA, cached: false });
  for (const step of steps) {
    if (step.kind !== 'read' || step.structure !== PASID_ENTRY.name) continue;
    const text = (field: string) => {
      const row = step.fields.find(({ name }) => name === field);
      return `${field} ${row?.symbol ?? row?.text}`;
    };
    console.log(`  PASID table entry ${pasid}: ${text('P')}, ${text('PGTT')}, ${text('DID')}`);
  }
}

console.log('A slice for ENQCMD: the CPU adds the PASID of the thread');
guest.addDevice({ name: 'mdev3', rid: device.rid, type: PASID_DEVICE_TYPE.MDEV_ENQCMD });
const { ppasid: shared } = guest.attach('mdev3', 7);
iommufd.deviceAttach(devId, space('memory of mdev3'), shared);
const submit = (state: EnqcmdState): string => {
  const outcome = enqcmdSubmit(state, PASID_DEVICE_TYPE.MDEV_ENQCMD, MSR_PASID_7);
  return outcome.kind === 'sent' ? `PASID ${outcome.pasid}: ${read(outcome.pasid)}` : outcome.kind;
};
console.log(`  before KVM translates: ${submit(ENQCMD_INITIAL)}`);
const translating = enqcmdMap(ENQCMD_INITIAL, 7, shared);
console.log(`  after: ${submit(translating)}`);
