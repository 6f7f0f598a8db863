/**
 * Cases on what not every unit has: dirty tracking, page requests, nesting.
 * @module
 */
import {
  DIRTY_TRACKING,
  GET_DIRTY_BITMAP,
  HWPT_ALLOC,
  OPTION,
  OPTION_OP,
  PAGE_BYTES,
  PAGE_RESPONSE,
} from '@iommukit/core';
import type { ConformanceBench } from './bench.ts';
import type { ConformanceCase } from './case.ts';
import type { NestingSupport } from './target.ts';

const BYTES = Uint8Array.of(1, 2, 3, 4);

/** A HWPT that tracks dirty pages, attached, with 16 small pages mapped. */
export const dirtySetup = (bench: ConformanceBench) => {
  const { context } = bench;
  const devId = context.bindDevice(bench.device);
  const { outIoasId: ioasId } = context.ioasAlloc();
  const smallPages = { optionId: OPTION.HUGE_PAGES, objectId: ioasId, op: OPTION_OP.SET, val64: 0 };
  context.option(smallPages);
  const flags = HWPT_ALLOC.DIRTY_TRACKING;
  const { outHwptId: hwptId } = context.hwptAlloc({ devId, ptId: ioasId, flags });
  context.deviceAttach(devId, hwptId);
  const iova = bench.usableIova(ioasId);
  bench.map(ioasId, iova, 16);
  const read = (how = 0): number => {
    const data = new Uint8Array(8);
    const length = 16 * PAGE_BYTES;
    context.hwptGetDirtyBitmap({ hwptId, flags: how, iova, length, pageSize: PAGE_BYTES, data });
    return (data[0] as number) | ((data[1] as number) << 8);
  };
  const track = (on: boolean) =>
    context.hwptSetDirtyTracking({ hwptId, flags: on ? DIRTY_TRACKING.ENABLE : 0 });
  return { hwptId, iova, read, track };
};

/** A device whose faults go to a queue. */
export const faultSetup = (bench: ConformanceBench) => {
  const { context } = bench;
  const devId = context.bindDevice(bench.device);
  const { outIoasId: ptId } = context.ioasAlloc();
  const { outFaultId: faultId, queue } = context.faultQueueAlloc();
  const flags = HWPT_ALLOC.FAULT_ID_VALID;
  const { outHwptId } = context.hwptAlloc({ devId, ptId, flags, faultId });
  return { devId, faultId, queue, attach: () => context.deviceAttach(devId, outHwptId) };
};

/** A guest: 16 pages of guest memory at GPA 0, a nested HWPT over a table in them. */
const nestedSetup = (bench: ConformanceBench, nesting: NestingSupport) => {
  const { context, process } = bench;
  const devId = context.bindDevice(bench.device);
  const { outIoasId: ioasId } = context.ioasAlloc();
  const pasidFlag = nesting.pasid === undefined ? 0 : HWPT_ALLOC.PASID;
  const flags = HWPT_ALLOC.NEST_PARENT | pasidFlag;
  const { outHwptId: parentId } = context.hwptAlloc({ devId, ptId: ioasId, flags });
  const base = bench.unit.caps.iovaBits > 31 ? 0 : bench.usableIova(ioasId);
  bench.map(ioasId, base, 16);
  const write = (gpa: number, bytes: Uint8Array) => {
    process.poke(bench.userVa + gpa, bytes);
  };
  const iova = 0x4000_0000;
  const data = nesting.buildGuestTable(write, iova, 5 * PAGE_BYTES);
  const ptId = nestingBase(bench, nesting, devId, parentId);
  const request = { devId, ptId, flags: pasidFlag, dataType: nesting.dataType, data };
  return { devId, parentId, iova, request };
};

/** What nested HWPTs stand on: the parent, or a vIOMMU over it. */
const nestingBase = (
  { context }: ConformanceBench,
  { viommuType }: NestingSupport,
  devId: number,
  hwptId: number,
): number =>
  viommuType === undefined
    ? hwptId
    : context.viommuAlloc({ devId, hwptId, type: viommuType }).outViommuId;

export const FEATURE_CASES: readonly ConformanceCase[] = [
  {
    name: 'written pages are dirty, read ones are not; reading clears, NO_CLEAR does not',
    spec: 'IOMMU_HWPT_GET_DIRTY_BITMAP',
    needs: ['dirty'],
    run: (bench) => {
      const { iova, read, track } = dirtySetup(bench);
      track(true);
      bench.equal(read(), 0, 'at first');
      bench.device.dmaWrite(iova + 3 * PAGE_BYTES, BYTES);
      bench.device.dmaRead(iova + 5 * PAGE_BYTES, new Uint8Array(4));
      bench.device.dmaWrite(iova + 9 * PAGE_BYTES - 2, BYTES);
      bench.equal(read(GET_DIRTY_BITMAP.NO_CLEAR), 0b11_0000_1000, 'without clearing');
      bench.equal(read(), 0b11_0000_1000, 'still there');
      bench.equal(read(), 0, 'cleared');
      bench.device.dmaWrite(iova + 3 * PAGE_BYTES, BYTES);
      bench.equal(read(), 0b1000, 'the same page written again');
    },
  },
  {
    name: 'switching tracking on starts with everything clean',
    spec: 'IOMMU_HWPT_SET_DIRTY_TRACKING',
    needs: ['dirty'],
    run: (bench) => {
      const { iova, read, track } = dirtySetup(bench);
      bench.device.dmaWrite(iova, BYTES);
      track(true);
      bench.equal(read(), 0, 'written before tracking');
      bench.device.dmaWrite(iova, BYTES);
      track(false);
      track(true);
      bench.equal(read(), 0, 'after off and on');
    },
  },
  {
    name: 'page requests reach the fault queue and their answer reaches the device',
    spec: 'IOMMU_FAULT_QUEUE_ALLOC',
    needs: ['pri'],
    run: (bench) => {
      const { devId, queue, attach } = faultSetup(bench);
      attach();
      const codes: number[] = [];
      const pages = [
        { iova: 0x1234_5000, write: true },
        { iova: 0x1234_6000, write: false },
      ];
      bench.device.requestPages(pages, {}, (code) => codes.push(code));
      const records = queue.readFaults();
      bench.equal(records.length, 2, 'records');
      bench.equal(records[0]?.devId, devId, 'device');
      bench.equal(records.map(({ addr }) => addr >> 12n).join(), '74565,74566', 'pages');
      bench.equal(records.map(({ flags }) => flags & 2).join(), '0,2', 'LAST_PAGE flags');
      bench.equal(codes.length, 0, 'answers before the program answers');
      bench.equal(queue.respond(records[0]?.cookie ?? 0, PAGE_RESPONSE.SUCCESS), 0, 'respond');
      bench.equal(codes.join(), '0', 'answer');
    },
  },
  {
    name: 'page requests that nobody takes, or whose attachment goes, are answered invalid',
    spec: 'iommufd: automatic INVALID answers',
    needs: ['pri'],
    run: (bench) => {
      const { devId, attach } = faultSetup(bench);
      attach();
      const codes: number[] = [];
      const page = [{ iova: 0x1000, write: true }];
      bench.device.requestPages(page, {}, (code) => codes.push(code));
      bench.context.deviceDetach(devId);
      bench.equal(codes.join(), '1', 'answer at the detach');
      bench.device.requestPages(page, {}, (code) => codes.push(code));
      bench.check(codes.length === 2 && codes[1] !== 0, 'detached: must be answered, not success');
    },
  },
  {
    name: 'a HWPT with a fault queue cannot be attached where no page requests are',
    spec: 'attach: ENODEV',
    needs: ['no-pri'],
    run: (bench) => {
      const { attach } = faultSetup(bench);
      bench.refused(attach, ['ENODEV'], 'attach');
    },
  },
  {
    name: 'nested: DMA goes through the guest table and the parent',
    spec: 'IOMMU_HWPT_ALLOC over a nest parent',
    needs: ['nesting'],
    run: (bench) => {
      const nesting = bench.target.nesting as NestingSupport;
      const { devId, parentId, iova, request } = nestedSetup(bench, nesting);
      const { outHwptId: nestedId } = bench.context.hwptAlloc(request);
      const options = nesting.pasid === undefined ? {} : { pasid: nesting.pasid };
      if (nesting.pasid !== undefined) bench.context.deviceAttach(devId, parentId);
      bench.context.deviceAttach(devId, nestedId, nesting.pasid);
      bench.equal(bench.device.dmaWrite(iova + 8, BYTES, options), 4, 'bytes written');
      bench.equal(bench.user(5, 8, 4), BYTES, 'guest page 5');
      bench.equal(bench.device.dmaWrite(iova + PAGE_BYTES, BYTES, options), 0, 'not in the table');
    },
  },
  {
    name: 'nested: a wrong data type and a parent that is none are refused',
    spec: 'IOMMU_HWPT_ALLOC, EINVAL / EOPNOTSUPP',
    needs: ['nesting'],
    run: (bench) => {
      const { context } = bench;
      const nesting = bench.target.nesting as NestingSupport;
      const { devId, request } = nestedSetup(bench, nesting);
      const wrongType = { ...request, dataType: 0x7777 };
      const codes = ['EINVAL', 'EOPNOTSUPP'];
      bench.refused(() => context.hwptAlloc(wrongType), codes, 'data type 0x7777');
      const { outIoasId } = context.ioasAlloc();
      const { outHwptId } = context.hwptAlloc({ devId, ptId: outIoasId });
      const overNone = () =>
        context.hwptAlloc({ ...request, ptId: nestingBase(bench, nesting, devId, outHwptId) });
      bench.refused(overNone, ['EINVAL'], 'a HWPT that is no parent');
    },
  },
];
