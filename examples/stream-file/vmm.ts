import {
  createMachine,
  createProcess,
  type Endpoint,
  type FaultQueue,
  HWPT_ALLOC,
  HWPT_DATA,
  IOAS_MAP,
  type Machine,
  openIommufd,
  PAGE_RESPONSE,
  type PgfaultRecord,
  type UnrecoverableFault,
} from '@iommukit/core';
import { encodeHwptVtdS1, type VtdHardware, type VtdIommuUnit, vtd } from '@iommukit/driver-vtd';
import { Guest } from './guest.ts';
import { createGuestRam } from './guest-ram.ts';
import { type Medium, NvmeDevice } from './nvme-device.ts';

const MIB = 2 ** 20;
/** RAM beside the guest's: the unit's tables and queues. */
const HOST_MIB = 16;

/** A unit with 48-bit addresses: both stages have four levels. */
const FOUR_LEVELS = { cap: { MGAW: 47, SAGAW: 4 } };

/** The PASID under which the device works for the guest. */
export const PASID = 42;
export const DEVICE_RID = '00:04.0';

/** One call of the setup, in iommufd's words. */
export interface SetupStep {
  readonly call: string;
  readonly made: string;
  readonly why: string;
}

/** A guest with its device, as a virtual machine monitor sets it up. */
export interface Vmm {
  readonly machine: Machine;
  readonly hardware: VtdHardware;
  readonly endpoint: Endpoint;
  readonly device: NvmeDevice;
  readonly guest: Guest;
  readonly setup: readonly SetupStep[];
  /** Unrecoverable faults that the unit recorded, as the host driver decoded them. */
  readonly faults: readonly UnrecoverableFault[];
  /** Hand waiting page requests to `handle` and answer them; returns how many there were. */
  servePageRequests(handle: (gva: number) => boolean): number;
  close(): void;
}

/** Build the machine, the guest and the nested translation between them. */
export const createVmm = (medium: Medium, guestMib: number): Vmm => {
  const guestBytes = guestMib * MIB;
  const setup: SetupStep[] = [];
  const step = (call: string, made: string, why: string) => setup.push({ call, made, why });

  const machine = createMachine({ ramBytes: guestBytes + HOST_MIB * MIB });
  const endpoint = machine.addEndpoint({
    rid: DEVICE_RID,
    name: 'nvme',
    pasidBits: 20,
    ats: true,
    pri: true,
    deviceTlbEntries: 64,
  });
  const { hardware } = machine.addUnit(vtd({ capabilities: FOUR_LEVELS })) as VtdIommuUnit;
  const faults: UnrecoverableFault[] = [];
  machine.onFault((fault) => faults.push(fault));

  const process = createProcess(machine);
  const ramVa = process.mmap({ length: guestBytes });
  const context = openIommufd(process, machine);
  const devId = context.bindDevice(endpoint);
  step('VFIO_DEVICE_BIND_IOMMUFD', `device ${devId}`, `the block device ${DEVICE_RID}`);

  const { outIoasId } = context.ioasAlloc();
  step('IOMMU_IOAS_ALLOC', `IOAS ${outIoasId}`, 'the address space of guest physical addresses');
  context.ioasMap({
    flags: IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE,
    ioasId: outIoasId,
    userVa: ramVa,
    length: guestBytes,
    iova: 0,
  });
  step('IOMMU_IOAS_MAP', `${guestMib} MiB at GPA 0`, "the guest's RAM");

  const parent = context.hwptAlloc({
    flags: HWPT_ALLOC.NEST_PARENT,
    devId,
    ptId: outIoasId,
  }).outHwptId;
  step('IOMMU_HWPT_ALLOC', `HWPT ${parent}`, 'stage 2, GPA to HPA, a nest parent');

  const guest = new Guest(createGuestRam(machine, process, ramVa, guestBytes));
  const { outFaultId, queue } = context.faultQueueAlloc();
  step('IOMMU_FAULT_QUEUE_ALLOC', `fault queue ${outFaultId}`, 'page requests of the device');
  const nested = context.hwptAlloc({
    flags: HWPT_ALLOC.FAULT_ID_VALID | HWPT_ALLOC.PASID,
    devId,
    ptId: parent,
    dataType: HWPT_DATA.VTD_S1,
    data: encodeHwptVtdS1({ pgtblAddr: guest.rootGpa, addrWidth: 48 }),
    faultId: outFaultId,
  }).outHwptId;
  step('IOMMU_HWPT_ALLOC', `HWPT ${nested}`, 'stage 1, GVA to GPA, in a table that the guest owns');
  context.deviceAttach(devId, nested, PASID);
  step(
    'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
    `PASID ${PASID}`,
    `of device ${devId} now walks HWPT ${nested}`,
  );

  return {
    machine,
    hardware,
    endpoint,
    device: new NvmeDevice(endpoint, medium),
    guest,
    setup,
    faults,
    servePageRequests: (handle) => servePageRequests(queue, handle),
    close: () => context.close(),
  };
};

const servePageRequests = (queue: FaultQueue, handle: (gva: number) => boolean): number => {
  let served = 0;
  for (let records = queue.readFaults(); records.length > 0; records = queue.readFaults()) {
    served += records.length;
    for (const [cookie, group] of byCookie(records)) {
      const mapped = group.map(({ addr }) => handle(Number(addr))).every(Boolean);
      queue.respond(cookie, mapped ? PAGE_RESPONSE.SUCCESS : PAGE_RESPONSE.INVALID);
    }
  }
  return served;
};

const byCookie = (records: readonly PgfaultRecord[]): Map<number, PgfaultRecord[]> => {
  const groups = new Map<number, PgfaultRecord[]>();
  for (const record of records) {
    groups.set(record.cookie, [...(groups.get(record.cookie) ?? []), record]);
  }
  return groups;
};
