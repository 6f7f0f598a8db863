/**
 * Which host physical memory is behind an IOVA: `IOMMU_IOAS_NOIOMMU_GET_PA`, and diagnostics.
 * @linux drivers/iommu/iommufd/io_pagetable.c iopt_get_phys
 * @module
 */
import { FrameRuns, PAGE_BYTES } from '../memory/index.ts';
import { checkU64, lowOf, pfnOf, type U64 } from './address.ts';
import type { IoPagetable } from './io-pagetable.ts';

/** Physically contiguous memory behind an IOVA. */
export interface PhysicalRun {
  /** Host physical byte address. */
  readonly hpa: number;
  /** Bytes from there on that are contiguous and in the same area. */
  readonly lengthBytes: number;
}

/** The area at an IOVA maps a dma-buf that was taken back. */
export const isRevokedAt = ({ areas }: IoPagetable, iova: U64): boolean => {
  if (areas.find(pfnOf(iova), lowOf(iova)) < 0) return false;
  return areas.pages(areas.tree.id).dmabuf?.revoked ?? false;
};

/**
 * The memory behind an IOVA that some domain pins.
 *
 * @returns undefined when nothing is mapped there, or no domain needs it
 */
export const physicalRun = (iopt: IoPagetable, iova: U64): PhysicalRun | undefined => {
  checkU64('physicalRun', 'iova', iova);
  const { areas } = iopt;
  const low = lowOf(iova);
  const pfn = pfnOf(iova);
  if (iopt.domains.length === 0 || areas.find(pfn, low) < 0) return undefined;
  const { tree } = areas;
  const index = areas.indexAt(pfn, low);
  const offset = areas.offsetAt(low);
  const frames = new FrameRuns();
  areas.pages(tree.id).collect(index, areas.lastIndexAtCursor() - index + 1, frames);
  const toAreaEnd =
    ((tree.nodes.lastPfn[tree.at] as number) - pfn) * PAGE_BYTES +
    tree.nodes.lastLow(tree.at) -
    low +
    1;
  const contiguous = (frames.pairs[1] as number) * PAGE_BYTES - offset;
  return {
    hpa: (frames.pairs[0] as number) * PAGE_BYTES + offset,
    lengthBytes: Math.min(toAreaEnd, contiguous),
  };
};
