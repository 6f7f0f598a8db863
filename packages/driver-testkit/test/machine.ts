/** A machine with mock hardware, one process and its memory, for tests. */
import {
  createMachine,
  createProcess,
  type Endpoint,
  HWPT_ALLOC,
  IOAS_MAP,
  type IommufdContext,
  isIommuError,
  MAP_FLAG,
  openIommufd,
  type Process,
  VM_PROT,
} from '@iommukit/core';
import { iommuTest, MOCK_TYPE, MockUnit, mockDriver } from '@iommukit/driver-testkit';

/** First byte of the process's memory, 64 pages. */
export const MEMORY = 0x1_0000_0000;
export const FIXED_RW = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;

export interface Bench {
  readonly context: IommufdContext;
  readonly process: Process;
  readonly unit: MockUnit;
  readonly nic: Endpoint;
  readonly devId: number;
}

/** A device with PASIDs behind the mock, bound to a context. */
export const bench = (): Bench => {
  const machine = createMachine({ ramBytes: 2 ** 23 });
  const nic = machine.addEndpoint({ rid: '00:04.0', pasidBits: 20, ats: true, pri: true });
  const unit = machine.addUnit(mockDriver());
  if (!(unit instanceof MockUnit)) throw new TypeError('the mock driver makes mock units');
  const process = createProcess(machine);
  process.mmap({
    addr: MEMORY,
    length: 64 * 4096,
    prot: VM_PROT.READ | VM_PROT.WRITE,
    flags: MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED,
  });
  const context = openIommufd(process, machine, { extensions: [iommuTest()] });
  return { context, process, unit, nic, devId: context.bindDevice(nic) };
};

/** Vendor data of a mock nested HWPT. */
export const nestedData = (iotlb = 0): Uint8Array =>
  new Uint8Array(Uint32Array.of(iotlb, 0).buffer);

/** A nest parent over a new IOAS and a nested HWPT below it, PASID-compatible, with faults. */
export const nestedSetup = () => {
  const made = bench();
  const { context, devId } = made;
  const { outIoasId: ioasId } = context.ioasAlloc();
  const parent = context.hwptAlloc({
    devId,
    ptId: ioasId,
    flags: HWPT_ALLOC.NEST_PARENT | HWPT_ALLOC.PASID,
  });
  const faults = context.faultQueueAlloc();
  const nested = context.hwptAlloc({
    devId,
    ptId: parent.outHwptId,
    flags: HWPT_ALLOC.PASID | HWPT_ALLOC.FAULT_ID_VALID,
    faultId: faults.outFaultId,
    dataType: MOCK_TYPE.HWPT_DATA,
    data: nestedData(),
  });
  return { ...made, ioasId, parentId: parent.outHwptId, nestedId: nested.outHwptId, faults };
};

/** The errno name and rule of a refused call. */
export const refusalOf = (call: () => unknown): string => {
  try {
    call();
    return 'ok';
  } catch (error) {
    if (isIommuError(error)) return `${error.code} ${error.reason.rule}`;
    throw error;
  }
};
