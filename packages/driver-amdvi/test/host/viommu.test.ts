/** vIOMMUs through iommufd, as a VMM drives them: entries, commands, events, page requests. */
import { decode, encode } from '@iommukit/bits';
import {
  createMachine,
  createProcess,
  HWPT_ALLOC,
  HWPT_DATA,
  IOAS_MAP,
  isIommuError,
  MAP_FLAG,
  openIommufd,
  PAGE_RESPONSE,
  restoreSnapshot,
  saveSnapshot,
} from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import {
  type AmdviOptions,
  amdvi,
  DTE,
  decodeVeventAmd,
  EVENT_ENTRY,
  encodeHwptAmdGuest,
  encodeViommuAmdInvalidate,
  INVALIDATE_IOMMU_PAGES,
  VEVENTQ_TYPE_AMD,
  VIOMMU_INVALIDATE_DATA_AMD,
  VIOMMU_TYPE_AMD,
} from '../../src/index.ts';

const RAM = 0x10_0000_0000;
const RAM_PAGES = 64;
const IOVA = 0x4000_0000;
const PASID = 5;
/** Where the guest keeps its tables, and the page they map. */
const AT = { PML4: 0x1000, PDPT: 0x2000, PD: 0x3000, PT: 0x4000, PAGE: 0x5000, GCR3: 0x8000 };
const GUEST_RID = 0x21;
const FIXED_RW = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;

const hardwareOf = (options: AmdviOptions) => {
  const machine = createMachine({ ramBytes: 2 ** 25 });
  const nic = machine.addEndpoint({ rid: '00:04.0', pasidBits: 16, ats: true, pri: true });
  machine.addUnit(amdvi(options));
  return { machine, nic };
};

const errnoOf = (act: () => unknown): string => {
  try {
    act();
    return 'ok';
  } catch (error) {
    if (!isIommuError(error)) throw error;
    return error.code;
  }
};

/** A guest with RAM from GPA 0 on, and a table for one PASID. */
const vmm = (options: AmdviOptions = {}) => {
  const { machine, nic } = hardwareOf(options);
  const process = createProcess(machine);
  const length = RAM_PAGES * 4096;
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  process.mmap({ addr: RAM, length, flags });
  const context = openIommufd(process, machine);
  const devId = context.bindDevice(nic);
  const { outIoasId: ioasId } = context.ioasAlloc();
  const parent = { devId, ptId: ioasId, flags: HWPT_ALLOC.NEST_PARENT };
  const { outHwptId: parentId } = context.hwptAlloc(parent);
  context.ioasMap({ ioasId, flags: FIXED_RW, userVa: RAM, length, iova: 0 });
  const store = (gpa: number, value: number) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
    process.poke(RAM + gpa, bytes);
  };
  store(AT.GCR3 + PASID * 8, AT.PML4 + 1);
  store(AT.PML4, AT.PDPT + 7);
  store(AT.PDPT + 8, AT.PD + 7);
  store(AT.PD, AT.PT + 7);
  store(AT.PT, AT.PAGE + 7);
  const { outViommuId: viommuId } = context.viommuAlloc({
    devId,
    hwptId: parentId,
    type: VIOMMU_TYPE_AMD,
  });
  const guestEntry = { V: 1, TV: 1, GV: 1, GIOV: 1, IR: 1, IW: 1, PPR: 1, DOMAIN_ID: 0x42 };
  const data = encodeHwptAmdGuest(encode(DTE, { ...guestEntry, GCR3_30_15: AT.GCR3 >>> 15 }));
  const nested = (more = {}) =>
    context.hwptAlloc({ devId, ptId: viommuId, dataType: HWPT_DATA.AMD_GUEST, data, ...more })
      .outHwptId;
  return { machine, nic, process, context, devId, parentId, viommuId, nested, store };
};

/** The same with the device nested and known to the guest. */
const running = () => {
  const all = vmm();
  const { context, viommuId, devId, nic } = all;
  const { outVdeviceId } = context.vdeviceAlloc({ viommuId, devId, virtId: BigInt(GUEST_RID) });
  const hwptId = all.nested();
  context.deviceAttach(devId, hwptId);
  const first = () => {
    const byte = new Uint8Array(1);
    return nic.dmaRead(IOVA, byte, { pasid: PASID }) === 1 ? byte[0] : -1;
  };
  return { ...all, hwptId, vdeviceId: outVdeviceId, first };
};

describe('iommufd: guests on AMD-Vi', () => {
  it('DMA with a PASID of the guest reaches guest memory', () => {
    const { nic, process, context } = running();
    expect(nic.dmaWrite(IOVA + 8, Uint8Array.of(1, 2, 3), { pasid: PASID })).toBe(3);
    expect(process.peek(RAM + AT.PAGE + 8, 3)).toEqual(Uint8Array.of(1, 2, 3));
    expect(nic.dmaWrite(IOVA, Uint8Array.of(1))).toBe(0);
    expect(context.getHwInfo({ devId: 1 }).dataType).toBe(4);
  });

  it('commands: done up to the first bad one, and counted', () => {
    const { context, viommuId, process, store, first } = running();
    process.poke(RAM + AT.PAGE, Uint8Array.of(5));
    process.poke(RAM + 0x6000, Uint8Array.of(6));
    expect(first()).toBe(5);
    store(AT.PT, 0x6007);
    expect(first()).toBe(5);
    const flush = encode(INVALIDATE_IOMMU_PAGES, {
      OPCODE: 3,
      PASID,
      DOMAIN_ID: 0x42,
      GN: 1,
      ADDR: IOVA,
    });
    const data = encodeViommuAmdInvalidate([flush, new Uint32Array(4), flush]);
    const request = { entryLen: 16, entryNum: 3, dataType: VIOMMU_INVALIDATE_DATA_AMD, data };
    const array = { hwptId: viommuId, ...request };
    expect(errnoOf(() => context.hwptInvalidate(array))).toBe('EIO');
    expect(first()).toBe(6);
  });

  it('events of the guest, by its own numbers', () => {
    const { context, viommuId, nic } = running();
    const depth = { viommuId, type: VEVENTQ_TYPE_AMD, veventqDepth: 4 };
    const { queue } = context.veventqAlloc(depth);
    nic.dmaWrite(IOVA + 0x1000, Uint8Array.of(1), { pasid: PASID });
    const [event] = queue.readEvents();
    const fields = decode(EVENT_ENTRY, decodeVeventAmd(event?.data ?? new Uint8Array(16)));
    expect(fields).toMatchObject({ CODE: 2, DEVICE_ID: GUEST_RID, DOMAIN_ID: PASID, GN: 1 });
    expect(fields.ADDR).toBe(BigInt(IOVA + 0x1000));
  });

  it('page requests of any PASID of the guest reach the fault queue of the nested HWPT', () => {
    const { context, devId, nic, nested } = vmm();
    const { outFaultId: faultId, queue } = context.faultQueueAlloc();
    context.deviceAttach(devId, nested({ flags: HWPT_ALLOC.FAULT_ID_VALID, faultId }));
    const answers: number[] = [];
    const page = { iova: IOVA + 0x1000, write: true };
    nic.requestPages([page], { pasid: PASID }, (code) => answers.push(code));
    const [record] = queue.readFaults();
    expect(record).toMatchObject({ pasid: PASID, perm: 3, addr: BigInt(page.iova) });
    queue.respond(record?.cookie ?? 0, PAGE_RESPONSE.SUCCESS);
    expect(answers).toEqual([0]);
  });

  it('lifetimes: a parent or vIOMMU in use is EBUSY; then all goes', () => {
    const { context, devId, parentId, viommuId, hwptId, vdeviceId } = running();
    for (const id of [parentId, viommuId, hwptId]) {
      expect(errnoOf(() => context.destroy({ id }))).toBe('EBUSY');
    }
    context.deviceDetach(devId);
    for (const id of [hwptId, vdeviceId, viommuId, parentId]) context.destroy({ id });
  });

  it('linux73: the vIOMMU is there, nested HWPTs and invalidation are EOPNOTSUPP', () => {
    const { context, viommuId, nested } = vmm({ linux73: true });
    expect(errnoOf(nested)).toBe('EOPNOTSUPP');
    const request = { entryLen: 16, entryNum: 1, dataType: 1, data: new Uint8Array(16) };
    expect(errnoOf(() => context.hwptInvalidate({ hwptId: viommuId, ...request }))).toBe(
      'EOPNOTSUPP',
    );
  });

  it('a guest moves to another machine, rebuilt by calls', () => {
    const { machine, process, context } = running();
    process.poke(RAM + AT.PAGE, Uint8Array.of(9));
    const bytes = saveSnapshot({ machine, processes: [process], contexts: [context] });
    const there = hardwareOf({});
    restoreSnapshot(bytes, { machine: there.machine });
    const byte = new Uint8Array(1);
    expect(there.nic.dmaRead(IOVA, byte, { pasid: PASID })).toBe(1);
    expect(byte[0]).toBe(9);
    expect(there.nic.dmaRead(IOVA, byte)).toBe(0);
  });
});
