/**
 * The bitmap of a program, one bit per page of its own choice, which dirty pages are ORed into.
 *
 * @linux drivers/iommu/iommufd/iova_bitmap.c
 * @module
 */
import type { Process } from '../memory/index.ts';
import type { UserPointer } from '../uapi/struct-table.ts';
import { copyFromUser, copyToUser } from '../uapi/user-access.ts';

/** Bytes of the bitmap held at a time; a whole user page of bits. */
const WINDOW_BYTES = 4096;

/** What a bitmap covers. */
export interface DirtyRange {
  /** Byte address of bit 0. */
  readonly iova: bigint;
  readonly length: bigint;
  /** Bytes per bit; any number, of which the lowest set bit counts. */
  readonly pageSize: bigint;
}

/** Bytes of the bitmap that may be written: whole words, to the end of their last memory page. */
const bitmapBytes = (pointer: UserPointer, lastBit: bigint): number => {
  if (pointer instanceof Uint8Array) return pointer.length;
  const end = BigInt(pointer) + 8n * (lastBit / 64n + 1n);
  return Number(((end + 4095n) / 4096n) * 4096n - BigInt(pointer));
};

/**
 * A bitmap in user memory. Bits in memory that cannot be written are dropped, and with them what
 * follows of the same leaf.
 */
export class DirtyBitmap {
  readonly #process: Process;
  readonly #pointer: UserPointer;
  readonly #iova: bigint;
  /** Bits from this one on are dropped. */
  readonly #endBit: number;
  /** Bits count pages of `2 ** shift` bytes: the lowest bit set in the page size. */
  readonly #shift: bigint;
  readonly #window = new Uint8Array(WINDOW_BYTES);
  #windowAt = -1;
  #windowBytes = 0;

  constructor(process: Process, pointer: UserPointer, range: DirtyRange) {
    const { iova, length, pageSize } = range;
    this.#process = process;
    this.#pointer = pointer;
    this.#iova = iova;
    let shift = 0n;
    while (((pageSize >> shift) & 1n) === 0n) shift++;
    this.#shift = shift;
    this.#endBit = 8 * bitmapBytes(pointer, (length - 1n) >> shift);
  }

  /**
   * Set the bits of dirty granules. A leaf that starts below the bitmap's IOVA (the range cuts it) is
   * dropped as a whole, as Linux does; one that reaches over the end is not cut there. Where memory
   * cannot be written, the rest of the leaf is dropped.
   *
   * @param leafEnd first frame behind the leaf that maps a frame; without it the run is one leaf
   */
  record(
    frame: number,
    count: number,
    granuleLg2: number,
    leafEnd?: (frame: number) => number,
  ): void {
    if (this.#recordLeaf(frame, count, granuleLg2) || !leafEnd) return;
    const end = frame + count;
    for (let at = frame; at < end; ) {
      const next = Math.min(end, Math.max(at + 1, leafEnd(at)));
      this.#recordLeaf(at, next - at, granuleLg2);
      at = next;
    }
  }

  #recordLeaf(frame: number, count: number, granuleLg2: number): boolean {
    const granule = BigInt(granuleLg2);
    const start = (BigInt(frame) << granule) - this.#iova;
    if (start < 0n) return true;
    const last = (BigInt(frame + count) << granule) - this.#iova - 1n;
    const lastBit = Math.min(Number(last >> this.#shift), this.#endBit - 1);
    return this.#setBits(Number(start >> this.#shift), lastBit);
  }

  /** Write back what is held. */
  flush(): void {
    if (this.#windowAt < 0) return;
    const bytes = this.#window.subarray(0, this.#windowBytes);
    copyToUser(this.#process, this.#pointer, this.#windowAt, bytes);
    this.#windowAt = -1;
    this.#windowBytes = 0;
  }

  /** @returns false at the first byte that cannot be written; the bits behind it are not set */
  #setBits(first: number, last: number): boolean {
    for (let bit = first; bit <= last; ) {
      const byte = Math.floor(bit / 8);
      if (!this.#hold(byte)) return false;
      const at = byte - this.#windowAt;
      const end = Math.min(last, byte * 8 + 7);
      const mask = ((2 << (end - bit)) - 1) << (bit % 8);
      this.#window[at] = (this.#window[at] as number) | mask;
      bit = end + 1;
    }
    return true;
  }

  /** Hold the byte at `offset`; the window grows byte by byte, so that no foreign byte is touched. */
  #hold(offset: number): boolean {
    const inside = this.#windowAt >= 0 && offset >= this.#windowAt;
    if (inside && offset < this.#windowAt + this.#windowBytes) return true;
    if (!inside || offset - this.#windowAt >= WINDOW_BYTES) {
      this.flush();
      this.#windowAt = offset;
    }
    const from = this.#windowBytes;
    const to = offset - this.#windowAt + 1;
    const part = this.#window.subarray(from, to);
    const place = this.#windowAt + from;
    if (!copyFromUser(this.#process, this.#pointer, place, part)) {
      if (from === 0) this.#windowAt = -1;
      return false;
    }
    // Windows are no longer than memory pages: one that starts in a page that can be written, and
    // ends in one that cannot, is followed by one that starts there.
    if (from === 0 && !copyToUser(this.#process, this.#pointer, place, part)) {
      this.#windowAt = -1;
      return false;
    }
    this.#windowBytes = to;
    return true;
  }
}
