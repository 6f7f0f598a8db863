/** iommufd on VT-d: what a VMM calls, down to the bytes a device moves. */
import {
  createMachine,
  createProcess,
  DIRTY_TRACKING,
  HWPT_ALLOC,
  IOAS_MAP,
  isIommuError,
  MAP_FLAG,
  openIommufd,
  PAGE_RESPONSE,
  VM_PROT,
} from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { type VtdOptions, vtd } from '../../src/index.ts';
import { ALL_PAGES, s1Invalidate } from './fixture.ts';

const MEMORY = 0x10_0000_0000;
const PAGES = 64;
const FIXED_RW = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;

const vmm = (options: VtdOptions = {}) => {
  const machine = createMachine({ ramBytes: 2 ** 25 });
  const nic = machine.addEndpoint({ rid: '00:04.0', pasidBits: 20, ats: true, pri: true });
  machine.addUnit(vtd(options));
  const process = createProcess(machine);
  process.mmap({
    addr: MEMORY,
    length: PAGES * 4096,
    prot: VM_PROT.READ | VM_PROT.WRITE,
    flags: MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED,
  });
  const context = openIommufd(process, machine);
  const devId = context.bindDevice(nic);
  const { outIoasId: ioasId } = context.ioasAlloc();
  return { machine, nic, process, context, devId, ioasId };
};

const codeOf = (call: () => unknown): string => {
  try {
    call();
    return 'ok';
  } catch (error) {
    if (isIommuError(error)) return error.code;
    throw error;
  }
};

const u64Bytes = (value: bigint): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
};

/** `struct iommu_hwpt_vtd_s1` for a 48-bit table. */
const s1 = (rootGpa: bigint): Uint8Array => {
  const bytes = new Uint8Array(24);
  new DataView(bytes.buffer).setBigUint64(8, rootGpa, true);
  new DataView(bytes.buffer).setUint32(16, 48, true);
  return bytes;
};

/** A guest whose RAM is the process's memory at GPA 0; its table maps page 7 to `target`. */
const guest = (made: ReturnType<typeof vmm>, flags = 0) => {
  const { context, devId, ioasId, process } = made;
  const { outHwptId: parentId } = context.hwptAlloc({
    devId,
    ptId: ioasId,
    flags: HWPT_ALLOC.NEST_PARENT | HWPT_ALLOC.PASID | flags,
  });
  context.ioasMap({ ioasId, flags: FIXED_RW, userVa: MEMORY, length: PAGES * 4096, iova: 0 });
  const entry = (table: number, index: number, gfn: number) =>
    process.poke(MEMORY + table * 4096 + index * 8, u64Bytes(BigInt(gfn) * 4096n + 7n));
  entry(1, 0, 2);
  entry(2, 0, 3);
  entry(3, 0, 4);
  const map = (page: number, gfn: number) => entry(4, page, gfn);
  return { parentId, map };
};

describe('iommufd on VT-d', () => {
  it.each([
    ['first stage', {}],
    ['second stage', { firstStageByDefault: false }],
    ['legacy mode', { scalable: false }],
  ])('%s: DMA reaches process memory, and nothing after the unmap', (_name, options) => {
    const { context, nic, process, devId, ioasId } = vmm(options);
    context.deviceAttach(devId, ioasId);
    const length = 0x4000;
    const { iova } = context.ioasMap({ ioasId, flags: 6, userVa: MEMORY, length });
    expect(nic.dmaWrite(iova + 0x1ffen, Uint8Array.of(1, 2, 3, 4))).toBe(4);
    expect(process.peek(MEMORY + 0x1ffe, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
    context.ioasUnmap({ ioasId, iova, length });
    expect(nic.dmaWrite(iova + 0x1ffen, Uint8Array.of(1))).toBe(0);
    expect(process.pinnedPages).toBe(0);
  });

  it.each([
    ['first stage', {}, 2n ** 56n - 1n],
    ['second stage', { firstStageByDefault: false }, 2n ** 57n - 1n],
  ])('%s: the message window and the aperture bound the IOVAs', (_name, options, last) => {
    const { context, devId, ioasId } = vmm(options);
    context.deviceAttach(devId, ioasId);
    expect(context.ioasIovaRanges({ ioasId }).ranges).toEqual([
      { start: 0n, last: 0xfedf_ffffn },
      { start: 0xfef0_0000n, last },
    ]);
  });

  it('hw_info: 24 bytes of VT-d', () => {
    const { context, devId } = vmm();
    const info = context.getHwInfo({ devId });
    expect([info.dataType, info.data.length, info.maxPasidLog2]).toEqual([1, 24, 20]);
  });

  it('a guest with its own tables: nested, changed, invalidated, taken away', () => {
    const made = vmm();
    const { context, devId, nic, process } = made;
    const { parentId, map } = guest(made);
    const { outHwptId: nestedId } = context.hwptAlloc({
      devId,
      ptId: parentId,
      dataType: 1,
      data: s1(0x1000n),
    });
    context.deviceAttach(devId, nestedId);
    map(7, 20);
    expect(nic.dmaWrite(0x7010, Uint8Array.of(0xaa))).toBe(1);
    expect(process.peek(MEMORY + 20 * 4096 + 0x10, 1)).toEqual(Uint8Array.of(0xaa));
    map(7, 21);
    const data = s1Invalidate(0n, ALL_PAGES);
    const request = { hwptId: nestedId, dataType: 0, entryLen: 24, entryNum: 1, data };
    expect(context.hwptInvalidate(request)).toEqual({ entryNum: 1 });
    expect(nic.dmaWrite(0x7010, Uint8Array.of(0xbb))).toBe(1);
    expect(process.peek(MEMORY + 21 * 4096 + 0x10, 1)).toEqual(Uint8Array.of(0xbb));
    const bad = s1Invalidate(0x800n, 1n);
    expect(codeOf(() => context.hwptInvalidate({ ...request, data: bad }))).toBe('EINVAL');
    context.ioasUnmap({ ioasId: made.ioasId, iova: 0, length: PAGES * 4096 });
    expect(nic.dmaWrite(0x7010, Uint8Array.of(1))).toBe(0);
    context.deviceDetach(devId);
    context.destroy({ id: nestedId });
    context.destroy({ id: parentId });
  });

  it('a failing replace leaves the old HWPT at work', () => {
    const made = vmm();
    const { context, devId, nic, process } = made;
    const { parentId, map } = guest(made);
    const alloc = (data: Uint8Array) =>
      context.hwptAlloc({ devId, ptId: parentId, dataType: 1, data }).outHwptId;
    const good = alloc(s1(0x1000n));
    const narrow = s1(0x1000n);
    narrow[16] = 39;
    const bad = alloc(narrow);
    context.deviceAttach(devId, good);
    map(7, 20);
    expect(codeOf(() => context.deviceReplace(devId, bad))).toBe('EINVAL');
    expect(nic.dmaWrite(0x7000, Uint8Array.of(7))).toBe(1);
    expect(process.peek(MEMORY + 20 * 4096, 1)).toEqual(Uint8Array.of(7));
  });

  it('PASIDs: a nested HWPT and a plain one side by side', () => {
    const made = vmm();
    const { context, devId, nic, process } = made;
    const { parentId, map } = guest(made);
    const nested = context.hwptAlloc({
      devId,
      ptId: parentId,
      flags: HWPT_ALLOC.PASID,
      dataType: 1,
      data: s1(0x1000n),
    });
    context.deviceAttach(devId, parentId);
    context.deviceAttach(devId, nested.outHwptId, 0x123);
    map(7, 30);
    expect(nic.dmaWrite(0x7000, Uint8Array.of(3), { pasid: 0x123 })).toBe(1);
    expect(nic.dmaWrite(0x7000, Uint8Array.of(4))).toBe(1);
    expect(process.peek(MEMORY + 30 * 4096, 1)).toEqual(Uint8Array.of(3));
    expect(process.peek(MEMORY + 7 * 4096, 1)).toEqual(Uint8Array.of(4));
    context.deviceDetach(devId, 0x123);
    expect(nic.dmaWrite(0x7000, Uint8Array.of(3), { pasid: 0x123 })).toBe(0);
  });

  it('page requests go to the fault queue, and the answer back to the device', () => {
    const made = vmm();
    const { context, devId, nic } = made;
    const { parentId, map } = guest(made);
    const faults = context.faultQueueAlloc();
    const nested = context.hwptAlloc({
      devId,
      ptId: parentId,
      flags: HWPT_ALLOC.FAULT_ID_VALID,
      faultId: faults.outFaultId,
      dataType: 1,
      data: s1(0x1000n),
    });
    context.deviceAttach(devId, nested.outHwptId);
    const answers: number[] = [];
    nic.requestPages([{ iova: 0x9000, write: true }], {}, (code) => answers.push(code));
    const [fault] = faults.queue.readFaults();
    expect(fault).toMatchObject({ devId, addr: 0x9000n, perm: 3 });
    map(9, 33);
    expect(faults.queue.respond(fault?.cookie ?? -1, PAGE_RESPONSE.SUCCESS)).toBe(0);
    expect(answers).toEqual([0]);
    expect(nic.atsWrite(0x9000, Uint8Array.of(1))).toBe(1);
  });

  it('dirty bitmap of a nest parent, written by its guest', () => {
    const made = vmm();
    const { context, devId, nic } = made;
    const { parentId, map } = guest(made, HWPT_ALLOC.DIRTY_TRACKING);
    const nested = context.hwptAlloc({ devId, ptId: parentId, dataType: 1, data: s1(0x1000n) });
    context.deviceAttach(devId, nested.outHwptId);
    map(7, 40);
    context.hwptSetDirtyTracking({ hwptId: parentId, flags: DIRTY_TRACKING.ENABLE });
    nic.dmaWrite(0x7000, Uint8Array.of(1));
    const data = new Uint8Array(PAGES / 8);
    context.hwptGetDirtyBitmap({
      hwptId: parentId,
      iova: 0,
      length: PAGES * 4096,
      pageSize: 4096,
      data,
    });
    const dirty = [...Array(PAGES).keys()].filter(
      (page) => (data[page >> 3] ?? 0) & (1 << (page & 7)),
    );
    // The walk itself sets A and D bits in the guest's tables (pages 1 to 4).
    expect(dirty).toEqual([1, 2, 3, 4, 40]);
  });

  it.each([
    ['NEST_PARENT in legacy mode', { scalable: false }, HWPT_ALLOC.NEST_PARENT],
    ['DIRTY without SSADS', { capabilities: { ecap: { SSADS: 0 } } }, HWPT_ALLOC.DIRTY_TRACKING],
  ])('HWPT_ALLOC: %s is EOPNOTSUPP', (_name, options, flags) => {
    const { context, devId, ioasId } = vmm(options);
    expect(codeOf(() => context.hwptAlloc({ devId, ptId: ioasId, flags }))).toBe('EOPNOTSUPP');
  });

  it('no vIOMMU on VT-d', () => {
    const made = vmm();
    const { parentId } = guest(made);
    const { context, devId } = made;
    expect(codeOf(() => context.viommuAlloc({ devId, hwptId: parentId, type: 1 }))).toBe(
      'EOPNOTSUPP',
    );
  });
});
