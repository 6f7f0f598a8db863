/**
 * The flows of the /dev/ioasid proposal of 2021 with its addresses: guest RAM is mapped for dev1
 * (GPA), dev2 gets a table of its own on top (GIOVA 0x2000 is GPA 0x1000), built in three ways.
 */
import {
  createMachine,
  createProcess,
  type Endpoint,
  HWPT_ALLOC,
  HWPT_DATA,
  IOAS_MAP,
  type IommuDriver,
  type IommufdContext,
  MAP_FLAG,
  openIommufd,
  type Process,
  SoftwareNesting,
} from '@iommukit/core';
import { encodeHwptVtdS1, encodeHwptVtdS1Invalidate, vtd } from '@iommukit/driver-vtd';

const GUEST = { HVA: 0x4000_0000, BYTES: 2 ** 24 } as const;
const RIGHTS = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;

/** Two devices on guest RAM (flow 5.1). */
interface Vmm {
  readonly process: Process;
  readonly iommufd: IommufdContext;
  readonly dev1: Endpoint;
  readonly dev2: Endpoint;
  readonly ids: { readonly dev1: number; readonly dev2: number };
  /** The address space of GPAs, and its table. */
  readonly gpa: { readonly ioasId: number; readonly hwptId: number };
}

const boot = (driver: IommuDriver, hwptFlags = 0): Vmm => {
  const machine = createMachine();
  const dev1 = machine.addEndpoint({ rid: '00:04.0', name: 'dev1', pasidBits: 16 });
  const dev2 = machine.addEndpoint({ rid: '00:05.0', name: 'dev2', pasidBits: 16 });
  machine.addUnit(driver);
  const process = createProcess(machine, { uid: 1000, rlimitMemlockBytes: 2 * GUEST.BYTES });
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  process.mmap({ addr: GUEST.HVA, length: GUEST.BYTES, flags });
  for (const gpa of [0x1abc, 0x5abc]) {
    process.write(GUEST.HVA + gpa, new TextEncoder().encode(`GPA 0x${gpa.toString(16)}`));
  }
  const iommufd = openIommufd(process, machine);
  const ids = { dev1: iommufd.bindDevice(dev1), dev2: iommufd.bindDevice(dev2) };
  const { outIoasId: ioasId } = iommufd.ioasAlloc();
  const hwpt = { devId: ids.dev1, ptId: ioasId, flags: hwptFlags };
  const { outHwptId: hwptId } = iommufd.hwptAlloc(hwpt);
  iommufd.deviceAttach(ids.dev1, hwptId);
  iommufd.deviceAttach(ids.dev2, hwptId);
  const ram = { userVa: GUEST.HVA, length: GUEST.BYTES, iova: 0 };
  iommufd.ioasMap({ ioasId, flags: RIGHTS, ...ram });
  return { process, iommufd, dev1, dev2, ids, gpa: { ioasId, hwptId } };
};

const read = (device: Endpoint, iova: number, pasid?: number): string => {
  const bytes = new Uint8Array(10);
  const options = pasid === undefined ? {} : { pasid };
  const text = () => new TextDecoder().decode(bytes);
  return device.dmaRead(iova, bytes, options) === bytes.length ? text() : 'blocked';
};

const report = ({ process, dev1, dev2 }: Vmm): void => {
  console.log('  dev1 at 0x1abc:', read(dev1, 0x1abc));
  console.log('  dev2 at 0x2abc:', read(dev2, 0x2abc), '| at 0x1abc:', read(dev2, 0x1abc));
  console.log('  locked pages:', process.user.lockedPages);
};

/** Flow 5.2: the VMM maps GIOVA to its own memory; the page is charged a second time. */
const userShadow = (): void => {
  const vmm = boot(vtd({ scalable: false }));
  const { outIoasId: ioasId } = vmm.iommufd.ioasAlloc();
  vmm.iommufd.deviceReplace(vmm.ids.dev2, ioasId);
  const page = { userVa: GUEST.HVA + 0x1000, length: 0x1000, iova: 0x2000 };
  vmm.iommufd.ioasMap({ ioasId, flags: RIGHTS, ...page });
  report(vmm);
};

/** Flow 5.3: core composes child and parent; the unit needs no nesting. */
const softwareNesting = (): void => {
  const vmm = boot(vtd({ scalable: false }));
  const child = new SoftwareNesting(vmm.iommufd, vmm.gpa.ioasId);
  child.attachDevice(vmm.ids.dev2);
  child.map({ iova: 0x2000, parentIova: 0x1000, length: 0x1000 });
  report(vmm);
};

/** Entries of the guest's table, four levels from GPA 0x10000. */
const TABLE = [
  [0x10000, 0x11007n],
  [0x11000, 0x12007n],
  [0x12000, 0x13007n],
  [0x13010, 0x1067n],
] as const;

const writeEntry = ({ process }: Vmm, gpa: number, entry: bigint): void => {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setBigUint64(0, entry, true);
  process.write(GUEST.HVA + gpa, new Uint8Array(bytes.buffer));
};

/** Flow 5.4: the unit walks the guest's table, then the parent. */
const hardwareNesting = (): void => {
  const vmm = boot(vtd(), HWPT_ALLOC.NEST_PARENT | HWPT_ALLOC.PASID);
  const { iommufd, dev1, dev2, ids, gpa } = vmm;
  for (const [at, entry] of TABLE) writeEntry(vmm, at, entry);
  const { outHwptId: hwptId } = iommufd.hwptAlloc({
    devId: ids.dev2,
    ptId: gpa.hwptId,
    flags: HWPT_ALLOC.PASID,
    dataType: HWPT_DATA.VTD_S1,
    data: encodeHwptVtdS1({ pgtblAddr: 0x10000, addrWidth: 48 }),
  });
  iommufd.deviceReplace(ids.dev2, hwptId);
  report(vmm);
  writeEntry(vmm, 0x13010, 0x5067n);
  console.log('  the guest changes its table:', read(dev2, 0x2abc));
  const data = encodeHwptVtdS1Invalidate([{ addr: 0x2000, npages: 1 }]);
  iommufd.hwptInvalidate({ hwptId, dataType: 0, entryLen: data.length, entryNum: 1, data });
  console.log('  and invalidates:', read(dev2, 0x2abc));

  console.log('The same table under PASID 5 of dev1 and PASID 9 of dev2');
  iommufd.deviceAttach(ids.dev1, hwptId, 5);
  iommufd.deviceAttach(ids.dev2, hwptId, 9);
  console.log('  dev1, PASID 5:', read(dev1, 0x2abc, 5), '| PASID 9:', read(dev1, 0x2abc, 9));
  console.log('  dev2, PASID 9:', read(dev2, 0x2abc, 9), '| PASID 5:', read(dev2, 0x2abc, 5));
};

console.log('A shadow table by the VMM (5.2)');
userShadow();
console.log('A child table by the kernel, in software (5.3)');
softwareNesting();
console.log("The guest's own table, by hardware (5.4)");
hardwareNesting();
