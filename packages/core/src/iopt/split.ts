/**
 * Cutting areas in two: what VFIO type1 (v1) needs to unmap parts of a mapping.
 * @linux drivers/iommu/iommufd/io_pagetable.c iopt_area_split, iopt_cut_iova
 * @module
 */
import { refuse } from '../errors.ts';
import { FrameRuns } from '../memory/index.ts';
import { checkU64, fromPair, LOW_MASK, lowOf, pfnOf, type U64 } from './address.ts';
import type { IoPagetable } from './io-pagetable.ts';
import * as refusal from './refusals.ts';

/**
 * Cut the areas that hold the given addresses, each behind its address. An address that is the
 * first or last of its area, or in none, does nothing.
 *
 * @throws {IommuError} EBUSY (an unmap is going on), EINVAL (not aligned; accesses exist; a domain
 * may use large pages there), ENOMEM; cuts before the refused one stay
 */
export const cutAreas = (
  iopt: IoPagetable,
  iovas: readonly U64[],
  op = 'VFIO_IOMMU_UNMAP_DMA',
): void => {
  for (const iova of iovas) {
    checkU64(op, 'iova', iova);
    cut(iopt, op, pfnOf(iova), lowOf(iova));
  }
};

const cut = (iopt: IoPagetable, op: string, pfn: number, low: number): void => {
  const { areas } = iopt;
  const { nodes } = areas.tree;
  const id = areas.find(pfn, low);
  if (id < 0) return;
  const { at } = areas.tree;
  const startPfn = nodes.startPfn[at] as number;
  const startLow = nodes.startLow(at);
  const lastPfn = nodes.lastPfn[at] as number;
  const lastLow = nodes.lastLow(at);
  if (pfn === startPfn && low === startLow) return;
  if (pfn === lastPfn && low === lastLow) return;
  const newLow = (low + 1) & LOW_MASK;
  const newPfn = newLow === 0 ? pfn + 1 : pfn;
  checkCut(iopt, op, id, newPfn, newLow);
  const pages = areas.pages(id);
  const prot = areas.prot(id);
  const first = areas.firstIndex(id);
  const offset = areas.pageOffset(id);
  const lastIndex = areas.indexAt(lastPfn, lastLow);
  const leftLast = areas.indexAt(pfn, low);
  const rightFirst = areas.indexAt(newPfn, newLow);
  const rightOffset = areas.offsetAt(newLow);
  areas.removeAtCursor();
  areas.add(startPfn, startLow, pfn, low, pages, first, offset, prot);
  areas.add(newPfn, newLow, lastPfn, lastLow, pages, rightFirst, rightOffset, prot);
  pages.references++;
  if (iopt.domains.length === 0) return;
  const frames = new FrameRuns();
  pages.retain(first, leftLast - first + 1, frames);
  pages.retain(rightFirst, lastIndex - rightFirst + 1, frames);
  pages.release(first, lastIndex - first + 1);
};

/** Refuse a cut in front of the given address of the area at the cursor. */
const checkCut = (iopt: IoPagetable, op: string, id: number, pfn: number, low: number): void => {
  const { areas, iovaAlignment } = iopt;
  const range = { start: areas.start, last: areas.last };
  if (areas.preventsAccess(id)) {
    throw refuse('EBUSY', op, 'being-unmapped', 'the mapping is being removed', {
      range,
      accepted: 'a mapping that stays',
    });
  }
  if (areas.pages(id).dmabuf) {
    throw refuse('EOPNOTSUPP', op, 'dmabuf-split', 'mappings of a dma-buf cannot be cut', {
      range,
      accepted: 'the whole mapping',
    });
  }
  if ((low | areas.offsetAt(low)) & (iovaAlignment - 1)) {
    throw refusal.misaligned(op, 'the cut at', fromPair(pfn, low), iovaAlignment);
  }
  for (let side = 0; side < 2; side++) {
    if (iopt.context.shouldFail('area')) throw refusal.outOfMemory(op, 'an area');
  }
  if (areas.accessCount(id) > 0) {
    throw refuse('EINVAL', op, 'split-accessed', 'an access uses the mapping', {
      range,
      accepted: 'a mapping without pinned pages',
    });
  }
  if (iopt.domains.length > 0 && iopt.largePages) {
    throw refuse('EINVAL', op, 'split-large-pages', 'the mapping may use large pages', {
      range,
      owner: iopt.domains[0]?.label ?? '',
      accepted: 'IOMMU_OPTION_HUGE_PAGES 0 before mapping',
    });
  }
};
