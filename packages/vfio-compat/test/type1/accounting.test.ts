/** VmLck, RLIMIT_MEMLOCK and owners of mappings (vfio_pin_pages_remote, vfio_change_dma_owner). */
import { exitProcess, filesOf, forkProcess, VFIO_EXTENSION } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { VFIO_DMA_MAP_FLAG, VFIO_DMA_UNMAP_FLAG } from '../../src/index.ts';
import { HOLE, MEMORY, openFixture, PAGE, refusalOf } from '../fixture.ts';

const { TYPE1v2_IOMMU } = VFIO_EXTENSION;
const LIMIT = { uid: 1000, rlimitMemlockBytes: 8 * PAGE };
const map = { flags: 3, vaddr: MEMORY, iova: 0, size: 8 * PAGE };

describe('RLIMIT_MEMLOCK', () => {
  test.each([
    ['uid 1000 up to the limit', LIMIT, 8, 'ok'],
    ['uid 1000 over the limit', LIMIT, 9, 'ENOMEM memlock'],
    ['uid 0 over the limit', { ...LIMIT, uid: 0 }, 9, 'ok'],
    [
      'CAP_IPC_LOCK over the limit',
      { ...LIMIT, capabilities: new Set(['CAP_IPC_LOCK'] as const) },
      9,
      'ok',
    ],
  ])('%s', (_title, options, pages, wanted) => {
    const { container, process } = openFixture(TYPE1v2_IOMMU, options);
    expect(refusalOf(() => container.iommuMapDma({ ...map, size: pages * PAGE }))).toBe(wanted);
    expect(process.lockedPages).toBe(wanted === 'ok' ? pages : 0);
    expect(process.pinnedPages).toBe(0);
  });

  test.each([
    ['a bad page in front of the limit', MEMORY + 56 * PAGE, 'EFAULT user-memory'],
    ['the limit in front of a bad page', MEMORY + 52 * PAGE, 'ENOMEM memlock'],
    ['a bad first page', HOLE, 'EFAULT user-memory'],
  ])('%s answers', (_title, vaddr, wanted) => {
    const { container } = openFixture(TYPE1v2_IOMMU, LIMIT);
    expect(refusalOf(() => container.iommuMapDma({ ...map, vaddr, size: 16 * PAGE }))).toBe(wanted);
  });

  test('an IOVA that cannot be mapped answers before the limit', () => {
    const { container } = openFixture(TYPE1v2_IOMMU, LIMIT);
    const reserved = { ...map, iova: 0xfee0_0000, size: 16 * PAGE };
    expect(refusalOf(() => container.iommuMapDma(reserved))).toBe('EINVAL iova-reserved');
  });

  test('a limit that was lowered below what is locked', () => {
    const { container, process } = openFixture(TYPE1v2_IOMMU, LIMIT);
    container.iommuMapDma(map);
    process.rlimitMemlockBytes = PAGE;
    expect(refusalOf(() => container.iommuMapDma({ ...map, iova: 0x10_0000, size: PAGE }))).toBe(
      'ENOMEM memlock',
    );
    container.iommuUnmapDma({ iova: 0, size: 8 * PAGE });
    expect(process.lockedPages).toBe(0);
  });
});

describe('UPDATE_VADDR: another process takes a mapping over', () => {
  const { VADDR } = VFIO_DMA_MAP_FLAG;

  test('the new owner is charged, the old one freed, the pages stay where they were', () => {
    const { container, process, nic } = openFixture();
    process.poke(MEMORY, Uint8Array.of(42));
    container.iommuMapDma(map);
    container.iommuUnmapDma({ flags: VFIO_DMA_UNMAP_FLAG.VADDR, iova: 0, size: 8 * PAGE });
    const child = forkProcess(process);
    container.iommuMapDma({ ...map, flags: VADDR }, child);
    expect([process.lockedPages, child.lockedPages]).toEqual([0, 8]);
    const byte = new Uint8Array(1);
    expect([nic.dmaRead(0, byte), byte[0]]).toEqual([1, 42]);
    container.iommuUnmapDma({ iova: 0, size: 8 * PAGE });
    expect([process.lockedPages, child.lockedPages]).toEqual([0, 0]);
    expect([process.pinnedPages, child.pinnedPages]).toEqual([0, 0]);
  });

  test('not over its limit: ENOMEM, and the mapping still waits', () => {
    const { container, process } = openFixture();
    container.iommuMapDma(map);
    container.iommuUnmapDma({ flags: VFIO_DMA_UNMAP_FLAG.VADDR, iova: 0, size: 8 * PAGE });
    const child = forkProcess(process);
    child.setuid(1000);
    child.rlimitMemlockBytes = 7 * PAGE;
    const take = () => container.iommuMapDma({ ...map, flags: VADDR }, child);
    expect(refusalOf(take)).toBe('ENOMEM memlock');
    expect([process.lockedPages, child.lockedPages]).toEqual([8, 0]);
    child.rlimitMemlockBytes = 8 * PAGE;
    expect(refusalOf(take)).toBe('ok');
  });

  test('taking an address twice is EINVAL and leaves the others as they were', () => {
    const { container } = openFixture();
    container.iommuMapDma({ ...map, size: PAGE });
    container.iommuMapDma({ ...map, iova: PAGE, size: PAGE });
    const invalidate = (iova: number, pages: number) => () =>
      container.iommuUnmapDma({ flags: VFIO_DMA_UNMAP_FLAG.VADDR, iova, size: pages * PAGE });
    expect(refusalOf(invalidate(PAGE, 1))).toBe('ok');
    expect(refusalOf(invalidate(0, 2))).toBe('EINVAL vaddr-invalid');
    expect(refusalOf(invalidate(0, 1))).toBe('ok');
  });
});

describe('the end of a process', () => {
  test('gives every frame and every charge back', () => {
    const { process, container, machine } = openFixture();
    const free = machine.memory.freePageCount;
    container.iommuMapDma(map);
    exitProcess(process);
    expect(filesOf(process).get(container.fd)).toBeUndefined();
    expect(process.lockedPages).toBe(0);
    expect(machine.memory.freePageCount).toBeGreaterThanOrEqual(free);
  });
});
