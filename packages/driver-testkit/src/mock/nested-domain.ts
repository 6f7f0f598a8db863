/**
 * A mock nested domain: four IOTLB entries that can be invalidated.
 * @module
 */
import {
  type IommuUnit,
  type NestedDomain,
  type PagingDomain,
  refuse,
  type UserArray,
} from '@iommukit/core';
import { MOCK_INVALIDATE_ALL, MOCK_IOTLB_ENTRIES, MOCK_TYPE } from './constants.ts';
import type { MockViommu } from './viommu.ts';

const ENTRY_BYTES = 8;
const OP = 'IOMMU_HWPT_INVALIDATE';

/** A nested domain of the mock hardware. */
export class MockNestedDomain implements NestedDomain {
  readonly kind = 'nested';
  readonly unit: IommuUnit;
  readonly parent: PagingDomain;
  readonly pasidCompatible: boolean;
  readonly ownsPasidTable = true;
  /** The vIOMMU it was made through: attaching needs a vDEVICE of it then. */
  readonly viommu: MockViommu | undefined;
  /** Entries of its IOTLB; 0 once invalidated. */
  readonly iotlb: Uint32Array;
  /** Only without vIOMMU: there the vIOMMU invalidates. */
  readonly invalidate?: (array: UserArray) => void;

  constructor(
    unit: IommuUnit,
    parent: PagingDomain,
    viommu: MockViommu | undefined,
    pasidCompatible: boolean,
    iotlb: number,
  ) {
    this.unit = unit;
    this.parent = parent;
    this.viommu = viommu;
    this.pasidCompatible = pasidCompatible;
    this.iotlb = new Uint32Array(MOCK_IOTLB_ENTRIES).fill(iotlb);
    this.invalidate = (array) => this.#invalidate(array);
  }

  free(): void {}

  #invalidate(array: UserArray): void {
    if (array.type !== MOCK_TYPE.INVALIDATE) {
      throw refuse('EINVAL', OP, 'data-type', 'the mock has one invalidation type', {
        value: array.type,
        accepted: `0x${MOCK_TYPE.INVALIDATE.toString(16)}`,
      });
    }
    for (let index = 0; index < array.entryCount; index++) {
      const bytes = array.copyEntry(index, MOCK_TYPE.INVALIDATE, ENTRY_BYTES, ENTRY_BYTES);
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      this.#drop(view.getUint32(0, true), view.getUint32(4, true));
      array.done++;
    }
  }

  #drop(flags: number, slot: number): void {
    checkEntry(OP, flags, slot, MOCK_IOTLB_ENTRIES);
    if (flags & MOCK_INVALIDATE_ALL) this.iotlb.fill(0);
    else this.iotlb[slot] = 0;
  }
}

/** EOPNOTSUPP for unknown flags, EINVAL for a slot that does not exist. */
export const checkEntry = (op: string, flags: number, slot: number, slots: number): void => {
  if (flags & ~MOCK_INVALIDATE_ALL) {
    throw refuse('EOPNOTSUPP', op, 'invalidate-flags', 'unknown invalidation flags', {
      value: flags,
      accepted: `0 or ${MOCK_INVALIDATE_ALL}`,
    });
  }
  if (slot >= slots) {
    throw refuse('EINVAL', op, 'invalidate-slot', `there is no cache slot ${slot}`, {
      value: slot,
      accepted: `0 to ${slots - 1}`,
    });
  }
};
