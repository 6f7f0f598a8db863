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

/**
 * Mappings of a block, at most. One array of 65535 mappings takes 130 to 470 µs to insert into or
 * remove from (measured), more than the rest of the call.
 */
const BLOCK_MAPPINGS = 512;

/** Disjoint mappings, ascending, in blocks. */
export class DmaList {
  /** None of them empty. */
  readonly #blocks: DmaMapping[][] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** The lowest mapping that touches `[startPfn, lastPfn]`. */
  find(startPfn: number, lastPfn: number): DmaMapping | undefined {
    const block = this.#blocks[this.#blockFrom(startPfn)];
    const mapping = block?.[indexFrom(block, startPfn)];
    return mapping && mapping.startPfn <= lastPfn ? mapping : undefined;
  }

  /** Every mapping that touches `[startPfn, lastPfn]`, ascending. */
  collect(startPfn: number, lastPfn: number): DmaMapping[] {
    const found: DmaMapping[] = [];
    for (let b = this.#blockFrom(startPfn); b < this.#blocks.length; b++) {
      const block = this.#blocks[b] as DmaMapping[];
      for (let i = indexFrom(block, startPfn); i < block.length; i++) {
        const mapping = block[i] as DmaMapping;
        if (mapping.startPfn > lastPfn) return found;
        found.push(mapping);
      }
    }
    return found;
  }

  /** All mappings, ascending. */
  all(): DmaMapping[] {
    return this.#blocks.flat();
  }

  /** Add a mapping where none is. */
  insert(mapping: DmaMapping): void {
    this.#count++;
    const at = Math.min(this.#blockFrom(mapping.startPfn), this.#blocks.length - 1);
    const block = this.#blocks[at];
    if (!block) {
      this.#blocks.push([mapping]);
      return;
    }
    block.splice(indexFrom(block, mapping.startPfn), 0, mapping);
    if (block.length <= BLOCK_MAPPINGS) return;
    this.#blocks.splice(at + 1, 0, block.splice(BLOCK_MAPPINGS / 2));
  }

  /** Take out a mapping that is in the list. */
  remove({ startPfn }: DmaMapping): void {
    const at = this.#blockFrom(startPfn);
    const block = this.#blocks[at];
    if (!block) return;
    this.#count--;
    block.splice(indexFrom(block, startPfn), 1);
    if (block.length === 0) this.#blocks.splice(at, 1);
  }

  /** Index of the first block that ends at or above a frame; the number of blocks = none. */
  #blockFrom(pfn: number): number {
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const block = this.#blocks[middle] as DmaMapping[];
      if (lastPfnOf(block[block.length - 1] as DmaMapping) < pfn) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Index of the first mapping that ends at or above a frame; the length = none. */
const indexFrom = (block: readonly DmaMapping[], pfn: number): number => {
  let low = 0;
  let high = block.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (lastPfnOf(block[middle] as DmaMapping) < pfn) low = middle + 1;
    else high = middle;
  }
  return low;
};
