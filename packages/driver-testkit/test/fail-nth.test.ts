/**
 * Every allocation of a chain of calls fails once, in turn: the failing call changes nothing that
 * closing does not give back, and the chain succeeds in the end.
 *
 * @linux tools/testing/selftests/iommu/iommufd_fail_nth.c
 */
import { exitProcess, HWPT_ALLOC, isIommuError, PAGE_BYTES } from '@iommukit/core';
import { MOCK_TYPE } from '@iommukit/driver-testkit';
import { expect, it } from 'vitest';
import { bench, FIXED_RW, MEMORY, nestedData } from './machine.ts';

type Chain = (made: ReturnType<typeof bench>) => void;

const mapAndCopy: Chain = ({ context, devId }) => {
  const { outIoasId: one } = context.ioasAlloc();
  const { outIoasId: two } = context.ioasAlloc();
  const iova = 0x200_0000;
  context.ioasAllowIovas({ ioasId: two, ranges: [{ start: 0x100_0000, last: 0x6ff_ffff }] });
  context.ioasMap({ ioasId: one, flags: FIXED_RW, userVa: MEMORY, length: 0x8000, iova });
  context.deviceAttach(devId, one);
  context.ioasMap({
    ioasId: one,
    flags: FIXED_RW,
    userVa: MEMORY + 0x8000,
    length: 0x4000,
    iova: iova + 0x8000,
  });
  const copy = { flags: FIXED_RW, srcIoasId: one, srcIova: iova + 0x1000, length: 0xa000 };
  context.ioasCopy({ ...copy, dstIoasId: two, dstIova: 0x500_0000 });
  context.deviceReplace(devId, two);
  context.ioasUnmap({ ioasId: one, iova, length: 0xc000 });
  context.ioasUnmap({ ioasId: two, iova: 0, length: (1n << 64n) - 1n });
  context.deviceDetach(devId);
};

const nestedWithQueue: Chain = ({ context, devId }) => {
  const { outIoasId: ioasId } = context.ioasAlloc();
  const flags = HWPT_ALLOC.NEST_PARENT;
  const iova = 0x200_0000;
  context.ioasMap({ ioasId, flags: FIXED_RW, userVa: MEMORY, length: 0x4000, iova });
  const { outHwptId: hwptId } = context.hwptAlloc({ devId, ptId: ioasId, flags });
  const { outViommuId: viommuId } = context.viommuAlloc({
    type: MOCK_TYPE.VIOMMU,
    devId,
    hwptId,
    data: new Uint8Array(24),
  });
  context.vdeviceAlloc({ viommuId, devId, virtId: 7 });
  const data = nestedData();
  const nested = context.hwptAlloc({ devId, ptId: viommuId, dataType: MOCK_TYPE.HWPT_DATA, data });
  context.deviceAttach(devId, nested.outHwptId);
  const queue = { viommuId, type: MOCK_TYPE.HW_QUEUE, index: 0, length: PAGE_BYTES };
  context.hwQueueAlloc({ ...queue, nestingParentIova: iova });
};

it.each<[string, Chain, number]>([
  ['map, copy, attach, replace, unmap', mapAndCopy, 20],
  ['nest parent, vIOMMU, nested HWPT, hardware queue', nestedWithQueue, 8],
])('%s', (_title, chain, atLeast) => {
  let failures = 0;
  for (let nth = 0; ; nth++) {
    const made = bench();
    const { context, process } = made;
    const sites: string[] = [];
    context.pins.shouldFail = (site) => sites.push(site) === nth + 1;
    let failed = false;
    try {
      chain(made);
    } catch (error) {
      if (!isIommuError(error)) throw error;
      expect([error.code, sites.at(-1)]).toEqual(['ENOMEM', sites.at(-1)]);
      failed = true;
    }
    context.pins.shouldFail = () => false;
    exitProcess(process);
    expect(context.objects.all()).toEqual([]);
    expect(process.pinnedPages).toBe(0);
    const { memory } = context.machine;
    expect(memory.freePageCount).toBe(2 ** 23 / PAGE_BYTES);
    if (!failed) break;
    failures++;
  }
  expect(failures).toBeGreaterThanOrEqual(atLeast);
});
