/**
 * `VFIO_IOMMU_MAP_DMA`.
 *
 * @linux drivers/vfio/vfio_iommu_type1.c vfio_dma_do_map
 * @module
 */
import { ACCOUNT, IOPT_PROT } from '@iommukit/core';
import { rangeText, type VfioCall } from '../call.ts';
import { VFIO_DMA_MAP_FLAG } from '../uapi/constants.ts';
import { DIRTY_BITMAP_PAGES_MAX } from './dirty-bitmap.ts';
import { type DmaMapping, iovaOf, lastPfnOf, sizeOf } from './dma-list.ts';
import { checkPinnable, keepVmPin, moveLockedPages } from './locked-memory.ts';
import { checkMap, type DmaMap, type FrameRange } from './rules.ts';
import type { Type1Iommu } from './type1-iommu.ts';

const { READ, WRITE, VADDR } = VFIO_DMA_MAP_FLAG;

const textOf = (mapping: DmaMapping): string =>
  rangeText(iovaOf(mapping), iovaOf(mapping) + sizeOf(mapping) - 1n);

/**
 * Map user memory, or (VADDR) give a mapping its new user address.
 *
 * @throws {IommuError} EINVAL, EOVERFLOW, EEXIST, ENOENT, ENOSPC, ENOMEM, EFAULT or what the driver
 *   says; nothing has changed then
 */
export const mapDma = (call: VfioCall, iommu: Type1Iommu, map: DmaMap): void => {
  call.checkFlags(map.flags, READ | WRITE | VADDR);
  const range = checkMap(call, map, iommu.pageBytes);
  const there = iommu.mappings.find(range.startPfn, range.lastPfn);
  if (map.flags & VADDR) {
    setVaddr(call, iommu, map, range, there);
    return;
  }
  if (there) {
    throw call.refuse('EEXIST', 'iova-mapped', `${textOf(there)} is mapped already`, {
      range: { start: iovaOf(there), last: iovaOf(there) + sizeOf(there) - 1n },
      accepted: 'a free range, or unmap that mapping first',
    });
  }
  if (iommu.dmaAvail === 0) {
    throw call.refuse('ENOSPC', 'dma-avail', 'the container has as many mappings as it may have', {
      value: iommu.mappings.count,
      accepted: 'fewer, larger mappings; DMA_AVAIL of VFIO_IOMMU_GET_INFO counts what is left',
    });
  }
  checkIovaValid(call, iommu, map);
  insertMapping(call, iommu, map, range);
};

/** @throws {IommuError} EINVAL outside the ranges that VFIO_IOMMU_GET_INFO lists */
const checkIovaValid = (call: VfioCall, iommu: Type1Iommu, { iova, size }: DmaMap): void => {
  const range = { start: iova, last: iova + size - 1n };
  const conflict = iommu.ioas.iopt.reserved.conflict(range);
  if (!conflict) return;
  throw call.refuse(
    'EINVAL',
    'iova-reserved',
    `${rangeText(iova, range.last)} touches ${conflict.label}`,
    {
      range: { start: conflict.start, last: conflict.last },
      owner: conflict.label,
      accepted: 'a range inside one of VFIO_IOMMU_GET_INFO',
    },
  );
};

const insertMapping = (
  call: VfioCall,
  iommu: Type1Iommu,
  map: DmaMap,
  { startPfn, lastPfn }: FrameRange,
): void => {
  const { process } = call;
  const pages = lastPfn - startPfn + 1;
  const rights = map.flags & (READ | WRITE);
  checkPinnable(call, process, Number(map.vaddr >> 12n), pages, (rights & WRITE) !== 0);
  if (iommu.dirtyTracking) checkTrackable(call, pages);
  keepVmPin(process, () =>
    iommu.ioas.iopt.mapUser({
      process,
      userVa: map.vaddr,
      iova: map.iova,
      length: map.size,
      prot: (rights & READ ? IOPT_PROT.READ : 0) | (rights & WRITE ? IOPT_PROT.WRITE : 0),
      accountMode: ACCOUNT.NONE,
      op: call.op,
    }),
  );
  process.lockedPages += pages;
  iommu.dmaAvail--;
  iommu.mappings.insert({
    startPfn,
    pages,
    vaddr: map.vaddr,
    rights,
    vaddrInvalid: false,
    owner: process,
    pinnedFrom: process,
  });
};

/** @throws {IommuError} EINVAL for a mapping whose bitmap would be too large */
export const checkTrackable = (call: VfioCall, pages: number): void => {
  if (pages <= DIRTY_BITMAP_PAGES_MAX) return;
  throw call.refuse(
    'EINVAL',
    'dirty-pages-max',
    `${pages} pages cannot be tracked in one mapping`,
    {
      value: pages,
      accepted: `at most ${DIRTY_BITMAP_PAGES_MAX} pages per mapping while dirty pages are tracked`,
    },
  );
};

const setVaddr = (
  call: VfioCall,
  iommu: Type1Iommu,
  { vaddr }: DmaMap,
  { startPfn, lastPfn }: FrameRange,
  mapping: DmaMapping | undefined,
): void => {
  if (!mapping) {
    throw call.refuse('ENOENT', 'iova-not-mapped', 'no mapping takes this address', {
      accepted: 'the exact range of a mapping that UNMAP_DMA VADDR took the address from',
    });
  }
  const isExact = mapping.startPfn === startPfn && lastPfnOf(mapping) === lastPfn;
  if (!mapping.vaddrInvalid || !isExact) {
    const why = mapping.vaddrInvalid ? 'is not the range given' : 'has its address still';
    throw call.refuse('EINVAL', 'vaddr-update', `the mapping ${textOf(mapping)} ${why}`, {
      range: { start: iovaOf(mapping), last: iovaOf(mapping) + sizeOf(mapping) - 1n },
      accepted: 'the exact range of a mapping that UNMAP_DMA VADDR took the address from',
    });
  }
  const { process } = call;
  if (mapping.owner !== process) {
    moveLockedPages(call, mapping.owner, process, mapping.pages);
    mapping.owner = process;
  }
  mapping.vaddr = vaddr;
  mapping.vaddrInvalid = false;
  iommu.vaddrInvalidCount--;
};
