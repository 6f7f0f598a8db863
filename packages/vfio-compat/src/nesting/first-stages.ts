/**
 * First-stage tables that a guest bound to PASIDs of a group's devices: one nested HWPT each, over
 * the HWPT that holds the container's mappings.
 * @module
 */
import { HWPT_ALLOC, HWPT_DATA, type IommufdContext } from '@iommukit/core';
import type { AttachedGroup } from '../backend.ts';
import { encode, struct, u32, u64 } from '../uapi/struct.ts';
import type { FirstStageInvalidation } from './invalidate-rules.ts';

/** `struct iommu_hwpt_vtd_s1_invalidate`, and its LEAF flag. */
const VTD_S1_INVALIDATE = struct(24, { addr: u64(0), npages: u64(8), flags: u32(16) });
const INVALIDATE_DATA_VTD_S1 = 0;
const FLAG_LEAF = 1;

/** See the module. */
export class FirstStages {
  readonly #context: IommufdContext;
  readonly #group: AttachedGroup;
  readonly #parentId: number;
  /** Nested HWPT ids by PASID. */
  readonly #bound = new Map<number, number>();

  /** @param parentId the nest parent */
  constructor(context: IommufdContext, group: AttachedGroup, parentId: number) {
    this.#context = context;
    this.#group = group;
    this.#parentId = parentId;
  }

  /** Whether a PASID has a table. */
  has(pasid: number): boolean {
    return this.#bound.has(pasid);
  }

  /**
   * Let a PASID of every device of the group go through a table.
   *
   * @param data `struct iommu_hwpt_vtd_s1`
   * @throws {IommuError} what the driver says; no device is changed then
   */
  bind(pasid: number, data: Uint8Array): void {
    const [first = 0] = this.#group.devIds;
    const { outHwptId } = this.#context.hwptAlloc({
      devId: first,
      ptId: this.#parentId,
      flags: HWPT_ALLOC.PASID,
      dataType: HWPT_DATA.VTD_S1,
      data,
    });
    const done: number[] = [];
    try {
      for (const devId of this.#group.devIds) {
        this.#context.deviceAttach(devId, outHwptId, pasid);
        done.push(devId);
      }
    } catch (error) {
      for (const devId of done) this.#context.deviceDetach(devId, pasid);
      this.#context.destroy({ id: outHwptId });
      throw error;
    }
    this.#bound.set(pasid, outHwptId);
  }

  /** Block a PASID again; false when it has no table. */
  unbind(pasid: number): boolean {
    const hwptId = this.#bound.get(pasid);
    if (hwptId === undefined) return false;
    for (const devId of this.#group.devIds) this.#context.deviceDetach(devId, pasid);
    this.#context.destroy({ id: hwptId });
    this.#bound.delete(pasid);
    return true;
  }

  /** Block every PASID again. */
  unbindAll(): void {
    for (const pasid of [...this.#bound.keys()]) this.unbind(pasid);
  }

  /**
   * The guest changed a table.
   *
   * @returns false when the PASID has none
   * @throws {IommuError} what the driver says
   */
  invalidate({ pasid, addr, npages, leaf }: FirstStageInvalidation): boolean {
    const hwptId = this.#bound.get(pasid);
    if (hwptId === undefined) return false;
    this.#context.hwptInvalidate({
      hwptId,
      dataType: INVALIDATE_DATA_VTD_S1,
      entryLen: VTD_S1_INVALIDATE.size,
      entryNum: 1,
      data: encode(VTD_S1_INVALIDATE, { addr, npages, flags: leaf ? FLAG_LEAF : 0 }),
    });
    return true;
  }
}
