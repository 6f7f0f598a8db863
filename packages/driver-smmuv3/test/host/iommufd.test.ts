/** iommufd on SMMUv3: what a VMM calls, down to the bytes a device moves. */
import {
  createMachine,
  createProcess,
  IOAS_MAP,
  MAP_FLAG,
  openIommufd,
  VM_PROT,
} from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { smmuv3 } from '../../src/index.ts';

const MEMORY = 0x10_0000_0000;
const PAGES = 64;
const RW = IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;

const vmm = () => {
  const machine = createMachine({ ramBytes: 2 ** 25 });
  const nic = machine.addEndpoint({ rid: '00:04.0' });
  machine.addUnit(smmuv3());
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

describe('iommufd on SMMUv3', () => {
  test('DMA reaches process memory, and nothing after the unmap', () => {
    const { context, nic, process, devId, ioasId } = vmm();
    context.deviceAttach(devId, ioasId);
    const length = 0x4000;
    const { iova } = context.ioasMap({ ioasId, flags: RW, userVa: MEMORY, length });
    expect(nic.dmaWrite(iova + 0x1ffen, Uint8Array.of(1, 2, 3, 4))).toBe(4);
    expect(process.peek(MEMORY + 0x1ffe, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
    context.ioasUnmap({ ioasId, iova, length });
    expect(nic.dmaWrite(iova + 0x1ffen, Uint8Array.of(1))).toBe(0);
    expect(process.pinnedPages).toBe(0);
  });

  test('detaching stops DMA, attaching again lets the same mappings through', () => {
    const { context, nic, devId, ioasId } = vmm();
    const { iova } = context.ioasMap({ ioasId, flags: RW, userVa: MEMORY, length: 0x4000 });
    context.deviceAttach(devId, ioasId);
    expect(nic.dmaWrite(iova, Uint8Array.of(1))).toBe(1);
    context.deviceDetach(devId);
    expect(nic.dmaWrite(iova, Uint8Array.of(1))).toBe(0);
    context.deviceAttach(devId, ioasId);
    expect(nic.dmaWrite(iova, Uint8Array.of(1))).toBe(1);
  });

  test('reserved window and aperture bound the IOVAs', () => {
    const { context, devId, ioasId } = vmm();
    context.deviceAttach(devId, ioasId);
    expect(context.ioasIovaRanges({ ioasId }).ranges).toEqual([
      { start: 0n, last: 0x7ff_ffffn },
      { start: 0x810_0000n, last: 2n ** 48n - 1n },
    ]);
  });

  test('hw_info: 40 bytes', () => {
    const { context, devId } = vmm();
    const info = context.getHwInfo({ devId });
    expect([info.dataType, info.data.length, info.maxPasidLog2]).toEqual([2, 40, 0]);
  });
});
