/**
 * The bitmap that VFIO_IOMMU_DIRTY_PAGES and UNMAP_DMA report dirty pages in: one bit per page,
 * little-endian u64 words.
 *
 * @linux drivers/vfio/vfio_iommu_type1.c verify_bitmap_size, update_user_bitmap
 * @module
 */
import type { UserPointer } from '@iommukit/core';
import { hex, type VfioCall } from '../call.ts';

/** `vfio_bitmap`. */
export interface VfioBitmap {
  /** Bytes per bit. */
  readonly pgsize: bigint;
  /** Bytes of the bitmap. */
  readonly size: bigint;
  /** Where it is. */
  readonly data: UserPointer;
}

/** `DIRTY_BITMAP_PAGES_MAX`: a mapping of more pages cannot be tracked. */
export const DIRTY_BITMAP_PAGES_MAX = 2 ** 31 - 1;
/** `DIRTY_BITMAP_SIZE_MAX`, bytes. */
export const DIRTY_BITMAP_BYTES_MAX = 2 ** 28;

const WORD_BITS = 64;
/** End of user memory on x86-64: one page below 2^47. */
const USER_END = 2n ** 47n - 4096n;
/** Bytes of bitmap written at a time. */
const CHUNK_BYTES = 64 * 1024;

/** Bytes of a bitmap for so many pages: whole u64 words. */
const bitmapBytes = (pages: bigint): bigint => ((pages + 63n) / 64n) * 8n;

/** lg2 of the lowest bit that is set; 0 for 0. */
const lowestBit = (value: bigint): bigint => {
  let bit = 0n;
  while (value !== 0n && ((value >> bit) & 1n) === 0n) bit++;
  return bit;
};

/**
 * Check where a bitmap is and whether it has room.
 *
 * @param sizeBytes bytes of IOVA it is about
 * @throws {IommuError} EINVAL
 */
export const checkBitmap = (call: VfioCall, bitmap: VfioBitmap, sizeBytes: bigint): void => {
  const { data, size, pgsize } = bitmap;
  if (!(data instanceof Uint8Array) && BigInt(data) + size > USER_END) {
    throw call.refuse('EINVAL', 'bitmap-address', 'the bitmap is not in user memory', {
      value: data,
      accepted: `an address whose range ends at or below ${hex(USER_END)}`,
    });
  }
  const pages = sizeBytes >> lowestBit(pgsize);
  const needed = bitmapBytes(pages);
  if (pages > 0n && size >= needed && size > 0n && size <= DIRTY_BITMAP_BYTES_MAX) return;
  throw call.refuse('EINVAL', 'bitmap-size', `a bitmap of ${size} bytes for ${pages} pages`, {
    value: size,
    accepted: `${needed} to ${DIRTY_BITMAP_BYTES_MAX} bytes, for 1 page or more`,
  });
};

/** @throws {IommuError} EINVAL when a bit does not stand for the container's smallest page */
export const checkBitmapPage = (call: VfioCall, pgsize: bigint, pageBytes: bigint): void => {
  if (pgsize === pageBytes) return;
  throw call.refuse('EINVAL', 'bitmap-page-size', `a bit of the bitmap is ${hex(pgsize)} bytes`, {
    value: pgsize,
    accepted: `${pageBytes}, the smallest page of the container`,
  });
};

/**
 * Set the bits of a run of pages. A run that starts inside a u64 word is ORed into that word; the
 * words behind it are overwritten, bits behind the run become 0, as the kernel does.
 *
 * @param firstBit bit of the first page
 * @param pages 1 or more
 * @throws {IommuError} EFAULT
 */
export const writeDirtyRun = (
  call: VfioCall,
  data: UserPointer,
  firstBit: number,
  pages: number,
): void => {
  const shift = firstBit % WORD_BITS;
  const bits = shift + pages;
  const offset = ((firstBit - shift) / WORD_BITS) * 8;
  const lengthBytes = Math.ceil(bits / WORD_BITS) * 8;
  const kept = shift > 0 ? call.copyIn(data, offset, 8) : undefined;
  for (let at = 0; at < lengthBytes; at += CHUNK_BYTES) {
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, lengthBytes - at));
    fillOnes(chunk, bits - at * 8);
    if (at === 0 && kept) orFirstWord(chunk, kept, shift);
    call.copyOut(data, offset + at, chunk);
  }
};

/** Set the lowest `bits` bits. */
const fillOnes = (bytes: Uint8Array, bits: number): void => {
  const whole = Math.min(bytes.length, Math.floor(bits / 8));
  bytes.fill(0xff, 0, whole);
  if (whole < bytes.length) bytes[whole] = (1 << (bits - 8 * whole)) - 1;
};

/** The first word: nothing of the run below `shift`, and everything that was there before. */
const orFirstWord = (bytes: Uint8Array, kept: Uint8Array, shift: number): void => {
  for (let i = 0; i < 8; i++) {
    const below = Math.min(8, Math.max(0, shift - 8 * i));
    const run = (bytes[i] as number) & (0xff << below);
    bytes[i] = run | (kept[i] as number);
  }
};
