/**
 * The I/O page table that holds a shadow: its mappings follow from two others, so nobody else may
 * change them.
 * @module
 */
import { refuse } from '../errors.ts';
import {
  IoPagetable,
  type MapFileOptions,
  type MapUserOptions,
  type PagesSlice,
  type ReservedRange,
  type U64,
} from '../iopt/index.ts';
import { ChildRanges } from './child-ranges.ts';

/** An {@link IoPagetable} that only {@link ShadowPagetable.edit} lets change. */
export class ShadowPagetable extends IoPagetable {
  /** The child's mappings, also those that the parent does not complete yet. */
  readonly children = new ChildRanges();
  #open = false;

  /** Run something that changes the mappings. */
  edit(run: () => void): void {
    const was = this.#open;
    this.#open = true;
    try {
      run();
    } finally {
      this.#open = was;
    }
  }

  override mapUser(options: MapUserOptions): U64 {
    this.#check(options.op ?? 'IOMMU_IOAS_MAP');
    return super.mapUser(options);
  }

  override mapFile(options: MapFileOptions): U64 {
    this.#check(options.op ?? 'IOMMU_IOAS_MAP_FILE');
    return super.mapFile(options);
  }

  override mapPages(
    slices: readonly PagesSlice[],
    length: U64,
    prot: number,
    iova?: U64,
    op = 'IOMMU_IOAS_COPY',
  ): U64 {
    if (this.#open) return super.mapPages(slices, length, prot, iova, op);
    for (const { pages } of slices) pages.put();
    throw this.#refusal(op);
  }

  override unmap(iova: U64, length: U64, op = 'IOMMU_IOAS_UNMAP'): U64 {
    this.#check(op);
    return super.unmap(iova, length, op);
  }

  override unmapAll(op = 'IOMMU_IOAS_UNMAP'): U64 {
    this.#check(op);
    return super.unmapAll(op);
  }

  /** As in any other, and no child mapping that waits for the parent may be there. */
  override reserve(range: ReservedRange, op = 'reserve IOVA'): void {
    const [child] = this.children.overlapping(BigInt(range.start), BigInt(range.last));
    if (child) {
      throw refuse('EADDRINUSE', op, 'iova-in-use', `a child mapping is in ${range.label}`, {
        range: child,
        owner: range.label,
        accepted: 'child mappings outside reserved ranges',
      });
    }
    super.reserve(range, op);
  }

  #check(op: string): void {
    if (!this.#open) throw this.#refusal(op);
  }

  #refusal(op: string) {
    return refuse('EPERM', op, 'shadow-table', 'software nesting fills this IOAS', {
      accepted: 'map and unmap of the nesting, or of its parent IOAS',
    });
  }
}
