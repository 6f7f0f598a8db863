/** iommufd through typed calls, with mock hardware below: what a VMM does, step by step. */
import {
  DIRTY_TRACKING,
  exitProcess,
  filesOf,
  GET_DIRTY_BITMAP,
  HWPT_ALLOC,
  IOAS_MAP,
  OPTION,
  OPTION_OP,
  PAGE_RESPONSE,
  PGFAULT_FLAG,
  sysPoll,
  sysRead,
  sysWrite,
  U64_MAX,
  VFIO_IOAS_OP,
} from '@iommukit/core';
import { MOCK_TYPE, MockNestedDomain } from '@iommukit/driver-testkit';
import { describe, expect, it } from 'vitest';
import { bench, FIXED_RW, MEMORY, nestedData, nestedSetup, refusalOf } from './machine.ts';

const fault = (grpid: number, pasid: number, last: boolean, addressPfn = 0x123) => ({
  grpid,
  pasid,
  perm: 3,
  addressPfn,
  last,
});

describe('a device on an IOAS', () => {
  it('reads and writes process memory through a mapping, and nothing after the unmap', () => {
    const { context, nic, process, devId } = bench();
    const { outIoasId: ioasId } = context.ioasAlloc();
    const flags = IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
    const hwptId = context.deviceAttach(devId, ioasId);
    const { iova } = context.ioasMap({ ioasId, flags, userVa: MEMORY, length: 0x4000 });
    expect(nic.dmaWrite(iova + 0x1ffen, Uint8Array.of(1, 2, 3, 4))).toBe(4);
    expect(process.peek(MEMORY + 0x1ffe, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
    expect(context.ioasUnmap({ ioasId, iova, length: 0x4000 })).toEqual({ length: 0x4000n });
    expect(nic.dmaWrite(iova, Uint8Array.of(1))).toBe(0);
    expect(process.pinnedPages).toBe(0);
    expect(refusalOf(() => context.destroy({ id: hwptId }))).toBe('EBUSY object-users');
    context.deviceDetach(devId);
    expect(refusalOf(() => context.destroy({ id: hwptId }))).toBe('ENOENT object-id');
  });

  it('a read-only mapping refuses DMA writes', () => {
    const { context, nic, devId } = bench();
    const { outIoasId: ioasId } = context.ioasAlloc();
    context.deviceAttach(devId, ioasId);
    const map = { ioasId, flags: IOAS_MAP.READABLE, userVa: MEMORY, length: 0x1000 };
    const { iova } = context.ioasMap(map);
    expect(nic.dmaRead(iova, new Uint8Array(8))).toBe(8);
    expect(nic.dmaWrite(iova, new Uint8Array(8))).toBe(0);
  });

  it('reports usable ranges and takes a list of allowed ones', () => {
    const { context, devId } = bench();
    const { outIoasId: ioasId } = context.ioasAlloc();
    context.deviceAttach(devId, ioasId);
    expect(context.ioasIovaRanges({ ioasId })).toEqual({
      ranges: [{ start: 0x100_0000n, last: 0x7fff_ffffn }],
      iovaAlignment: 2048n,
    });
    context.ioasAllowIovas({ ioasId, ranges: [{ start: 0x500_0000, last: 0x5ff_ffff }] });
    const map = { ioasId, flags: IOAS_MAP.READABLE, userVa: MEMORY, length: 0x1000 };
    expect(context.ioasMap(map)).toEqual({ iova: 0x500_0000n });
  });
});

describe('a guest: stage 2 from an IOAS, stage 1 nested, PASIDs', () => {
  it('attaches nested HWPTs to RID and PASIDs, replaces and detaches them', () => {
    const { context, devId, parentId, nestedId, ioasId } = nestedSetup();
    context.deviceAttach(devId, parentId);
    context.deviceReplace(devId, nestedId);
    context.deviceAttach(devId, nestedId, 7);
    expect(refusalOf(() => context.deviceAttach(devId, nestedId, 7))).toBe('EBUSY attached');
    expect(refusalOf(() => context.deviceAttach(devId, ioasId, 8))).toBe('EINVAL pasid-hwpt');
    expect(refusalOf(() => context.deviceAttach(devId, nestedId, 2 ** 20))).toBe(
      'EINVAL pasid-width',
    );
    expect(refusalOf(() => context.destroy({ id: nestedId }))).toBe('EBUSY object-users');
    context.deviceDetach(devId, 7);
    context.deviceDetach(devId);
    context.destroy({ id: nestedId });
    context.destroy({ id: parentId });
    context.destroy({ id: ioasId });
  });

  it('invalidates entry by entry and reports how many were done', () => {
    const { context, nestedId } = nestedSetup();
    const { domain } = context.find('test', nestedId, 'HWPT_NESTED');
    if (!(domain instanceof MockNestedDomain)) throw new TypeError('not a mock domain');
    domain.iotlb.fill(9);
    const data = new Uint8Array(Uint32Array.of(0, 1, 0, 2).buffer);
    const invalidate = { hwptId: nestedId, dataType: MOCK_TYPE.INVALIDATE, entryLen: 8 };
    expect(context.hwptInvalidate({ ...invalidate, entryNum: 2, data })).toEqual({ entryNum: 2 });
    expect([...domain.iotlb]).toEqual([9, 0, 0, 9]);
    const bad = new Uint8Array(Uint32Array.of(0, 0, 0, 4).buffer);
    expect(refusalOf(() => context.hwptInvalidate({ ...invalidate, entryNum: 2, data: bad }))).toBe(
      'EINVAL invalidate-slot',
    );
    expect([...domain.iotlb]).toEqual([0, 0, 0, 9]);
  });
});

describe('page requests', () => {
  it('reach the queue as whole groups and are answered once, by cookie', () => {
    const { context, devId, nestedId, unit, nic, faults } = nestedSetup();
    context.deviceAttach(devId, nestedId);
    expect(unit.host.reportPageFault(nic, fault(5, -1, false, 0x10))).toBe(true);
    expect(faults.queue.readFaults()).toEqual([]);
    expect(unit.host.reportPageFault(nic, fault(5, -1, true, 0x11))).toBe(true);
    const record = { devId, pasid: 0, grpid: 5, perm: 3, cookie: 1 };
    expect(faults.queue.readFaults()).toEqual([
      { ...record, flags: 0, addr: 0x10000n },
      { ...record, flags: PGFAULT_FLAG.LAST_PAGE, addr: 0x11000n },
    ]);
    expect(faults.queue.respond(1, PAGE_RESPONSE.SUCCESS)).toBe(0);
    expect(faults.queue.respond(1, PAGE_RESPONSE.SUCCESS)).toBe(-22);
    expect(unit.stateOf(nic).responses).toEqual([{ grpid: 5, pasid: -1, code: 0 }]);
  });

  it('a group that does not fit into the buffer waits (multi-page groups, raw read)', () => {
    const { context, process, devId, nestedId, unit, nic, faults } = nestedSetup();
    context.deviceAttach(devId, nestedId);
    for (const last of [false, false, true]) unit.host.reportPageFault(nic, fault(1, -1, last));
    unit.host.reportPageFault(nic, fault(2, -1, true));
    const fd = faults.outFaultFd;
    expect(sysRead(process, fd, MEMORY, 80)).toBe(-22);
    expect(sysRead(process, fd, MEMORY, 120)).toBe(120);
    expect(sysPoll(process, fd, 5)).toBe(5);
    expect(sysRead(process, fd, MEMORY, 4000)).toBe(40);
    process.poke(MEMORY, new Uint8Array(Uint32Array.of(2, 0, 1, 0, 9, 0).buffer));
    expect(sysWrite(process, fd, MEMORY, 24)).toBe(16);
  });

  it('a group that memory takes only in part waits as a whole (iommufd_fault_fops_read)', () => {
    const { context, process, devId, nestedId, unit, nic, faults } = nestedSetup();
    context.deviceAttach(devId, nestedId);
    unit.host.reportPageFault(nic, fault(1, -1, true));
    for (const last of [false, true]) unit.host.reportPageFault(nic, fault(2, -1, last));
    const end = MEMORY + 64 * 4096;
    const fd = faults.outFaultFd;
    expect(sysRead(process, fd, end - 80, 120)).toBe(40);
    expect(sysRead(process, fd, end - 40, 80)).toBe(-14);
    expect(sysRead(process, fd, end - 80, 80)).toBe(80);
  });

  it('are answered INVALID by themselves when their attachment goes', () => {
    const { context, devId, nestedId, parentId, unit, nic, faults } = nestedSetup();
    context.deviceAttach(devId, nestedId);
    unit.host.reportPageFault(nic, fault(1, -1, true));
    const [read] = faults.queue.readFaults();
    unit.host.reportPageFault(nic, fault(2, -1, true));
    context.deviceReplace(devId, parentId);
    expect(unit.stateOf(nic).responses).toEqual([
      { grpid: 2, pasid: -1, code: 1 },
      { grpid: 1, pasid: -1, code: 1 },
    ]);
    expect(faults.queue.respond(read?.cookie ?? 0, PAGE_RESPONSE.SUCCESS)).toBe(-22);
    expect(unit.host.reportPageFault(nic, fault(3, -1, true))).toBe(false);
  });

  it('of a PASID go to its own attachment, else to the domain that owns the PASID table', () => {
    const { context, devId, nestedId, parentId, unit, nic, faults } = nestedSetup();
    context.deviceAttach(devId, parentId);
    expect(unit.host.reportPageFault(nic, fault(1, 9, true))).toBe(false);
    context.deviceReplace(devId, nestedId);
    expect(unit.host.reportPageFault(nic, fault(1, 9, true))).toBe(true);
    expect(faults.queue.readFaults()[0]).toMatchObject({ pasid: 9, flags: 3 });
  });

  it('endless groups are bounded: the 513th unfinished one is refused', () => {
    const { context, devId, nestedId, unit, nic } = nestedSetup();
    context.deviceAttach(devId, nestedId);
    const taken = Array.from({ length: 513 }, (_unused, grpid) =>
      unit.host.reportPageFault(nic, fault(grpid, -1, false)),
    );
    expect(taken.indexOf(false)).toBe(512);
  });
});

describe('dirty tracking', () => {
  it('reports written pages once, ORed into the bitmap, and clears them when asked', () => {
    const { context, devId, nic } = bench();
    const { outIoasId: ioasId } = context.ioasAlloc();
    context.option({ optionId: OPTION.HUGE_PAGES, objectId: ioasId, op: OPTION_OP.SET, val64: 0 });
    const flags = HWPT_ALLOC.DIRTY_TRACKING;
    const { outHwptId: hwptId } = context.hwptAlloc({ devId, ptId: ioasId, flags });
    context.deviceAttach(devId, hwptId);
    const iova = 0x200_0000;
    context.ioasMap({ ioasId, flags: FIXED_RW, userVa: MEMORY, length: 0x8000, iova });
    context.hwptSetDirtyTracking({ hwptId, flags: DIRTY_TRACKING.ENABLE });
    nic.dmaWrite(iova + 0x1000, Uint8Array.of(1));
    nic.dmaWrite(iova + 0x5000, Uint8Array.of(1));
    const range = { hwptId, iova, length: 0x8000, pageSize: 4096 };
    const data = Uint8Array.of(0x80);
    context.hwptGetDirtyBitmap({ ...range, data, flags: GET_DIRTY_BITMAP.NO_CLEAR });
    expect(data).toEqual(Uint8Array.of(0xa2));
    const second = Uint8Array.of(0);
    context.hwptGetDirtyBitmap({ ...range, data: second });
    expect(second).toEqual(Uint8Array.of(0x22));
    const third = Uint8Array.of(0);
    context.hwptGetDirtyBitmap({ ...range, data: third });
    expect(third).toEqual(Uint8Array.of(0));
  });
});

describe('vIOMMU', () => {
  const viommuSetup = () => {
    const made = nestedSetup();
    const { context, devId, parentId } = made;
    const { outViommuId: viommuId } = context.viommuAlloc({
      type: MOCK_TYPE.VIOMMU,
      devId,
      hwptId: parentId,
    });
    return { ...made, viommuId };
  };

  it('a vDEVICE is needed to attach, and goes with its device: its id stays unused', () => {
    const { context, devId, viommuId } = viommuSetup();
    const nested = context.hwptAlloc({
      devId,
      ptId: viommuId,
      dataType: MOCK_TYPE.HWPT_DATA,
      data: nestedData(),
    });
    expect(refusalOf(() => context.deviceAttach(devId, nested.outHwptId))).toBe(
      'ENOENT mock-vdevice',
    );
    const { outVdeviceId } = context.vdeviceAlloc({ viommuId, devId, virtId: 0x99 });
    context.deviceAttach(devId, nested.outHwptId);
    context.unbindDevice(devId);
    expect(refusalOf(() => context.destroy({ id: outVdeviceId }))).toBe('ENOENT object-id');
    expect(context.ioasAlloc().outIoasId).toBe(devId);
    expect(context.ioasAlloc().outIoasId).toBeGreaterThan(outVdeviceId);
  });

  it('events are numbered; a full queue says so with one mark at its tail', () => {
    const { context, viommuId } = viommuSetup();
    const { queue } = context.veventqAlloc({
      viommuId,
      type: MOCK_TYPE.VEVENTQ,
      veventqDepth: 2,
    });
    for (let i = 0; i < 5; i++) queue.report(Uint8Array.of(i));
    expect(queue.readEvents().map(({ flags, sequence }) => [flags, sequence])).toEqual([
      [0, 0],
      [0, 1],
      [1, 4],
    ]);
  });

  it('the mapping of its page holds it', () => {
    const { context, process, devId, parentId } = nestedSetup();
    const data = new Uint8Array(24);
    new DataView(data.buffer).setUint32(0, 0x1234_abcd, true);
    const viommu = { type: MOCK_TYPE.VIOMMU, devId, hwptId: parentId, data };
    const { outViommuId: id } = context.viommuAlloc(viommu);
    const view = new DataView(data.buffer);
    expect([view.getUint32(4, true), view.getUint32(8, true)]).toEqual([0x1234_abcd, 4096]);
    const mapping = { length: 8192, prot: 3, flags: 1, offset: 4096 };
    const at = context.mmapRegions.map(process, mapping);
    expect(process.peek(at, 4)).toEqual(Uint8Array.of(0xcd, 0xab, 0x34, 0x12));
    expect(refusalOf(() => context.destroy({ id }))).toBe('EBUSY object-users');
    process.munmap(at, 8192);
    context.destroy({ id });
  });

  it('hardware queues lock the mapping and go in descending order', () => {
    const { context, viommuId, ioasId } = viommuSetup();
    const iova = 0x200_0000;
    context.ioasMap({ ioasId, flags: FIXED_RW, userVa: MEMORY, length: 0x2000, iova });
    const queue = { viommuId, type: MOCK_TYPE.HW_QUEUE, nestingParentIova: iova, length: 4096 };
    expect(refusalOf(() => context.hwQueueAlloc({ ...queue, index: 1 }))).toBe(
      'EIO hw-queue-order',
    );
    const first = context.hwQueueAlloc({ ...queue, index: 0 }).outHwQueueId;
    const second = context.hwQueueAlloc({ ...queue, index: 1 }).outHwQueueId;
    const unmap = { ioasId, iova, length: 0x2000 };
    expect(refusalOf(() => context.ioasUnmap(unmap))).toBe('EBUSY area-locked');
    expect(refusalOf(() => context.destroy({ id: first }))).toBe('EBUSY object-users');
    context.destroy({ id: second });
    context.destroy({ id: first });
    context.ioasUnmap(unmap);
  });
});

describe('groups, contexts and closing', () => {
  it('one group belongs to one context and moves as a whole', () => {
    const { context, process, nic } = bench();
    const { machine } = context;
    const first = machine.addEndpoint({ rid: '00:05.0', group: 'pair' });
    const second = machine.addEndpoint({ rid: '00:05.1', group: 'pair' });
    const unit = machine.unitOf(nic);
    for (const endpoint of [first, second]) if (unit) machine.attachToUnit(unit, endpoint);
    const a = context.bindDevice(first);
    const b = context.bindDevice(second);
    const other = context.constructor as new (...parameters: unknown[]) => typeof context;
    const rival = new other(process, machine);
    expect(refusalOf(() => rival.bindDevice(second))).toBe('EPERM group-owner');
    const one = context.ioasAlloc().outIoasId;
    const two = context.ioasAlloc().outIoasId;
    const hwptId = context.deviceAttach(a, one);
    expect(refusalOf(() => context.deviceAttach(b, two))).toBe('EINVAL group-hwpt');
    expect(context.deviceAttach(b, one)).toBe(hwptId);
    context.deviceReplace(a, two);
    expect(refusalOf(() => context.destroy({ id: one }))).toBe('ok');
    context.unbindDevice(a);
    context.unbindDevice(b);
    rival.bindDevice(second);
  });

  it('closing with everything open gives every page, device and queue back', () => {
    const { context, process, devId, nestedId, parentId, ioasId, faults, nic } = nestedSetup();
    const free = process.memory.freePageCount;
    context.ioasMap({
      ioasId,
      flags: FIXED_RW,
      userVa: MEMORY,
      length: 0x4000,
      iova: 0x200_0000,
    });
    context.deviceAttach(devId, nestedId);
    context.viommuAlloc({ type: MOCK_TYPE.VIOMMU, devId, hwptId: parentId });
    expect(process.pinnedPages).toBe(4);
    context.close();
    expect(process.pinnedPages).toBe(4);
    expect(filesOf(process).close(faults.outFaultFd)).toBe(0);
    expect(process.pinnedPages).toBe(0);
    expect(context.objects.isEmpty).toBe(true);
    exitProcess(process);
    expect(process.memory.freePageCount).toBe(free);
    const again = bench();
    expect(again.devId).toBe(1);
    expect(nic.dmaWrite(0x200_0000, Uint8Array.of(1))).toBe(0);
  });

  it('options and the container IOAS', () => {
    const { context } = bench();
    const { outIoasId: ioasId } = context.ioasAlloc();
    const huge = { optionId: OPTION.HUGE_PAGES, objectId: ioasId };
    expect(context.option({ ...huge, op: OPTION_OP.GET })).toEqual({ val64: 1n });
    context.option({ ...huge, op: OPTION_OP.SET, val64: 0 });
    expect(context.option({ ...huge, op: OPTION_OP.GET })).toEqual({ val64: 0n });
    const mode = { optionId: OPTION.RLIMIT_MODE, op: OPTION_OP.SET, val64: 1 };
    expect(refusalOf(() => context.option(mode))).toBe('EBUSY context-in-use');
    const get = { op: VFIO_IOAS_OP.GET };
    expect(refusalOf(() => context.vfioIoasOp(get))).toBe('ENODEV compat-ioas');
    context.vfioIoasOp({ op: VFIO_IOAS_OP.SET, ioasId });
    expect(context.vfioIoasOp(get)).toEqual({ ioasId });
    expect(context.ioasUnmap({ ioasId, iova: 0, length: U64_MAX })).toEqual({ length: 0n });
  });
});
