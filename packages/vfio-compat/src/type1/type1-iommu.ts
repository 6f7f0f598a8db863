/**
 * The state of one type1 or type1v2 container: an IOAS whose automatic domains hold the groups, and
 * the list of mappings in it.
 *
 * @linux drivers/vfio/vfio_iommu_type1.c struct vfio_iommu, vfio_iommu_type1_attach_group
 * @module
 */
import { type Ioas, type IommufdContext, isIommuError } from '@iommukit/core';
import type { AttachedGroup } from '../backend.ts';
import type { VfioCall } from '../call.ts';
import { DmaList, type DmaMapping, iovaOf, sizeOf } from './dma-list.ts';
import { keepVmPin } from './locked-memory.ts';

/** `dma_entry_limit` of the kernel module: mappings a container may have. */
const DMA_ENTRY_LIMIT = 65_535;

const PAGE_BYTES = 4096n;
const ALL_SIZES = (1n << 64n) - 1n;

/** See the module. */
export class Type1Iommu {
  readonly context: IommufdContext;
  /** SET_IOMMU with TYPE1v2: unmaps may not cut mappings. */
  readonly v2: boolean;
  readonly ioas: Ioas;
  readonly mappings = new DmaList();
  /** Mappings that may still be made. */
  dmaAvail: number;
  /** Mappings whose user address was taken back. */
  vaddrInvalidCount = 0;
  dirtyTracking = false;
  /** Object that devices are attached to; 0 = the IOAS, that is an automatic domain. */
  attachTarget = 0;
  readonly #groups = new Set<AttachedGroup>();

  constructor(context: IommufdContext, v2: boolean, dmaEntryLimit = DMA_ENTRY_LIMIT) {
    this.context = context;
    this.v2 = v2;
    this.dmaAvail = dmaEntryLimit;
    const { outIoasId } = context.ioasAlloc();
    this.ioas = context.find('VFIO_SET_IOMMU', outIoasId, 'IOAS');
  }

  /** Page sizes that every domain has, a bitmap of bytes; sizes below 4096 count as 4096. */
  get pageSizes(): bigint {
    let sizes = ALL_SIZES;
    for (const { domain } of this.ioas.hwpts) {
      sizes &= domain.pageSizesLg2.reduce((bits, lg2) => bits | (1n << BigInt(lg2)), 0n);
    }
    const below = sizes % PAGE_BYTES;
    return below === 0n ? sizes : (sizes - below) | PAGE_BYTES;
  }

  /** Smallest page, bytes: what every IOVA, address and size must be a multiple of. */
  get pageBytes(): bigint {
    const sizes = this.pageSizes;
    return sizes & -sizes;
  }

  /** Whether every domain forces DMA to snoop. */
  get isCacheCoherent(): boolean {
    return this.ioas.hwpts.every(({ enforceCacheCoherency }) => enforceCacheCoherency);
  }

  /**
   * Let a group's DMA go through the mappings.
   *
   * @throws {IommuError} EBUSY while some mapping has no address; EINVAL when the group's reserved
   *   regions or aperture conflict with mappings; what the driver says
   */
  attachGroup(call: VfioCall, group: AttachedGroup): void {
    if (this.vaddrInvalidCount > 0) {
      throw call.refuse('EBUSY', 'vaddr-invalid', 'mappings wait for a new user address', {
        value: this.vaddrInvalidCount,
        accepted: 'MAP_DMA with VADDR for each of them first',
      });
    }
    const done: number[] = [];
    try {
      for (const devId of group.devIds) {
        this.context.deviceAttach(devId, this.attachTarget || this.ioas.id);
        done.push(devId);
      }
    } catch (error) {
      for (const devId of done) this.context.deviceDetach(devId);
      throw asConflict(call, error);
    }
    this.#groups.add(group);
  }

  /** Take a group out; with the last one every mapping goes. */
  detachGroup(group: AttachedGroup): void {
    if (!this.#groups.delete(group)) return;
    if (this.#groups.size === 0) this.removeMappings(this.mappings.all());
    for (const devId of group.devIds) this.context.deviceDetach(devId);
  }

  /** Give the address space back; every group has left. */
  release(): void {
    this.removeMappings(this.mappings.all());
    this.context.destroy({ id: this.ioas.id });
  }

  /** Unmap, unpin and forget mappings. */
  removeMappings(mappings: readonly DmaMapping[]): void {
    for (const mapping of mappings) {
      this.#unmap(mapping);
      this.mappings.remove(mapping);
      this.dmaAvail++;
    }
  }

  #unmap(mapping: DmaMapping): void {
    keepVmPin(mapping.pinnedFrom, () =>
      this.ioas.iopt.unmap(iovaOf(mapping), sizeOf(mapping), 'VFIO_IOMMU_UNMAP_DMA'),
    );
    mapping.owner.lockedPages -= mapping.pages;
    if (mapping.vaddrInvalid) this.vaddrInvalidCount--;
  }
}

/** An IOAS says EADDRINUSE where mappings are in the way; type1 says EINVAL. */
const asConflict = (call: VfioCall, error: unknown): unknown => {
  if (!isIommuError(error) || error.code !== 'EADDRINUSE') return error;
  const { rule, message, ...details } = error.reason;
  return call.refuse('EINVAL', rule, message, details);
};
