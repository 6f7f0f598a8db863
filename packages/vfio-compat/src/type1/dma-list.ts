/**
 * The mappings of a type1 container, sorted by IOVA: what the kernel keeps in `iommu->dma_list`.
 *
 * @linux drivers/vfio/vfio_iommu_type1.c struct vfio_dma, vfio_find_dma
 * @module
 */
import type { Process } from '@iommukit/core';

/** One MAP_DMA. It is never split: type1 removes mappings whole. */
export interface DmaMapping {
  /** First 4 KiB frame of IOVA. */
  readonly startPfn: number;
  /** Frames of 4 KiB. */
  readonly pages: number;
  /** User byte address; without meaning while `vaddrInvalid`. */
  vaddr: bigint;
  /** `VFIO_DMA_MAP_FLAG.READ` and `WRITE`. */
  readonly rights: number;
  /** The address was taken back by UNMAP_DMA with VADDR. */
  vaddrInvalid: boolean;
  /** Whose VmLck counts the pages; another process takes over with MAP_DMA VADDR. */
  owner: Process;
  /** Whose memory was pinned. */
  readonly pinnedFrom: Process;
}

/** Last 4 KiB frame of a mapping, inclusive. */
export const lastPfnOf = ({ startPfn, pages }: DmaMapping): number => startPfn + pages - 1;

/** First byte of IOVA. */
export const iovaOf = ({ startPfn }: DmaMapping): bigint => BigInt(startPfn) * 4096n;

/** Size in bytes. */
export const sizeOf = ({ pages }: DmaMapping): bigint => BigInt(pages) * 4096n;

/** Disjoint mappings, ascending. */
export class DmaList {
  readonly #sorted: DmaMapping[] = [];

  get count(): number {
    return this.#sorted.length;
  }

  /** The mapping at an index, 0 to `count - 1`. */
  at(index: number): DmaMapping | undefined {
    return this.#sorted[index];
  }

  /** Index of the first mapping that ends at or above a frame; `count` = none. */
  indexFrom(pfn: number): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (lastPfnOf(this.#sorted[middle] as DmaMapping) < pfn) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The lowest mapping that touches `[startPfn, lastPfn]`. */
  find(startPfn: number, lastPfn: number): DmaMapping | undefined {
    const mapping = this.#sorted[this.indexFrom(startPfn)];
    return mapping && mapping.startPfn <= lastPfn ? mapping : undefined;
  }

  /** Add a mapping where none is. */
  insert(mapping: DmaMapping): void {
    this.#sorted.splice(this.indexFrom(mapping.startPfn), 0, mapping);
  }

  /** Take out `count` mappings from an index on. */
  remove(index: number, count: number): void {
    this.#sorted.splice(index, count);
  }
}
