/**
 * The struct of IOMMU_TEST_CMD: a common head and one union, read where each operation needs it.
 *
 * @linux drivers/iommu/iommufd/iommufd_test.h struct iommu_test_cmd
 * @module
 */
import type { Call, Errno, Process, StructSpec } from '@iommukit/core';

/** ioctl 0x3ba0, 72 bytes, of which 68 must be there. */
export const IOMMU_TEST_SPEC: StructSpec = { ioctl: 0x3ba0, size: 72, min: 68, fields: {} };

/** `IOMMU_TEST_OP_*`. */
export const TEST_OP = {
  ADD_RESERVED: 1,
  MOCK_DOMAIN: 2,
  MD_CHECK_MAP: 3,
  MD_CHECK_REFS: 4,
  CREATE_ACCESS: 5,
  DESTROY_ACCESS_PAGES: 6,
  ACCESS_PAGES: 7,
  ACCESS_RW: 8,
  SET_TEMP_MEMORY_LIMIT: 9,
  MOCK_DOMAIN_REPLACE: 10,
  ACCESS_REPLACE_IOAS: 11,
  MOCK_DOMAIN_FLAGS: 12,
  DIRTY: 13,
  MD_CHECK_IOTLB: 14,
  TRIGGER_IOPF: 15,
  DEV_CHECK_CACHE: 16,
  TRIGGER_VEVENT: 17,
  PASID_ATTACH: 18,
  PASID_REPLACE: 19,
  PASID_DETACH: 20,
  PASID_CHECK_HWPT: 21,
  DMABUF_GET: 22,
  DMABUF_REVOKE: 23,
} as const;

/** One test command with its call. Offsets are those of the C struct. */
export class TestCommand {
  readonly call: Call;
  readonly #view: DataView;

  constructor(call: Call, bytes: Uint8Array) {
    this.call = call;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get process(): Process {
    return this.call.process;
  }

  /** Which operation. */
  get op(): number {
    return this.u32(4);
  }

  /** The object or descriptor it is about. */
  get id(): number {
    return this.u32(8);
  }

  u32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  u64(at: number): bigint {
    return this.#view.getBigUint64(at, true);
  }

  /** Write a u32 of the answer. */
  set(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }

  /** The error of this command. */
  refuse(code: Errno, rule: string, message: string, value?: number | bigint) {
    return this.call.refuse(code, rule, message, value === undefined ? {} : { value });
  }
}
