/**
 * A mapping holds its file: pages stay when the last descriptor is closed before they are pinned.
 *
 * @linux drivers/iommu/iommufd/pages.c iopt_alloc_file_pages
 */
import {
  exitProcess,
  filesOf,
  installFile,
  memoryFileOperations,
  OpenFile,
  sysIoctl,
} from '@iommukit/core';
import { expect, it } from 'vitest';
import { type Bench, bench, FIXED_RW, MEMORY } from './machine.ts';

const TEST_CMD = 0x3ba0;
const DMABUF_GET = 22;
const LENGTH = 0x3000;
const IOVA = 0x200_0000;

const memfd = ({ process }: Bench): number => {
  const file = process.createFile({ size: LENGTH });
  return installFile(process, 'memfd_create', () => new OpenFile(memoryFileOperations(file)));
};

const dmabuf = ({ process, context }: Bench): number => {
  const fd = filesOf(process).nextFd;
  const bytes = new Uint8Array(72);
  bytes.set(new Uint8Array(Uint32Array.of(72, DMABUF_GET, 0, 0, LENGTH).buffer));
  process.poke(MEMORY, bytes);
  expect(sysIoctl(process, context.fd, TEST_CMD, MEMORY)).toBe(0);
  return fd;
};

it.each([
  ['a file in memory', memfd],
  ['a dma-buf', dmabuf],
])('%s', (_title, open) => {
  const made = bench();
  const { context, process, nic, devId } = made;
  const { memory } = context.machine;
  const fd = open(made);
  const { outIoasId: ioasId } = context.ioasAlloc();
  const map = { ioasId, flags: FIXED_RW, fd, start: 0, length: LENGTH };
  context.ioasMapFile({ ...map, iova: IOVA });
  expect(() => context.ioasMapFile({ ...map, iova: IOVA })).toThrow(/EEXIST/);
  filesOf(process).close(fd);
  context.deviceAttach(devId, ioasId);
  expect(nic.dmaWrite(IOVA, Uint8Array.of(1, 2, 3))).toBe(3);
  const read = new Uint8Array(3);
  expect(nic.dmaRead(IOVA, read)).toBe(3);
  expect([...read]).toEqual([1, 2, 3]);
  exitProcess(process);
  expect(memory.freePageCount).toBe(2 ** 23 / 4096);
});
