/**
 * Vendor structs in user memory, as a driver gets at them.
 * @module
 */

/**
 * One vendor struct in user memory. Core has checked nothing but that type and length are both
 * zero or both not.
 */
export interface UserBlob {
  readonly type: number;
  readonly length: number;
  /**
   * Copy it in.
   *
   * @param type the vendor type expected; EINVAL otherwise
   * @param minLast bytes up to and including the last mandatory field; shorter is EINVAL
   * @param size size of the struct; longer is EINVAL, a missing tail is zero
   * @returns `size` bytes
   */
  copyIn(type: number, minLast: number, size: number): Uint8Array;
  /** Copy `min(length, bytes.length)` bytes back out; EINVAL below `minLast`, EFAULT. */
  copyOut(minLast: number, bytes: Uint8Array): void;
}

/** An array of vendor structs in user memory (`IOMMU_HWPT_INVALIDATE`). */
export interface UserArray {
  readonly type: number;
  readonly entryLength: number;
  readonly entryCount: number;
  /** Entries handled so far; written back to `entry_num` also when a later one fails. */
  done: number;
  /** Copy entry `index`: EINVAL on wrong type, index or length, EFAULT. */
  copyEntry(index: number, type: number, minLast: number, size: number): Uint8Array;
  /** Copy all entries at once into `entryCount * size` bytes: E2BIG on a nonzero longer tail. */
  copyAll(type: number, size: number): Uint8Array;
}
